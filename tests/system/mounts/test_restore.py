"""`vmount cp` as a restore: all that belongs to a file, interruptions, targets that do not take it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fixtures.ext import EVERYDAY, ExtFixture, mounted
from fixtures.ext import build as build_ext
from fixtures.ntfs import build_small
from fixtures.ntfs import mounted as mounted_by_ntfs3g
from fixtures.programs import run
from fixtures.walk import walk
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.mounts.conftest import Vmount

MIB = 1 << 20


@pytest.fixture(scope="module")
def volume(images: Path) -> ExtFixture:
    return build_ext(EVERYDAY[0], images)


@pytest.fixture(scope="module")
def rich(images: Path) -> Path:
    """An ext4 volume whose files have all that can belong to one."""
    image = images / "rich.img"
    run("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", str(image), "64M")
    with mounted(image) as top:
        for number in range(40):
            folder = top / f"folder {number % 4}" / "inner"
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"file-{number}"
            file.write_bytes(random.Random(number).randbytes(number * 997))
            os.chown(file, 1000 + number, 2000 + number)
            file.chmod(0o640 + number % 8)
            os.setxattr(file, "user.comment", b"note %d" % number)
            os.utime(file, ns=(10**18 + number, 10**18 + 3 * number + 1))
        first = top / "folder 1/inner/file-1"
        first.chmod(0o6755)
        run("setfacl", "-m", "u:4711:rwx,g:4712:r", str(first))
        run("setfacl", "-d", "-m", "u:4711:rwx", str(top / "folder 2"))
        run("setfattr", "-n", "trusted.secret", "-v", "of root", str(first))
        run("setcap", "cap_net_raw+ep", str(first))
        os.setxattr(first, "user.large", random.Random(0).randbytes(2_000))
        os.link(first, top / "folder 3/again")
        os.symlink("../no where", top / "folder 3/link")
        with (top / "sparse").open("wb") as sparse:
            sparse.seek(20 * MIB)
            sparse.write(b"the end")
        os.mkfifo(top / "pipe")
        for folder in sorted(top.rglob("*"), reverse=True):
            if folder.is_dir() and not folder.is_symlink():
                os.utime(folder, ns=(10**18, 10**18 + 5))
        os.utime(top, ns=(10**18, 10**18 + 7))
    return image


def rsync_differences(theirs: Path, ours: Path) -> str:
    """Return what rsync would change to make ours theirs: nothing if all is equal."""
    command = ["rsync", "-naAXH", "--checksum", "--numeric-ids", "--delete", "-i"]
    done = subprocess.run(
        [*command, f"{theirs}/", f"{ours}/"], capture_output=True, text=True, check=True
    )
    return done.stdout


def told(vmount: Vmount, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
    done = vmount.run("cp", "--json", *arguments, check=False)
    assert done.returncode == code, done.stderr.decode()
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.mount
def test_a_restored_tree_is_what_rsync_would_have_made(
    vmount: Vmount, rich: Path, tmp_path: Path
) -> None:
    report = told(vmount, "--owner", "guest", "--verify", rich, "disk0", tmp_path / "copy")
    assert report["problems"] == report["lost"] == report["not_kept"] == []
    assert report["verified"] >= 41
    with mounted(rich, options="ro,noload") as theirs:
        assert rsync_differences(theirs, tmp_path / "copy") == ""
        lists = [run("getfacl", "-R", "-n", "-p", str(top)) for top in (theirs, tmp_path / "copy")]
        told_lists = [
            sorted(text.replace(str(top), "").split("\n\n"))
            for text, top in zip(lists, (theirs, tmp_path / "copy"), strict=True)
        ]
        assert told_lists[0] == told_lists[1]
    sparse = (tmp_path / "copy/sparse").stat()
    assert sparse.st_size == 20 * MIB + 7
    assert sparse.st_blocks * 512 < MIB
    assert (tmp_path / "copy/folder 3/again").samefile(tmp_path / "copy/folder 1/inner/file-1")


def test_who_copies_for_himself_gets_no_rights_of_the_guest(
    vmount: Vmount, rich: Path, tmp_path: Path
) -> None:
    me = ("--owner", "me")
    report = told(vmount, *me, rich, "disk0", tmp_path / "copy")
    first = tmp_path / "copy/folder 1/inner/file-1"
    assert first.stat().st_mode & 0o7777 == 0o775
    assert first.stat().st_uid == os.getuid()
    assert set(os.listxattr(first)) == {"user.comment", "user.large"}
    reasons = {(item["what"], item["reason"]) for item in report["not_kept"]}
    asked = "not copied without --owner guest"
    assert reasons == {
        (name, asked)
        for name in (
            "system.posix_acl_access",
            "system.posix_acl_default",
            "trusted.secret",
            "security.capability",
        )
    }
    line = vmount.run("cp", *me, rich, "disk0/folder 1", tmp_path / "again").stderr.decode()
    assert "not preserved: trusted.secret of " in line


def test_numbers_of_users_are_mapped(vmount: Vmount, rich: Path, tmp_path: Path) -> None:
    mapping = ("--map-user", "1004=1", "--map-user", "1008=2", "--map-group", "2004=3")
    told(vmount, "--owner", "guest", *mapping, rich, "disk0/folder 0", tmp_path / "copy")
    owners = {
        number: (status.st_uid, status.st_gid)
        for number in (4, 8, 12)
        for status in [(tmp_path / f"copy/inner/file-{number}").stat()]
    }
    assert owners == {4: (1, 3), 8: (2, 2008), 12: (1012, 2012)}
    assert "invalid mapping" in vmount.error(
        "cp", "--map-user", "a=b", rich, "disk0", tmp_path, code=2
    )


@pytest.mark.mount
def test_streams_of_ntfs_come_with_their_files(
    vmount: Vmount, images: Path, tmp_path: Path
) -> None:
    volume = build_small(images)
    report = told(vmount, volume.image, "disk0/streams", tmp_path / "copy", code=3)
    expected = {
        path.decode().removeprefix("streams/"): streams
        for path, streams in volume.streams.items()
        if path.startswith(b"streams/")
    }
    assert expected
    kept = 0
    for path, streams in expected.items():
        copy = tmp_path / "copy" / path
        for name, value in streams.items():
            text = os.fsdecode(name)
            if text in os.listxattr(copy):
                assert os.getxattr(copy, text) == value
                kept += 1
            else:
                assert any(f"{copy}: {text}: " in line for line in report["lost"]), text
    assert kept


def test_patterns_and_paths_of_windows(vmount: Vmount, windows: list[Path], tmp_path: Path) -> None:
    image = windows[0]
    listed = vmount.run("ls", "-R", image, "disk0-p1").stdout.decode().splitlines()
    assert "System32" in listed
    told(vmount, image, "disk0-p1/windows/SYSTEM32", tmp_path / "one")
    assert (tmp_path / "one/config/SYSTEM").is_file()
    into = tmp_path / "into"
    into.mkdir()
    told(vmount, image, r"C:\windows\system32\CONFIG\s*", into)
    assert sorted(os.listdir(into)) == ["SOFTWARE", "SYSTEM"]
    report = told(vmount, image, r"C:\no such", "disk0-p1/W*", into, code=3)
    assert report["problems"] == [r"C:\no such: No such file or directory"]
    assert (into / "Windows").is_dir()


@pytest.fixture
def small_target(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="module")
def large(images: Path) -> Path:
    """A volume of 60 files, 30 MB."""
    top, image = images / "large.tree", images / "large.img"
    top.mkdir()
    for number in range(60):
        (top / f"file-{number:02}").write_bytes(
            random.Random(number).randbytes(512 * 1024 + number)
        )
    (top / "one").write_bytes(random.Random(99).randbytes(24 * MIB))
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", str(top), str(image), "96M")
    shutil.rmtree(top)
    return image


@pytest.mark.mount
def test_a_full_target_ends_the_copy_and_room_lets_it_go_on(
    vmount: Vmount, large: Path, small_target: Path
) -> None:
    target = small_target / "copy"
    line = vmount.error("cp", "--resume", "-T", large, "disk0", target, code=1)
    assert "No space left on device" in line
    assert "run the same command with --resume" in line
    there = len([path for path in target.iterdir() if path.name.startswith("file-")])
    assert 3 <= there <= 8
    subprocess.run(["mount", "-o", "remount,size=80M", small_target], check=True)
    report = told(vmount, "--resume", "-T", large, "disk0", target)
    assert report["already_there"] == there
    with mounted(large, options="ro,noload") as theirs:
        expected = {entry.path: entry.sha256 for entry in walk(theirs)}
    assert {entry.path: entry.sha256 for entry in walk(target)} == expected


@pytest.mark.mount
def test_a_killed_copy_goes_on_where_it_was(vmount: Vmount, large: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    command = vmount.command("cp", "--resume", "-T", large, "disk0", target)
    for _ in range(3):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and not list(target.glob(".*.vmount-part")):
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
        parts = list(target.glob(".*.vmount-part"))
        if any(part.stat().st_size >= 2 * MIB for part in parts):
            break
    done_before = {path.name for path in target.iterdir() if path.name.startswith("file-")}
    report = told(vmount, "--resume", "--verify", "-T", large, "disk0", target)
    assert report["already_there"] <= len(done_before)
    assert not list(target.glob(".*.vmount-part"))
    with mounted(large, options="ro,noload") as theirs:
        expected = {entry.path: entry.sha256 for entry in walk(theirs)}
        assert rsync_differences(theirs, target).replace("\n", "") in ("", ".d..t....../")
    assert {entry.path: entry.sha256 for entry in walk(target)} == expected
    again = told(vmount, "--resume", "-T", large, "disk0", target)
    assert (again["files"], again["bytes"]) == (0, 0)


def test_half_a_file_is_continued_and_a_wrong_half_is_found(
    vmount: Vmount, large: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    told(vmount, large, "disk0/one", whole)
    target = tmp_path / "target"
    target.mkdir()
    told(vmount, large, "disk0/file-01", target)
    name = part_name(vmount, large, "disk0/one", "one")
    (target / name).write_bytes(whole.read_bytes()[: 10 * MIB + 17])
    line = vmount.error("cp", "--resume", large, "disk0/one", target, code=2)
    assert "use -T to continue that copy" in line
    report = told(vmount, "--resume", large, "disk0/one", f"{target}/")
    assert report["bytes"] == 14 * MIB
    assert (target / "one").read_bytes() == whole.read_bytes()
    (target / "one").unlink()
    (target / name).write_bytes(bytes(10 * MIB))
    report = told(vmount, "--resume", "--verify", large, "disk0/one", f"{target}/", code=3)
    assert "differs from what was read" in report["problems"][0]
    assert not (target / "one").exists()


def test_a_whole_copy_that_has_gone_wrong_is_found_and_made_again(
    vmount: Vmount, large: Path, tmp_path: Path
) -> None:
    told(vmount, large, "disk0", tmp_path / "copy")
    expected = {entry.path: entry.sha256 for entry in walk(tmp_path / "copy")}
    for name, place in (("one", 5 * MIB), ("file-01", 3)):
        copy = tmp_path / "copy" / name
        status = copy.stat()
        with copy.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)
            file.seek(place)
            file.write(bytes([byte[0] ^ 1]))
        os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    arguments = ("--resume", "--verify", "-T", large, "disk0", tmp_path / "copy")
    report = told(vmount, *arguments)
    assert report["files"] == 2
    assert {entry.path: entry.sha256 for entry in walk(tmp_path / "copy")} == expected
    again = told(vmount, *arguments)
    assert (again["files"], again["verified"]) == (0, report["verified"])


def part_name(vmount: Vmount, image: Path, path: str, name: str) -> str:
    attrs = json.loads(vmount.run("ls", "--json", image, path).stdout)
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f".{digest}-{attrs['size']:x}-{attrs['mtime']:x}.vmount-part"


@pytest.mark.mount
def test_targets_that_do_not_take_it(
    vmount: Vmount, volume: ExtFixture, rich: Path, tmp_path: Path
) -> None:
    read_only = tmp_path / "ro"
    read_only.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", read_only], check=True)
    try:
        line = vmount.error("cp", rich, "disk0", read_only / "copy", code=1)
        assert "Read-only file system" in line
    finally:
        subprocess.run(["umount", read_only], check=True)
    image = tmp_path / "target.img"
    run("mkntfs", "-q", "-Q", "-F", "-c", "4096", str(make(image, 64 * MIB)))
    with mounted_by_ntfs3g(image, tmp_path, "windows_names,streams_interface=none") as top:
        report = told(vmount, rich, "disk0/folder 1", top / "copy", code=3)
        assert any("user.comment: not supported by the target" in line for line in report["lost"])
        assert (top / "copy/inner/file-1").read_bytes() == random.Random(1).randbytes(997)
        report = told(vmount, volume.image, "disk0", top / "odd", code=3)
        assert any("Invalid argument" in line for line in report["problems"])
        assert report["files"] > 50


def make(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_source_and_path_in_one_word(vmount: Vmount, rich: Path, tmp_path: Path) -> None:
    told(vmount, f"{rich}:disk0/folder 0/inner/file-0", f"{rich}:disk0/folder 1", f"{tmp_path}/")
    assert (tmp_path / "file-0").is_file()
    assert (tmp_path / "folder 1/inner/file-1").is_file()
    assert "no PATH" in vmount.error("cp", rich, tmp_path, code=2)
    assert "one SOURCE" in vmount.error("cp", f"{rich}:a", "other:b", tmp_path, code=2)
    assert "takes a PATH" in vmount.error("cp", f"{rich}:", tmp_path, code=2)


@pytest.mark.mount
def test_the_same_from_a_mount(vmount: Vmount, rich: Path, tmp_path: Path) -> None:
    with vmount.mounted("--owner", "guest", rich) as mountpoint:
        options = ("--owner", "guest", "--verify")
        report = told(vmount, *options, mountpoint, "volumes/disk0", tmp_path / "copy")
        assert report["problems"] == report["lost"] == report["not_kept"] == []
        assert rsync_differences(mountpoint / "volumes/disk0", tmp_path / "copy") == ""
        told(vmount, mountpoint, "volumes/disk0/folder [01]/inner/*", f"{tmp_path}/")
    assert len(list(tmp_path.glob("file-*"))) == 20
    with mounted(rich, options="ro,noload") as theirs:
        assert rsync_differences(theirs, tmp_path / "copy") == ""
    assert (tmp_path / "copy/sparse").stat().st_blocks * 512 <= 2 * MIB


@pytest.mark.mount
def test_restored_from_ntfs_as_rsync_does_from_ntfs3g(
    vmount: Vmount, images: Path, tmp_path: Path
) -> None:
    image = build_small(images).image
    for folder in ("compressed", "a", "many"):
        told(vmount, image, f"disk0/{folder}", tmp_path / folder)
    with mounted_by_ntfs3g(image, tmp_path, "ro,streams_interface=xattr") as theirs:
        for folder in ("compressed", "a", "many"):
            command = ["rsync", "-nrltXH", "--checksum", "--delete", "-i"]
            paths = [f"{theirs / folder}/", f"{tmp_path / folder}/"]
            done = subprocess.run([*command, *paths], capture_output=True, text=True, check=True)
            assert done.stdout == "", folder
