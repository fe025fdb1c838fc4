"""`vmount cp` to standard output: one file, and tar archives as GNU tar and Python read them; patterns; --dry-run."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures.ext import EVERYDAY, ExtFixture, mounted
from fixtures.ext import build as build_ext
from fixtures.guests import ROOT_UUID
from fixtures.programs import run
from vmount.api import open_disks
from vmount.api.file_reader import SmallFile
from vmount.errors import SourceError
from vmount.jobs.copying.archive import HELD, Archiver
from vmount.jobs.copying.options import Owner
from vmount.jobs.copying.report import CopyReport
from vmount.jobs.local_folder import FolderFile, FolderSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.system.mounts.conftest import Vmount
    from vmount.api import FileRef


@pytest.fixture(scope="module")
def volume(images: Path) -> ExtFixture:
    return build_ext(EVERYDAY[0], images)


@pytest.fixture(scope="module")
def odd(images: Path) -> Path:
    """An ext4 volume with what archives find hard."""
    top = images / "odd.tree"
    deep = top / ("long name " * 12) / ("ü" * 60)
    deep.mkdir(parents=True)
    (deep / "file").write_text("deep down")
    (top / ("d" * 99)).mkdir()
    (top / ("d" * 100)).mkdir()
    (top / os.fsdecode(b"no utf-8 \xff")).write_text("latin")
    (top / "link").symlink_to("x" * 150)
    (top / "hard 1").write_text("linked")
    os.link(top / "hard 1", top / "hard 2")
    with (top / "holes").open("wb") as file:
        file.truncate(50 << 20)
        for offset in (0, 1 << 20, (33 << 20) + 4096):
            file.seek(offset)
            file.write(os.urandom(8192))
    with (top / "hole at the start").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    (top / "all hole").touch()
    os.truncate(top / "all hole", 3 << 20)
    (top / "large").write_bytes(os.urandom(HELD + 12345))
    (top / "empty").touch()
    os.mkfifo(top / "fifo")
    os.setxattr(top / "empty", "user.binary", bytes(range(256)))
    os.setxattr(top / "empty", "user.text", b"value")
    os.chown(top / "empty", 3_000_000, 1234)
    os.utime(top / "empty", ns=(0, 1_234_567_890_123_456_789))
    os.utime(top / "hard 1", ns=(0, -1_500_000_000))
    (top / "set").touch()
    (top / "set").chmod(0o6755)
    image = images / "odd.img"
    run("mke2fs", "-q", "-F", "-t", "ext4", "-U", ROOT_UUID, "-d", str(top), str(image), "96M")
    return image


def extracted(archive: bytes, target: Path) -> Path:
    """Return what GNU tar makes of an archive; it must not complain of anything."""
    target.mkdir()
    done = subprocess.run(
        [
            "tar",
            "-xpSf",
            "-",
            "--warning=no-timestamp",
            "--xattrs",
            "--xattrs-include=*",
            "--numeric-owner",
            "-C",
            target,
        ],
        input=archive,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return target


def differences(theirs: Path, ours: Path) -> str:
    command = ["rsync", "-naHAXi", "--checksum", "--delete", "--specials", "--numeric-ids"]
    command += ["--exclude", "/lost+found", f"{theirs}/", f"{ours}/"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.mount
def test_gnu_tar_extracts_what_rsync_would_have_copied(
    vmount: Vmount, volume: ExtFixture, odd: Path, tmp_path: Path
) -> None:
    for number, image in enumerate((volume.image, odd)):
        archive = vmount.run("cp", "--tar", image, "disk0", "-").stdout
        ours = extracted(archive, tmp_path / str(number)) / "disk0"
        with mounted(image, options="ro,noload") as theirs:
            sockets = {path for path in theirs.rglob("*") if stat.S_ISSOCK(path.lstat().st_mode)}
            assert differences(theirs, ours).count("\n") == len(sockets)
            for path in set(theirs.rglob("*")) - sockets:
                there, here = path.lstat(), (ours / path.relative_to(theirs)).lstat()
                assert (there.st_mtime_ns, there.st_mode) == (here.st_mtime_ns, here.st_mode), path
            if image == odd:
                assert (ours / "holes").stat().st_blocks * 512 < 1 << 20
                assert len(archive) < HELD + (1 << 20)


def test_pythons_tarfile_reads_the_same(vmount: Vmount, odd: Path) -> None:
    archive = vmount.run("cp", "--tar", odd, "disk0", "-").stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as file, open_disks(odd) as disks:
        for member in file:
            path = f"volumes/{member.name}"
            attrs = disks.stat(path, follow=False)
            assert (member.uid, member.gid) == (attrs.uid, attrs.gid)
            assert member.mode == stat.S_IMODE(attrs.mode)
            if member.isreg():
                content = file.extractfile(member)
                assert content is not None
                with disks.open(path) as wanted:
                    assert content.read() == wanted.read(), path
        names = file.getnames()
        assert {f"disk0/{'d' * 99}", f"disk0/{'d' * 100}"} <= set(names)
        assert sum(file.getmember(f"disk0/hard {n}").islnk() for n in (1, 2)) == 1


def test_one_file_is_written_as_it_is(vmount: Vmount, odd: Path) -> None:
    assert vmount.run("cp", odd, "disk0/hard 1", "-").stdout == b"linked"
    assert "use --tar" in vmount.error("cp", odd, "disk0/hard*", "-", code=2)
    assert "use --tar" in vmount.error("cp", odd, "disk0", "-", code=2)
    assert "use - as DEST" in vmount.error("cp", "--tar", odd, "disk0", "/tmp", code=2)
    done = vmount.run("cp", "--tar", odd, "disk0/empty", "disk0/none", "-", check=False)
    assert done.returncode == 3
    assert b"not copied: disk0/none: No such file" in done.stderr
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as file:
        assert file.getnames() == ["empty"]


def test_patterns_choose_what_is_copied(vmount: Vmount, odd: Path, tmp_path: Path) -> None:
    vmount.run("cp", "--include", "hard*", "--include", "fi*", odd, "disk0", tmp_path / "some")
    found = {str(path.relative_to(tmp_path / "some")) for path in (tmp_path / "some").rglob("*")}
    deep = f"{'long name ' * 12}/{'ü' * 60}"
    assert found == {"hard 1", "hard 2", "fifo", deep.split("/")[0], deep, f"{deep}/file"}
    vmount.run("cp", "--exclude", "l*", "--exclude", "d*", odd, "disk0", tmp_path / "rest")
    assert {path.name for path in (tmp_path / "rest").iterdir()} == {
        *("hard 1", "hard 2", "holes", "hole at the start", "all hole", "empty", "fifo", "set"),
        os.fsdecode(b"no utf-8 \xff"),
    }
    archive = vmount.run("cp", "--tar", "--include", "long*/**/file", odd, "disk0", "-").stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        assert [name for name in file.getnames() if name.endswith("file")] == [f"disk0/{deep}/file"]


def test_dry_run_lists_and_copies_nothing(vmount: Vmount, odd: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    done = vmount.run("cp", "--dry-run", "--include", "hard*", odd, "disk0", target)
    assert done.stdout.splitlines() == [
        b"volumes/disk0",
        b"volumes/disk0/hard 1",
        b"volumes/disk0/hard 2",
    ]
    assert done.stderr == b"2 files, 12 B to copy\n"
    assert not target.exists()
    report = json.loads(vmount.run("cp", "--dry-run", "--json", odd, "disk0", target).stdout)
    copied = json.loads(vmount.run("cp", "--json", odd, "disk0", target).stdout)
    assert report["files"] == copied["files"]


class Breaking(FolderSet):
    """A folder whose files break off at a MiB."""

    def open_files(self, files: Sequence[FileRef]) -> list[FolderFile | SmallFile | OSError]:
        return [BreakingFile(file.path, "rb") for file in files]


class BreakingFile(FolderFile):
    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= 1 << 20:
            raise OSError(errno.EIO, "damaged", str(self.name))
        data = super().read(size)
        assert data is not None
        return data


def test_a_file_that_breaks_off_is_left_out_or_ends_the_archive(tmp_path: Path) -> None:
    (tmp_path / "a small").write_bytes(bytes(100))
    (tmp_path / "b middle").write_bytes(bytes(HELD))
    (tmp_path / "c small").write_bytes(bytes(100))
    (tmp_path / "d large").write_bytes(bytes(HELD + 1))
    disks = Breaking(Path("/"))

    def archive(names: Sequence[str]) -> tuple[bytes, CopyReport, str]:
        sink, report, error = io.BytesIO(), CopyReport(), ""
        trees = [
            (path, name, disks.below(path, lambda _error: None))
            for name in names
            for path in [str(tmp_path / name)]
        ]
        try:
            Archiver(disks, sink, Owner(), report, lambda _report, _path: None).write_all(trees)
        except SourceError as broken:
            error = str(broken)
        return sink.getvalue(), report, error

    data, report, error = archive(["a small", "b middle", "c small"])
    assert error == ""
    assert report.problems == [f"{tmp_path}/b middle: damaged"]
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        assert file.getnames() == ["a small", "c small"]
    data, report, error = archive(["a small", "d large"])
    assert "d large: damaged; the archive ends in the middle of this file" in error
    done = subprocess.run(["tar", "-tf", "-"], input=data, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"Unexpected EOF" in done.stderr
