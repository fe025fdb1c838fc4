"""Whole volumes against what mtools copies out of them."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

import pytest

from fixtures import fat
from tests.support.parsers.reading import FileReader, find, read_range, sha256, tree
from vmount.parsers.fat import open_fat
from vmount.parsers.model import Runs
from vmount.parsers.reader import run_sync

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


async def compare(volume: fat.FatVolume, reader: FileReader) -> None:
    filesystem = await open_fat(reader, code_page=fat.CODE_PAGE)
    expected = {entry.path: entry for entry in volume.walk}
    async for path, attrs in tree(filesystem):
        theirs = expected.pop(path)
        if stat.S_ISDIR(attrs.mode):
            assert theirs.type == "dir"
            continue
        assert theirs.type == "file"
        assert (attrs.size, attrs.mtime) == (theirs.size, theirs.mtime_ns), path
        assert await sha256(reader, await filesystem.data(attrs.ino)) == theirs.sha256, path
        assert attrs.allocated % filesystem.info.block_size == 0
    assert not expected


@pytest.mark.requirement("R17")
def test_everything_is_as_mtools_has_it(volume: fat.FatVolume, reader: FileReader) -> None:
    run_sync(compare(volume, reader))


def test_10000_files_in_a_directory_and_600_in_the_root(many: fat.FatVolume) -> None:
    reader = FileReader(many.image)
    run_sync(compare(many, reader))
    reader.reads.clear()
    filesystem = run_sync(open_fat(reader))
    folder = run_sync(find(filesystem, b"many"))
    assert len(run_sync(filesystem.listdir(folder.ino))) == 10_000
    assert len(reader.reads) < 12
    reader.close()


def test_label_and_uuid_are_as_blkid_has_them(volume: fat.FatVolume, reader: FileReader) -> None:
    shown = fat.blkid(volume.image)
    filesystem = run_sync(open_fat(reader))
    info = filesystem.info
    assert (info.fstype, info.label, info.uuid) == (shown["TYPE"], shown["LABEL"], shown["UUID"])
    assert filesystem.kind == shown["VERSION"]
    assert info.warnings == ()
    assert not info.case_sensitive
    assert reader.size - (64 << 10) < info.size <= reader.size


def test_free_bytes(volume: fat.FatVolume, reader: FileReader) -> None:
    filesystem = run_sync(open_fat(reader))
    free = fat.free_bytes(volume.image)
    assert run_sync(filesystem.free_bytes()) == free
    if filesystem.kind == "FAT32":
        assert filesystem.info.free == free


@pytest.mark.parametrize("build", [fat.build_fat12, fat.build_fat16, fat.build_fat32])
def test_pieces_of_a_file_lie_where_mtools_finds_them(
    folder: Path, build: Callable[[Path], fat.FatVolume]
) -> None:
    volume = build(folder)
    reader = FileReader(volume.image)
    filesystem = run_sync(open_fat(reader))
    data = run_sync(filesystem.data(run_sync(find(filesystem, b"pieces/In pieces")).ino))
    assert isinstance(data.layout, Runs)
    size = filesystem.info.block_size
    starts = [run.start for run in data.layout.runs]
    theirs = fat.extents(volume.image, "pieces/In pieces")
    assert len(theirs) == 20
    origin = (starts[0] or 0) - theirs[0][0] * size
    assert [((start or 0) - origin) // size for start in starts] == [first for first, _ in theirs]
    assert [-(-run.length // size) for run in data.layout.runs] == [count for _, count in theirs]
    reader.close()


@pytest.mark.parametrize("offset", [-3 * 60, 5 * 60 + 30])
def test_times_in_local_time(floppy: fat.FatVolume, offset: int) -> None:
    reader = FileReader(floppy.image)
    (expected,) = [entry.mtime_ns for entry in floppy.walk if entry.path == b"empty"]
    filesystem = run_sync(open_fat(reader, utc_offset=offset))
    assert run_sync(find(filesystem, b"empty")).mtime == expected - offset * 60 * 10**9
    reader.close()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("MIXED case", b"Mixed Case"),
        ("ÜNÏCÖDÉ Name", "ünïcödé name".encode()),
        ("ïle", "ÏLE".encode()),
        ("MIXEDC~1", b"Mixed Case"),
        ("upper.txt", b"UPPER.TXT"),
        ("LOWER.TXT", b"lower.txt"),
        ("nothing", None),
    ],
)
def test_names_are_found_in_any_case(floppy: fat.FatVolume, name: str, found: bytes | None) -> None:
    reader = FileReader(floppy.image)
    filesystem = run_sync(open_fat(reader, code_page=fat.CODE_PAGE))
    folder = run_sync(find(filesystem, b"names")).ino
    attrs = run_sync(filesystem.lookup(folder, name.encode()))
    names = {entry.ino: entry.name for entry in run_sync(filesystem.listdir(folder))}
    assert (names[attrs.ino] if attrs else None) == found
    reader.close()


def test_short_names_in_the_default_code_page(floppy: fat.FatVolume) -> None:
    reader = FileReader(floppy.image)
    filesystem = run_sync(open_fat(reader))
    folder = run_sync(find(filesystem, b"names")).ino
    listed = {entry.name.decode() for entry in run_sync(filesystem.listdir(folder))}
    # What is a capital i with diaeresis for mtools is a box to cp437.
    assert listed == set(fat.LONG_NAMES + fat.SHORT_NAMES) - {"ÏLE"} | {"╪LE"}
    reader.close()


def test_what_is_no_directory_and_what_is_no_file(floppy: fat.FatVolume) -> None:
    reader = FileReader(floppy.image)
    filesystem = run_sync(open_fat(reader))
    file, folder = (run_sync(find(filesystem, name)).ino for name in (b"empty", b"names"))
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
    for ino in (0, 2, file * 1000, (1 << 47) + 5):
        with pytest.raises(FileNotFoundError):
            run_sync(filesystem.attrs(ino))
    reader.close()


@pytest.mark.requirement("R37")
def test_a_file_of_4_gib_less_1(tmp_path: Path) -> None:
    """mtools would write all of it, so its size and chain are set by hand; mtools says where it is then."""
    image = tmp_path / "big.img"
    fat.build_empty(image, 5 << 30, "-F", "32", "-s", "64")
    (tmp_path / "BIG").write_bytes(b"head")
    fat.run("mcopy", "-i", str(image), str(tmp_path / "BIG"), "::/")
    ((first, _),) = fat.extents(image, "BIG")
    reader = FileReader(image)
    attrs = run_sync(find(run_sync(open_fat(reader)), b"BIG"))
    size, clusters = (4 << 30) - 1, 131072
    with image.open("r+b") as file:
        table = int.from_bytes(os.pread(file.fileno(), 2, 14), "little") * 512
        data = table + 2 * 512 * int.from_bytes(os.pread(file.fileno(), 4, 36), "little")
        chain = [*range(first + 1, first + clusters), 0x0FFF_FFFF]
        file.seek(table + first * 4)
        file.write(b"".join(entry.to_bytes(4, "little") for entry in chain))
        file.seek(attrs.ino * 32 + 28)
        file.write(size.to_bytes(4, "little"))
        file.seek(data + (first - 2) * 32768 + size - 4)
        file.write(b"tail")
    assert fat.extents(image, "BIG") == [(first, clusters)]
    filesystem = run_sync(open_fat(reader))
    reader.reads.clear()
    began = time.perf_counter()
    found = run_sync(filesystem.data(attrs.ino))
    assert time.perf_counter() - began < 1
    assert found.size == size
    assert isinstance(found.layout, Runs)
    assert len(found.layout.runs) == 1
    assert len(reader.reads) <= 6
    assert {span.offset for span in reader.hinted} & {span.offset for span in reader.reads}
    assert max(span.length for span in reader.reads) <= 1 << 20
    assert run_sync(read_range(reader, found, size - 4, 100)) == b"tail"
    assert run_sync(read_range(reader, found, 0, 4)) == b"head"
    reader.close()


@pytest.mark.requirement("R33")
def test_two_volumes_with_one_serial(floppy: fat.FatVolume) -> None:
    readers = [FileReader(floppy.image) for _ in range(2)]
    one, two = (run_sync(open_fat(reader)) for reader in readers)
    assert one.info == two.info
    assert run_sync(one.listdir(one.root)) == run_sync(two.listdir(two.root))
    for reader in readers:
        reader.close()
