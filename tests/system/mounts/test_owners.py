"""Who owns the files of a mount and of a copy: by default, and when it is asked for."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fixtures.programs import run
from tests.support.mounts.unprivileged import nobody
from tests.system.mounts.conftest import Vmount

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root to give files away")

OWNER = (1234, 5678)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ext4 with a file and a link that belong to a user of the guest."""
    top = tmp_path_factory.mktemp("owners")
    (top / "tree").mkdir()
    (top / "tree/file").write_text("kept\n")
    (top / "tree/file").chmod(0o640)
    (top / "tree/link").symlink_to("file")
    for name in ("file", "link"):
        os.chown(top / "tree" / name, *OWNER, follow_symlinks=False)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", str(top / "tree"), str(top / "e.img"), "4M")
    return top / "e.img"


def owner_of(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


def test_root_copies_with_the_owners_of_the_guest(
    vmount: Vmount, image: Path, tmp_path: Path
) -> None:
    done = vmount.run("cp", image, "disk0", tmp_path / "guest")
    assert done.stderr == b""
    assert owner_of(tmp_path / "guest/file") == owner_of(tmp_path / "guest/link") == OWNER
    vmount.run("cp", "--owner", "me", image, "disk0", tmp_path / "mine")
    assert owner_of(tmp_path / "mine/file") == (0, 0)


@pytest.mark.mount
def test_root_mounts_with_the_owners_of_the_guest(vmount: Vmount, image: Path) -> None:
    with vmount.mounted("-o", "ro", image) as mountpoint:
        assert owner_of(mountpoint / "volumes/disk0/file") == OWNER
    with vmount.mounted("--owner", "me", image) as mountpoint:
        assert owner_of(mountpoint / "volumes/disk0/file") == (0, 0)


@pytest.mark.mount
def test_a_mount_takes_uid_gid_and_umask(vmount: Vmount, image: Path) -> None:
    with vmount.mounted("-o", "uid=1000,gid=100,umask=027", image) as mountpoint:
        file = mountpoint / "volumes/disk0/file"
        assert owner_of(file) == (1000, 100)
        assert stat.S_IMODE(file.stat().st_mode) == 0o750
        assert stat.S_ISLNK((mountpoint / "volumes/disk0/link").lstat().st_mode)
        assert stat.S_IMODE((mountpoint / "volumes").stat().st_mode) == 0o750


def test_a_user_is_told_that_owners_are_not_kept(image: Path) -> None:
    with nobody(image) as user:
        done = user.run("vmount cp disk.img disk0 copy")
        assert "vmount: owners are not preserved: only root" in done.stderr
        assert done.returncode == 0, done.stderr
        assert "owners" not in user.run("vmount cp --owner me disk.img disk0 again").stderr


def test_links_are_not_copied_again_at_each_resume(
    vmount: Vmount, image: Path, tmp_path: Path
) -> None:
    target = tmp_path / "copy"
    first = vmount.run("cp", "-T", "--resume", image, "disk0", target).stdout
    assert b"2 files, " in first
    again = vmount.run("cp", "-T", "--resume", image, "disk0", target).stdout
    assert b"0 files, 0 B copied; 2 already existed" in again
    (target / "link").unlink()
    (target / "link").symlink_to("elsewhere")
    third = vmount.run("cp", "-T", "--resume", image, "disk0", target).stdout
    assert b"1 file, " in third
    assert (target / "link").readlink() == Path("file")
