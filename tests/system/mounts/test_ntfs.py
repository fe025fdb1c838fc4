"""NTFS through the mount, beside ntfs-3g's mount of the same volume."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures.ntfs import NtfsVolume, build_small, mounted
from fixtures.ntfs_described import JUNCTIONS, LINKS, Described, build_described, read_xattrs
from fixtures.programs import run

if TYPE_CHECKING:
    from tests.system.mounts.conftest import Vmount

pytestmark = pytest.mark.mount

COPIED = ("a", "many", "compressed", "streams", "times", "names", "links", "wsl")
"""Folders of the volume that are copied whole."""

OTHERWISE = ("links/win *", "links/junction *", "links/reparse *")
"""What ntfs-3g shows in a way of its own: targets from its mount point, files it knows no plugin for."""


@pytest.fixture(scope="module")
def small(images: Path) -> NtfsVolume:
    return build_small(images)


@pytest.fixture(scope="module")
def described(images: Path) -> Described:
    return build_described(images)


@pytest.mark.requirement("R17")
def test_ntfs3gs_own_attributes_are_there_when_asked_for(
    vmount: Vmount, described: Described
) -> None:
    with vmount.mounted(described.image) as mountpoint:
        top = mountpoint / "volumes/disk0"
        expected = {
            path: {name: value.hex() for name, value in row.items()}
            for path, row in described.xattrs.items()
        }
        assert read_xattrs(top) == expected
        for path, names in described.listed.items():
            assert sorted(os.listxattr(top / path, follow_symlinks=False)) == names


@pytest.mark.requirement("R17")
def test_streams_are_files_where_asked_for(
    vmount: Vmount, small: NtfsVolume, tmp_path: Path
) -> None:
    with (
        mounted(small.image, tmp_path, "ro,streams_interface=windows") as theirs,
        vmount.mounted("--streams", small.image) as mountpoint,
    ):
        ours = mountpoint / "volumes/disk0"
        wanted = set()
        for path, streams in small.streams.items():
            for name in streams:
                wanted.add(os.fsdecode(path + b":" + name.removeprefix(b"user.")))
        assert len(wanted) > 40
        listed = set()
        for folder in {str(Path(path).parent) for path in wanted}:
            listed |= {f"{folder}/{name}" for name in os.listdir(ours / folder)}
        assert {path for path in listed if ":" in path} == wanted
        for stream in wanted:
            status = (ours / stream).lstat()
            assert stat.S_ISREG(status.st_mode)
            assert status.st_size == (theirs / stream).stat().st_size
            assert status.st_mtime_ns == (theirs / stream).stat().st_mtime_ns
            assert (ours / stream).read_bytes() == (theirs / stream).read_bytes()
            assert not os.listxattr(ours / stream)
        for missing in ("streams/file:no", "streams/no:stream", "streams/file:", "streams/:x"):
            assert not (ours / missing).exists()
        for listing in (os.listdir(ours / "a"), os.listdir(ours / "many")):
            assert not any(":" in name for name in listing)


def test_streams_and_case_as_options_of_mount(vmount: Vmount, small: NtfsVolume) -> None:
    with vmount.mounted("-o", "streams,ignore_case", small.image) as mountpoint:
        top = mountpoint / "volumes/disk0"
        assert (top / "STREAMS/File:ZONE.identifier").read_bytes() == (
            b"[ZoneTransfer]\r\nZoneId=3\r\n"
        )
    with vmount.mounted(small.image) as mountpoint:
        top = mountpoint / "volumes/disk0"
        assert not (top / "STREAMS").exists()
        assert not (top / "streams/file:Zone.Identifier").exists()


def test_names_are_found_whatever_their_case(
    vmount: Vmount, small: NtfsVolume, tmp_path: Path
) -> None:
    with vmount.mounted("--ignore-case", small.image) as mountpoint:
        top = mountpoint / "volumes/disk0"
        for entry in small.walk:
            exact = top / os.fsdecode(entry.path)
            for other in (entry.path.upper(), entry.path.lower(), entry.path.swapcase()):
                # bytes.upper changes ASCII only, which Windows' table does as well.
                found = (top / os.fsdecode(other)).lstat()
                if entry.path.lower() != b"names/case":
                    assert found.st_ino == exact.lstat().st_ino, other
            assert not (top / os.fsdecode(entry.path[:200] + b"~no")).exists()
        for name in ("Case", "case", "CASE"):
            assert (top / "names" / name).read_text() == name
        assert (top / "NAMES/cAsE").read_text().lower() == "case"
        assert (top / "names/ÜNÏCÖDÉ").read_text() == "ünïcödé"
        assert not (top / "names/STRASSE").exists()
        assert sorted(os.listdir(top / "NAMES")) == sorted(
            os.fsdecode(entry.path[6:]) for entry in small.walk if entry.path.startswith(b"names/")
        )


@pytest.mark.requirement("R17")
@pytest.mark.parametrize("tool", ["cp", "rsync", "tar"])
def test_copies_are_those_that_the_same_tool_makes_of_ntfs3gs_mount(
    vmount: Vmount, small: NtfsVolume, tmp_path: Path, tool: str
) -> None:
    copies = {}
    told = {}
    options = "ro,streams_interface=xattr,fmask=133,dmask=022"
    with (
        mounted(small.image, tmp_path, options) as theirs,
        vmount.mounted(small.image) as mountpoint,
    ):
        for whose, top in (("theirs", theirs), ("ours", mountpoint / "volumes/disk0")):
            copies[whose] = tmp_path / whose
            told[whose] = copy(tool, top, copies[whose])
    messages = {whose: sorted(set(lines)) for whose, lines in told.items()}
    assert messages["ours"] == messages["theirs"]
    command = ["rsync", "-naXH", "--checksum", "--numeric-ids", "--delete", "-i"]
    if tool == "cp":
        # cp does not give directories their times back when it could not copy all of their attributes.
        command.append("--omit-dir-times")
    differences = run(*command, f"{copies['theirs']}/", f"{copies['ours']}/").splitlines()
    assert [line for line in differences if not is_known(line)] == []
    for name in ("holes", "mixed"):
        blocks = [(folder / "compressed" / name).stat().st_blocks for folder in copies.values()]
        assert blocks[0] == blocks[1]
    links = copies["ours"] / "links"
    assert (links / "second name").samefile(links / "target")
    assert (links / "target").stat().st_nlink == 22


def is_known(line: str) -> bool:
    """Tell whether a difference is one that is meant: see `adjusted` in tests/system/parsers/ntfs/test_walk.py."""
    return re.search(r" (wsl/|times/(1923|1969)$|\./$)", line) is not None


def copy(tool: str, top: Path, target: Path) -> list[str]:
    """Copy COPIED without OTHERWISE; return what the tool complains of, without the folder's name."""
    target.mkdir()
    excluded = [f"--exclude={pattern}" for pattern in OTHERWISE]
    if tool == "cp":
        command = ["cp", "-a", "--sparse=always", *COPIED, str(target)]
    elif tool == "rsync":
        command = ["rsync", "-aAXHS", *excluded, *COPIED, f"{target}/"]
    else:
        archive = target.with_suffix(".tar")
        flags = ["--xattrs", "--xattrs-include=*", "--sparse"]
        run("tar", "-C", str(top), *flags, *excluded, "-cf", str(archive), *COPIED)
        command = ["tar", "-C", str(target), *flags, "-xpf", str(archive)]
    done = subprocess.run(command, cwd=top, capture_output=True, text=True, check=False)
    if tool == "cp":
        for pattern in OTHERWISE:
            for path in target.glob(pattern):
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    # rsync has a random word in the names that it writes to; tar remarks on times, which are compared.
    told = re.sub(r"/\.(\S+)\.\w{6}\"", r"/\1\"", done.stderr).replace(str(target), "TARGET")
    return [
        line
        for line in told.replace(str(top), "TOP").splitlines()
        if "time stamp" not in line and not any(p.rstrip("*") in line for p in OTHERWISE)
    ]


