"""Whole volumes against what exfat-fuse's mount of them shows."""

from __future__ import annotations

import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from fixtures import exfat
from fixtures.walk import type_name
from tests.support.parsers.reading import FileReader, find, read_range, sha256, tree
from vmount.parsers.exfat import open_exfat
from vmount.parsers.model import Runs
from vmount.parsers.reader import run_sync

if TYPE_CHECKING:
    from pathlib import Path


async def compare(volume: exfat.ExfatVolume, reader: FileReader) -> None:
    filesystem = await open_exfat(reader)
    expected = {entry.path: entry for entry in volume.walk}
    async for path, attrs in tree(filesystem):
        theirs = expected.pop(path)
        assert (
            type_name(attrs.mode),
            stat.S_IMODE(attrs.mode),
            attrs.nlink,
            attrs.size,
        ) == (theirs.type, theirs.mode, theirs.nlink, theirs.size), path
        # exfat-fuse leaves out the hundredths.
        assert attrs.mtime // 10**9 == theirs.mtime_ns // 10**9, path
        if theirs.type == "file":
            assert await sha256(reader, await filesystem.data(attrs.ino)) == theirs.sha256, path
    assert not expected


@pytest.mark.requirement("R17", "R37")
def test_everything_is_as_exfat_fuse_shows_it(
    volume: exfat.ExfatVolume, reader: FileReader
) -> None:
    run_sync(compare(volume, reader))


def test_10000_files_in_a_directory(many: exfat.ExfatVolume) -> None:
    reader = FileReader(many.image)
    run_sync(compare(many, reader))
    reader.reads.clear()
    filesystem = run_sync(open_exfat(reader))
    folder = run_sync(find(filesystem, b"many"))
    assert len(run_sync(filesystem.listdir(folder.ino))) == 10_000
    assert len(reader.reads) < 16
    reader.close()


def test_label_and_uuid_are_as_blkid_has_them(
    volume: exfat.ExfatVolume, reader: FileReader
) -> None:
    command = ["blkid", "-p", "-o", "export", str(volume.image)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    shown = dict(line.split("=", 1) for line in done.stdout.splitlines())
    info = run_sync(open_exfat(reader)).info
    assert (info.fstype, info.uuid) == (shown["TYPE"], shown["UUID"])
    assert info.label == exfat.LABEL
    assert info.warnings == ()
    assert not info.case_sensitive
    assert info.size == reader.size


def test_free_bytes_are_those_of_statfs(volume: exfat.ExfatVolume, reader: FileReader) -> None:
    filesystem = run_sync(open_exfat(reader))
    assert run_sync(filesystem.free_bytes()) == volume.free


def test_attributes_by_number_alone(volume: exfat.ExfatVolume, reader: FileReader) -> None:
    async def check() -> None:
        found = [attrs async for _, attrs in tree(await open_exfat(reader))]
        fresh = await open_exfat(reader)
        for attrs in found:
            assert await fresh.attrs(attrs.ino) == attrs

    run_sync(check())


def test_valid_data_length(contiguous: exfat.ExfatVolume) -> None:
    reader = FileReader(contiguous.image)
    filesystem = run_sync(open_exfat(reader))
    data = run_sync(filesystem.data(run_sync(find(filesystem, b"large")).ino))
    assert (data.size, data.valid) == ((5 << 30) + 12_345, 70_000)
    assert isinstance(data.layout, Runs)
    assert len(data.layout.runs) == 1
    expected = exfat.content(2, 70_000) + bytes(30_000)
    assert run_sync(read_range(reader, data, 0, 100_000)) == expected
    reader.close()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("MIXED case", b"Mixed Case"),
        ("ÜNÏCÖDÉ", "ünïcödé".encode()),
        ("A.B.C", b"a.b.c"),
        ("nothing", None),
    ],
)
def test_names_are_found_in_any_case(folder: Path, name: str, found: bytes | None) -> None:
    reader = FileReader(exfat.build_small(folder).image)
    filesystem = run_sync(open_exfat(reader))
    names = run_sync(find(filesystem, b"names")).ino
    attrs = run_sync(filesystem.lookup(names, name.encode()))
    listed = {entry.ino: entry.name for entry in run_sync(filesystem.listdir(names))}
    assert (listed[attrs.ino] if attrs else None) == found
    reader.close()


def test_what_is_no_directory_and_what_is_no_file(contiguous: exfat.ExfatVolume) -> None:
    reader = FileReader(contiguous.image)
    filesystem = run_sync(open_exfat(reader))
    file, folder = (run_sync(find(filesystem, name)).ino for name in (b"short", b"folder"))
    for ino in (file, folder):
        with pytest.raises(OSError, match="Invalid argument"):
            run_sync(filesystem.readlink(ino))
        assert run_sync(filesystem.xattrs(ino)) == {}
        with pytest.raises(FileNotFoundError):
            run_sync(filesystem.data(ino, b"stream"))
    with pytest.raises(NotADirectoryError):
        run_sync(filesystem.listdir(file))
    for ino in (folder, filesystem.root):
        with pytest.raises(IsADirectoryError):
            run_sync(filesystem.data(ino))
    for ino in (0, 2, file + 2, (1 << 47) + 5):
        with pytest.raises(FileNotFoundError):
            run_sync(filesystem.attrs(ino))
    reader.close()
