"""Paths as the guest has them, in all commands; alternate streams as paths; what is said of paths that are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures import guests, wof
from fixtures.ntfs import NtfsVolume, build_small
from fixtures.ntfs import mounted as ntfs_mounted
from vmount.api import open_disks
from vmount.api.spelling import locate
from vmount.jobs.local_folder import FolderSet

if TYPE_CHECKING:
    from tests.system.mounts.conftest import Vmount


@pytest.fixture(scope="module")
def small(images: Path) -> NtfsVolume:
    return build_small(images)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("C:\\Users\\ann", "drives/C/Users/ann"),
        ("c:/users/ANN", "drives/C/Users/ann"),
        ("C:", "drives/C"),
        ("c:\\", "drives/C"),
        ("\\\\?\\C:\\Users", "drives/C/Users"),
        ("\\Users\\ann", "drives/C/Users/ann"),
        ("/users/ann", "drives/C/Users/ann"),
        ("\\FOLDER\\On f.txt", "drives/F/folder/on f.txt"),
        ("drives/c/users", "drives/C/Users"),
        ("volumes/disk0-p1/users/ann", "volumes/disk0-p1/Users/ann"),
        ("disk0-p1/USERS", "volumes/disk0-p1/Users"),
        ("DISK0-P1/USERS", "volumes/disk0-p1/Users"),
        ("disk0-p1\\users", "volumes/disk0-p1/Users"),
        ("/disk0-p1/Users", "volumes/disk0-p1/Users"),
        ("/volumes/disk0-p1", "volumes/disk0-p1"),
        ("/", "/"),
        ("info.json", "info.json"),
        # A junction is followed on the way, and named by itself at the end.
        (
            "C:\\Documents and Settings\\ANN\\notes.txt",
            "drives/C/Documents and Settings/ann/notes.txt",
        ),
        ("C:\\documents and settings", "drives/C/Documents and Settings"),
    ],
)
def test_paths_of_a_windows_guest(windows: list[Path], text: str, path: str) -> None:
    with open_disks(*windows) as disks:
        assert disks.locate(text) == path
        disks.stat(path)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/etc/fstab", "root/etc/fstab"),
        ("/home/ann/letter", "root/home/ann/letter"),
        ("//home//ann/", "root/home/ann"),
        ("/etc/os-release", "root/etc/os-release"),
        ("root/etc", "root/etc"),
        ("/root/etc", "root/etc"),
        ("/disk0-p1/etc", "volumes/disk0-p1/etc"),
        ("disk0-p2/ann", "volumes/disk0-p2/ann"),
        ("/volumes/disk0-p2/ann", "volumes/disk0-p2/ann"),
        ("/info.json", "info.json"),
    ],
)
def test_paths_of_a_linux_guest(linux: Path, text: str, path: str) -> None:
    with open_disks(linux) as disks:
        assert disks.locate(text) == path
        disks.stat(path)


def test_where_both_exist_a_leading_slash_means_the_guests(tmp_path: Path) -> None:
    (tmp_path / "tree/root/etc").mkdir(parents=True)
    (tmp_path / "tree/etc").mkdir()
    (tmp_path / "tree/etc/os-release").write_text("ID=x\n")
    (tmp_path / "tree/volumes/here").mkdir(parents=True)
    image = guests.make_ext4(tmp_path / "ext.img", guests.ROOT_UUID, "x", tmp_path / "tree")
    with open_disks(image) as disks:
        assert disks.locate("/root") == "root/root"
        assert disks.locate("/root/etc") == "root/root/etc"
        assert disks.locate("root") == "root"
        assert disks.locate("/root/etc/os-release") == "root/etc/os-release"
        assert disks.locate("/volumes/disk0") == "volumes/disk0"
        assert disks.locate("/volumes/here") == "root/volumes/here"


def test_patterns_of_guests_paths(linux: Path, windows: list[Path]) -> None:
    with open_disks(linux) as disks:
        assert disks.expand("/et[a-d]/fs*") == ["root/etc/fstab", "root/etc/fstab.link"]
        assert disks.expand("disk0-p[12]") == ["volumes/disk0-p1", "volumes/disk0-p2"]
        with pytest.raises(FileNotFoundError):
            locate(disks, "/et*")
    with open_disks(*windows) as disks:
        assert disks.expand("C:\\WIN*\\system??\\CONFIG\\s*") == [
            f"drives/C/Windows/System32/config/{name}" for name in ("SOFTWARE", "SYSTEM")
        ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("etc/fstab", "etc/fstab: No such file or directory; did you mean root/etc/fstab?"),
        ("/etc/fstba", "did you mean /etc/fstab?"),
        ("volume/disk0-p1", "did you mean volumes/disk0-p1?"),
        ("disk0-p9", "did you mean disk0-p"),
        ("qqq", "the volumes are disk0-p1, disk0-p2, disk0-p3"),
        ("C:\\x", "the guest has no drives; the volumes are disk0-p1,"),
        ("/etc/fstab/x", "/etc/fstab/x: Not a directory"),
    ],
)
def test_advice_on_a_linux_guest(vmount: Vmount, linux: Path, text: str, words: str) -> None:
    for command in ("ls", "cat"):
        assert words in vmount.error(command, linux, text, code=3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Users\\ann", "did you mean drives/C/Users/ann?"),
        ("D:\\x", "the drives are C:, E:, F:"),
        ("C:\\Users\\anm\\notes.txt", "did you mean C:\\Users\\ann\\notes.txt?"),
    ],
)
def test_advice_on_a_windows_guest(
    vmount: Vmount, windows: list[Path], text: str, words: str
) -> None:
    with pytest.raises(FileNotFoundError) as caught, open_disks(*windows) as disks:
        disks.expand(text)
    assert words in str(caught.value).replace("\\\\", "\\")


def test_every_command_takes_them(
    vmount: Vmount, windows: list[Path], linux: Path, tmp_path: Path
) -> None:
    image = windows[0]
    assert vmount.run("ls", image, "c:/USERS/ann").stdout == b"notes.txt\n"
    assert vmount.run("ls", image, "C:\\users\\*\\N*").stdout == b"notes.txt\n"
    assert vmount.run("cat", image, "C:\\users\\ANN\\Notes.txt").stdout == b"notes"
    found = vmount.run("find", image, "NOTES*", "--below", "C:\\users").stdout
    assert found == b"drives/C/Users/ann/notes.txt\n"
    assert vmount.run("find", image, "ANN/*", "--below", "C:\\users").stdout == b""
    assert vmount.run("find", image, "USERS/ANN/*", "--below", "C:\\users").stdout == found
    assert vmount.run("diff", image, image, "C:\\USERS").stdout == b""
    vmount.run("cp", image, "C:\\users", tmp_path / "copy")
    assert (tmp_path / "copy/ann/notes.txt").read_text() == "notes"
    assert vmount.run("ls", linux, "/home/ann").stdout == b"letter\nsecond name\nup\n"
    assert vmount.run("cat", linux, "/etc/own").stdout == b"Dear Bob"
    found = vmount.run("find", linux, "letter", "--below", "/home").stdout
    assert found == b"root/home/ann/letter\n"
    top = set(vmount.run("ls", image, "/").stdout.decode().split())
    assert {"drives", "volumes", "disks", "info.json"} <= top
    assert "root" in vmount.run("ls", linux, "/").stdout.decode().split()


@pytest.mark.mount
@pytest.mark.parametrize("text", ["disk0-p1/Users", "C:\\users", "\\Users\\*"])
def test_programs_that_scan_are_given_files_that_exist(
    vmount: Vmount, windows: list[Path], tmp_path: Path, text: str
) -> None:
    script = tmp_path / "scanner"
    script.write_text('#!/bin/sh\ngrep -q notes "$1" && exit 1; [ -f "$1" ]\n')
    script.chmod(0o755)
    done = vmount.run("scan", "--json", "--engine", str(script), windows[0], text, check=False)
    report = json.loads(done.stdout)
    assert [item["path"].rpartition("/")[2] for item in report["found"]] == ["notes.txt"]
    assert report["not_scanned"] == []


@pytest.mark.mount
def test_paths_of_the_guest_in_a_mount(vmount: Vmount, windows: list[Path]) -> None:
    with vmount.mounted(windows[0]) as mountpoint:
        folder = FolderSet(mountpoint)
        assert folder.expand("c:\\USERS\\*") == ["drives/C/Users/ann"]
        assert folder.expand("DISK0-p1/users") == ["volumes/disk0-p1/Users"]
    other = FolderSet(Path("/"))
    assert other.expand("/etc/passwd") == ["etc/passwd"]
    assert other.expand("etc/pass[v-x]d") == ["etc/passwd"]


# Alternate streams


def test_streams_in_every_command(vmount: Vmount, small: NtfsVolume, tmp_path: Path) -> None:
    image, value = small.image, b"[ZoneTransfer]\r\nZoneId=3\r\n"
    stream = "disk0/streams/file:Zone.Identifier"
    assert vmount.run("ls", image, stream).stdout == b"file:Zone.Identifier\n"
    assert vmount.run("cat", image, stream).stdout == value
    assert vmount.run("cat", image, "disk0/STREAMS/File:zone.identifier:$DATA").stdout == value
    assert vmount.run("cat", image, "disk0/streams/file::$DATA").stdout == b"main"
    assert vmount.run("cat", image, "disk0/streams/directory:zone*").stdout == value
    assert vmount.run("cp", image, stream, "-").stdout == value
    vmount.run(
        "cp", image, "disk0/streams/*:Zone*", "disk0/streams/file", f"{tmp_path}/", check=False
    )
    assert (tmp_path / "file:Zone.Identifier").read_bytes() == value
    assert (tmp_path / "directory:Zone.Identifier").read_bytes() == value
    assert (tmp_path / "file").read_bytes() == b"main"
    told = vmount.error("ls", image, "disk0/streams/file:none", code=3)
    assert "its streams are" in told
    assert "Zone.Identifier" in told


def test_find_lists_the_streams_that_ntfs3g_has(vmount: Vmount, small: NtfsVolume) -> None:
    output = vmount.run("find", "--streams", "--null", small.image).stdout
    expected = {
        b"volumes/disk0/" + path + b":" + name.removeprefix(b"user.")
        for path, streams in small.streams.items()
        for name in streams
    }
    assert set(output.split(b"\0")) - {b""} == expected
    named = vmount.run("find", "--streams", small.image, "*:ZONE.*", "--larger", "20").stdout
    assert named.splitlines() == [
        b"volumes/disk0/streams/directory:Zone.Identifier",
        b"volumes/disk0/streams/file:Zone.Identifier",
    ]


@pytest.mark.mount
def test_streams_are_what_ntfs3g_shows_as_windows_does(images: Path, small: NtfsVolume) -> None:
    with (
        ntfs_mounted(small.image, images, wof.STREAMS) as theirs,
        open_disks(small.image) as disks,
    ):
        for path in disks.expand("disk0/streams/*:*"):
            shown = theirs / path.removeprefix("volumes/disk0/")
            with disks.open(path) as file:
                assert file.read() == shown.read_bytes(), path