def test_a_restore_onto_ntfs_has_descriptors_and_attributes(
    vmount: Vmount, described: Described, tmp_path: Path
) -> None:
    image = tmp_path / "target.img"
    with image.open("wb") as file:
        file.truncate(48 << 20)
    run("mkntfs", "-q", "-Q", "-F", str(image))
    kept = ("system.ntfs_acl", "system.ntfs_attrib", "system.ntfs_crtime")
    with mounted(image, tmp_path, "streams_interface=xattr") as top:
        arguments = ("--owner", "guest", described.image, "disk0/files", "disk0/attributes/bits *")
        done = vmount.run("cp", *arguments, top, check=False)
        assert done.returncode == 0, done.stderr
        found = read_xattrs(top)
    compared = 0
    for path, expected in described.xattrs.items():
        if path.startswith(("files/", "attributes/bits ")):
            copy = found[path.removeprefix("attributes/")]
            for name in kept:
                assert copy[name] == expected[name].hex(), (path, name)
            compared += 1
    assert compared > 200


def test_a_restore_elsewhere_says_once_what_is_not_kept(
    vmount: Vmount, described: Described, tmp_path: Path
) -> None:
    arguments = ("--owner", "guest", "--usermap", described.mapping, described.image)
    done = vmount.run("cp", *arguments, "disk0/modes", "disk0/attributes/bits *", f"{tmp_path}/")
    lines = [line for line in done.stderr.decode().splitlines() if "not preserved" in line]
    assert len(lines) == 2, lines
    assert re.search(r"system.ntfs_acl of .* and \d+ more: not supported by the target", lines[0])
    assert re.search(r"system.ntfs_attrib of .*/bits \d and 1 more: not supported", lines[1])
    for path, owner in described.owners.items():
        if path.startswith("modes/"):
            status = (tmp_path / path).stat()
            assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == owner, path
    quiet = vmount.run("cp", "--owner", "me", described.image, "disk0/modes", tmp_path / "mine")
    assert b"not preserved" not in quiet.stderr
    assert (tmp_path / "mine/1001-1100 files/0").stat().st_uid == os.getuid()


def test_links_lead_where_ntfs3gs_lead(
    vmount: Vmount, described: Described, tmp_path: Path
) -> None:
    with (
        mounted(described.image, tmp_path, "ro") as theirs,
        vmount.mounted("--drive", "C=disk0", described.image) as mountpoint,
    ):
        ours = mountpoint / "volumes/disk0"
        for name in LINKS:
            target = os.readlink(ours / "attributes" / name)
            assert target == os.readlink(theirs / "attributes" / name)
            assert (ours / "attributes" / name).exists()
        for name in JUNCTIONS:
            # ntfs-3g takes any drive for its own volume, and gives a path from the root of the machine.
            place = (theirs / "attributes" / name).resolve().relative_to(theirs)
            assert os.readlink(ours / "attributes" / name) == f"../../../drives/C/{place}"
            assert (ours / "attributes" / name).resolve() == (ours / place).resolve()
            assert (ours / place).is_dir()
