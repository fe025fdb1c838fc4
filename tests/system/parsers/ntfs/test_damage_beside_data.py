"""Damage that has nothing to do with a file's bytes: they are read, and the damage is told of."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import stat
import struct
from typing import TYPE_CHECKING

import pytest

from fixtures.ntfs import mounted
from tests.support.parsers.reading import sha256
from vmount.parsers.errors import Corrupt, ParseError, Unsupported
from vmount.parsers.ntfs import NtfsFilesystem, open_ntfs
from vmount.parsers.ntfs.attribute import ATTRIBUTE, DATA, FILE_NAME, INDEX_ALLOCATION, NONRESIDENT
from vmount.parsers.ntfs.boot import decode_boot
from vmount.parsers.ntfs.index import INDEX_BLOCK, INDEX_ENTRY
from vmount.parsers.ntfs.record import RECORD
from vmount.parsers.reader import BytesReader, run_sync

if TYPE_CHECKING:
    from pathlib import Path

    from fixtures.ntfs import NtfsVolume

INDEX_ROOT = 0x90
IMAGES = 30
LARGEST = 4 << 20
"""Bytes of a file that is compared."""


@pytest.fixture(scope="module")
def pristine(small: NtfsVolume) -> bytes:
    return small.image.read_bytes()


def opened(data: bytes | bytearray) -> NtfsFilesystem:
    return run_sync(open_ntfs(BytesReader(bytes(data))))


def record_at(data: bytes | bytearray, ino: int) -> int:
    boot = decode_boot(bytes(data[:512]))
    return boot.mft_offset + ino * boot.record_size


def attribute_at(data: bytes | bytearray, ino: int, kind: int, nth: int = 0) -> int:
    """Return where a file's attribute is in the image."""
    at = record_at(data, ino)
    at += int(struct.unpack_from("<H", data, at + RECORD.offset("attributes_offset"))[0])
    while True:
        found, length = struct.unpack_from("<II", data, at)
        assert found <= kind
        if found == kind and not nth:
            return at
        nth -= found == kind
        at += length


def ino_of(filesystem: NtfsFilesystem, *path: bytes) -> int:
    ino = filesystem.root
    for name in path:
        attrs = run_sync(filesystem.lookup(ino, name))
        assert attrs is not None
        ino = attrs.ino
    return ino


def contents(data: bytes | bytearray, folder: bytes) -> dict[bytes, str]:
    """Return the hashes of a folder's files, by listing and by name."""
    filesystem, reader = opened(data), BytesReader(bytes(data))
    home, found = ino_of(filesystem, folder), {}
    for entry in run_sync(filesystem.listdir(home)):
        assert entry.attrs is not None
        assert run_sync(filesystem.lookup(home, entry.name)) == entry.attrs
        found[entry.name] = run_sync(sha256(reader, run_sync(filesystem.data(entry.ino))))
    return found


DAMAGES = {
    "base of the record": (None, RECORD.offset("base"), b"\7\0\0\0\0\0\1\0"),
    "number of the record": (None, RECORD.offset("sequence"), b"\x77\x77"),
    "place of the fix-ups": (None, RECORD.offset("array_offset"), b"\xff\xff"),
    "count of the fix-ups": (None, RECORD.offset("array_count"), b"\xff\xff"),
    "size of the index": (INDEX_ALLOCATION, NONRESIDENT.offset("data_size") + 5, b"\x7f"),
    "valid size of the index": (INDEX_ALLOCATION, NONRESIDENT.offset("initialized_size"), b"\0\0"),
    "order of the index": (INDEX_ROOT, 32 + 4, b"\x13"),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_files_of_a_directory_with_a_damaged_field(pristine: bytes, damage: str) -> None:
    expected = contents(pristine, b"many")
    kind, offset, value = DAMAGES[damage]
    data = bytearray(pristine)
    ino = ino_of(opened(data), b"many")
    at = record_at(data, ino) if kind is None else attribute_at(data, ino, kind)
    assert data[at + offset : at + offset + len(value)] != value
    data[at + offset : at + offset + len(value)] = value
    assert contents(data, b"many") == expected


def test_damage_is_told_of_once(pristine: bytes, caplog: pytest.LogCaptureFixture) -> None:
    data = bytearray(pristine)
    at = record_at(data, ino_of(opened(data), b"many")) + RECORD.offset("sequence")
    data[at : at + 2] = b"\x77\x77"
    filesystem = opened(data)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            run_sync(filesystem.listdir(ino_of(filesystem, b"many")))
    assert len(caplog.records) == 2  # The root's reference to it, and those of its files to it.
    assert all("references between it and its files" in line for line in caplog.messages)


def entries_of(data: bytearray, folder: int) -> list[int]:
    """Return where the entries of a directory's first index block are."""
    position = -1
    while True:
        position = data.find(b"INDX", position + 1)
        header = position + INDEX_BLOCK.size
        first, in_use = struct.unpack_from("<II", data, header)
        at = header + first
        found: list[int] = []
        if struct.unpack_from("<Q", data, at + 16)[0] & (1 << 48) - 1 != folder:
            continue
        while at < header + in_use:
            length, _, flags = struct.unpack_from("<HHH", data, at + 8)
            if flags & 2:
                return found
            found.append(at)
            at += length


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (INDEX_ENTRY.offset("key_length"), b"\0\0"),
        (INDEX_ENTRY.offset("reference") + 6, b"\x77"),
        (INDEX_ENTRY.size + 6, b"\x77"),
        (INDEX_ENTRY.size, b"\x77\0"),
    ],
)
def test_an_entry_that_its_file_confirms(pristine: bytes, offset: int, value: bytes) -> None:
    expected = contents(pristine, b"many")
    data = bytearray(pristine)
    at = entries_of(data, ino_of(opened(data), b"many"))[2] + offset
    data[at : at + len(value)] = value
    assert contents(data, b"many") == expected


