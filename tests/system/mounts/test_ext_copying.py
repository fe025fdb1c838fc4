"""What `cp`, `rsync`, `tar` and `getfattr` make of ext4 through a mount and through the kernel's driver: the same."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fixtures.ext import debugfs, make, mounted
from fixtures.ext_tree import populate
from fixtures.programs import run

if TYPE_CHECKING:
    from tests.system.mounts.conftest import Vmount

pytestmark = pytest.mark.mount
OPTIONS = "-t ext4 -b 4096 -O ea_inode,orphan_file,metadata_csum_seed"


@pytest.fixture(scope="module")
def volume(images: Path) -> Path:
    """Return a volume with all that belongs to files: attributes of all kinds, project ids, quota files."""
    image = images / "faithful.img"
    make(image, 48 << 20, OPTIONS.split())
    with mounted(image) as top:
        populate(top)
        labelled = top / "attributes" / "labelled"
        labelled.write_text("SELinux")
        os.setxattr(labelled, "security.selinux", b"system_u:object_r:etc_t:s0\0")
        os.setxattr(top / "links/link-100", "security.selinux", b"link\0", follow_symlinks=False)
        program = top / "attributes" / "program"
        program.write_text("program")
        program.chmod(0o4755)
        run("setcap", "cap_net_raw,cap_sys_admin+ep", str(program))
        run("setfacl", "-m", "u:4711:rwx,g:4712:r", str(program))
        run("setfacl", "-d", "-m", "u:4711:rwx", str(top / "attributes"))
        os.setxattr(program, "trusted.secret", b"of root")
    # The kernel may lack these three for writing, which is not needed here.
    run("tune2fs", "-O", "project,quota,verity", str(image))
    debugfs(image, "set_inode_field attributes/labelled projid 4713", write=True)
    assert "Project:  4713" in debugfs(image, "stat attributes/labelled")
    return image


@pytest.fixture
def both(vmount: Vmount, volume: Path) -> Iterator[tuple[Path, Path]]:
    """Mount by the kernel and by vmount."""
    with (
        mounted(volume, options="ro") as theirs,
        vmount.mounted("mount", "--owner", "guest", volume) as ours,
    ):
        yield theirs, ours / "volumes/disk0"


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    """An empty volume that takes whatever there is."""
    image = tmp_path / "target.img"
    make(image, 64 << 20, OPTIONS.split())
    with mounted(image) as top:
        (top / "copy").mkdir()
        yield top / "copy"


def differences(theirs: Path, copy: Path) -> str:
    command = ["rsync", "-naAXH", "--checksum", "--numeric-ids", "--delete", "-i"]
    done = subprocess.run([*command, f"{theirs}/", f"{copy}/"], capture_output=True, check=True)
    return done.stdout.decode("utf-8", "surrogateescape")


@pytest.mark.requirement("R22")
def test_attributes_are_the_kernels(both: tuple[Path, Path]) -> None:
    def shown(top: Path) -> dict[bytes, list[bytes]]:
        command = ["getfattr", "-R", "-P", "-h", "-d", "-m", "-", "-e", "hex", "."]
        done = subprocess.run(command, cwd=top, capture_output=True, check=True)
        files = (part.splitlines() for part in done.stdout.split(b"\n\n") if part)
        return {lines[0]: sorted(lines[1:]) for lines in files}

    theirs, ours = map(shown, both)
    assert ours == theirs
    names = {line.split(b"=")[0] for lines in theirs.values() for line in lines}
    assert names > {
        b"security.capability",
        b"security.selinux",
        b"system.posix_acl_access",
        b"system.posix_acl_default",
        b"trusted.secret",
        b"user.huge",
    }


@pytest.mark.requirement("R22")
@pytest.mark.parametrize("copier", ["cp", "rsync"])
def test_copies_are_those_of_the_kernels_mount(
    both: tuple[Path, Path], target: Path, copier: str
) -> None:
    theirs, ours = both
    if copier == "cp":
        run("cp", "-a", f"{ours}/.", str(target))
    else:
        run("rsync", "-aAXH", "--numeric-ids", f"{ours}/", f"{target}/")
    assert differences(theirs, target) == ""


@pytest.mark.requirement("R22")
def test_archives_are_those_of_the_kernels_mount(both: tuple[Path, Path], tmp_path: Path) -> None:
    def archived(top: Path, archive: Path) -> list[tuple[Any, ...]]:
        options = ["--xattrs", "--xattrs-include=*", "--acls", "--sort=name", "--format=posix"]
        command = [
            "tar",
            "-c",
            *options,
            "--numeric-owner",
            "-f",
            str(archive),
            "-C",
            str(top),
            ".",
        ]
        # It warns of sockets, which it does not store.
        subprocess.run(command, capture_output=True, check=True)
        members: list[tuple[Any, ...]] = []
        with tarfile.open(archive) as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.isreg() else None
                told = member.get_info()
                digest = hashlib.sha256(stream.read()).hexdigest() if stream else ""
                headers = dict(member.pax_headers)
                # When the files were last read.
                headers.pop("atime", None)
                members.append((sorted(told.items(), key=str), headers, digest))
        return members

    theirs, ours = both
    assert archived(ours, tmp_path / "ours.tar") == archived(theirs, tmp_path / "theirs.tar")