def test_a_stale_name_gives_no_other_file(pristine: bytes) -> None:
    data = bytearray(pristine)
    filesystem = opened(data)
    many = ino_of(filesystem, b"many")
    victim = run_sync(filesystem.listdir(many))[7]
    at = record_at(data, victim.ino) + RECORD.offset("sequence")
    data[at : at + 2] = b"\x77\x77"
    name = attribute_at(data, victim.ino, FILE_NAME) + 24 + 66
    data[name : name + 2] = b"Z\0"
    filesystem = opened(data)
    (found,) = [e for e in run_sync(filesystem.listdir(many)) if e.name == victim.name]
    assert found.attrs is None
    with pytest.raises(Corrupt, match="name of a deleted file"):
        run_sync(filesystem.lookup(many, victim.name))


@pytest.mark.parametrize("flags", [0x0002, 0x0100, 0x00FF])
def test_flags_of_bytes_in_the_record_mean_nothing(
    pristine: bytes, flags: int, caplog: pytest.LogCaptureFixture
) -> None:
    data = bytearray(pristine)
    ino = ino_of(opened(data), b"size 100")
    before = run_sync(opened(data).data(ino))
    at = attribute_at(data, ino, DATA) + ATTRIBUTE.offset("flags")
    struct.pack_into("<H", data, at, flags)
    assert run_sync(opened(data).data(ino)) == before
    assert "unknown flags" in caplog.text


def test_a_damaged_stream_costs_neither_the_file_nor_the_others(pristine: bytes) -> None:
    data = bytearray(pristine)
    filesystem = opened(data)
    folder = ino_of(filesystem, b"streams")
    entry = next(
        e
        for e in run_sync(filesystem.listdir(folder))
        if len(run_sync(filesystem.streams(e.ino))) > 1 and e.kind == stat.S_IFREG
    )
    before = run_sync(filesystem.xattrs(entry.ino))
    whole = run_sync(filesystem.data(entry.ino))
    at = attribute_at(data, entry.ino, DATA, 1) + ATTRIBUTE.offset("flags")
    struct.pack_into("<H", data, at, 0x4000)
    filesystem = opened(data)
    after = run_sync(filesystem.xattrs(entry.ino))
    assert run_sync(filesystem.data(entry.ino)) == whole
    assert list(after) == list(before)
    wrong = [name for name, (value,) in after.items() if isinstance(value, ParseError)]
    assert len(wrong) == 1
    assert isinstance(after[wrong[0]].value, Unsupported)
    assert all(after[name] == value for name, value in before.items() if name != wrong[0])


def damaged(data: bytes, inos: list[int], seed: int) -> bytes:
    """Return an image with a few wrong bytes in records of directories and files."""
    rng, image = random.Random(seed), bytearray(data)
    for _ in range(rng.randint(1, 2)):
        record = record_at(data, rng.choice(inos))
        used = int.from_bytes(data[record + 24 : record + 28], "little")
        at = record + rng.randrange(used)
        value = rng.choice(
            (bytes([image[at] ^ 1 << rng.randrange(8)]), b"\0", b"\xff" * 4, rng.randbytes(2))
        )
        image[at : at + len(value)] = value
    return bytes(image)


def read_by_us(data: bytes) -> dict[str, str]:
    reader = BytesReader(data)
    found: dict[str, str] = {}
    try:
        filesystem = opened(data)
    except ParseError:
        return found
    todo, seen = [(filesystem.root, "")], set[int]()
    while todo:
        ino, path = todo.pop()
        seen.add(ino)
        try:
            entries = run_sync(filesystem.listdir(ino))
        except (ParseError, OSError):
            continue
        for entry in entries:
            name = f"{path}/{os.fsdecode(entry.name)}"
            if entry.kind == stat.S_IFDIR and entry.ino not in seen:
                todo.append((entry.ino, name))
            if entry.kind == stat.S_IFREG and entry.attrs and entry.attrs.size <= LARGEST:
                try:
                    content = run_sync(filesystem.data(entry.ino))
                    found[name] = run_sync(sha256(reader, content))
                except (ParseError, OSError):
                    continue
    return found


def read_by_them(image: Path, folder: Path) -> dict[str, str] | None:
    found: dict[str, str] = {}
    try:
        with mounted(image, folder, "ro,streams_interface=none") as top:
            for at, _, names in os.walk(top):
                for name in names:
                    path = top / at / name
                    try:
                        mode = path.lstat()
                        if stat.S_ISREG(mode.st_mode) and mode.st_size <= LARGEST:
                            digest = hashlib.sha256(path.read_bytes()).hexdigest()
                            found[f"/{path.relative_to(top)}"] = digest
                    except OSError:
                        continue
    except RuntimeError:
        return None
    return found


@pytest.mark.mount
def test_what_ntfs_3g_reads_of_a_damaged_volume_is_read(pristine: bytes, tmp_path: Path) -> None:
    filesystem = opened(pristine)
    names = (b"many", b"names", b"a", b"compressed", b"size 100", b"size 65536")
    inos = [filesystem.root, *(ino_of(filesystem, name) for name in names)]
    image = tmp_path / "damaged.img"
    compared = 0
    for seed in range(IMAGES):
        data = damaged(pristine, inos, seed)
        image.write_bytes(data)
        theirs = read_by_them(image, tmp_path)
        if theirs is None:
            continue
        ours = read_by_us(data)
        both = ours.keys() & theirs.keys()
        assert {path: ours[path] for path in both} == {path: theirs[path] for path in both}, seed
        assert theirs.keys() <= ours.keys(), seed
        compared += len(both)
    assert compared > IMAGES * 300
