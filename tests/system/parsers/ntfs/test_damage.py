"""Damaged and hostile volumes: an error for what is damaged, everything else as before."""

from __future__ import annotations

import random
import stat
import struct
from typing import TYPE_CHECKING

import pytest

from vmount.parsers.errors import Corrupt, NotRecognised, ParseError, Unsupported
from vmount.parsers.model import DirEntry
from vmount.parsers.ntfs import NtfsFilesystem, open_ntfs
from vmount.parsers.ntfs.boot import decode_boot
from vmount.parsers.ntfs.mft import open_mft
from vmount.parsers.ntfs.record import RECORD
from vmount.parsers.reader import BytesReader, check_bounds, run_sync

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fixtures.ntfs import NtfsVolume
    from vmount.parsers.reader import Span

ROOT = 5


class Image:
    """A volume in memory that can be damaged, and counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.size = len(data)
        self.reads = 0
        self.boot = decode_boot(data[:512])
        self.broken: tuple[int, int] | None = None

    def try_read(self, offset: int, length: int) -> bytes:
        check_bounds(offset, length, self.size)
        self.reads += 1
        if self.broken and offset < self.broken[1] and offset + length > self.broken[0]:
            raise OSError(5, "the disk is gone")
        return bytes(self.data[offset : offset + length])

    async def read(self, offset: int, length: int) -> bytes:
        return self.try_read(offset, length)

    def prefetch(self, spans: Sequence[Span]) -> None:
        for offset, length in spans:
            check_bounds(offset, length, len(self.data))

    def record_at(self, ino: int) -> int:
        """Return the offset of an MFT record; the table of these volumes is in one piece."""
        offset = self.boot.mft_offset + ino * self.boot.record_size
        assert self.data[offset : offset + 4] == b"FILE"
        assert self.data[offset + 44 : offset + 48] == ino.to_bytes(4, "little")
        return offset

    def set(self, offset: int, value: bytes) -> None:
        self.data[offset : offset + len(value)] = value

    def open(self) -> NtfsFilesystem:
        return run_sync(open_ntfs(self))


@pytest.fixture(scope="module")
def pristine(small: NtfsVolume) -> bytes:
    return small.image.read_bytes()


@pytest.fixture
def image(pristine: bytes) -> Image:
    return Image(pristine)


def find(filesystem: NtfsFilesystem, *path: bytes) -> int:
    ino = filesystem.root
    for name in path:
        attrs = run_sync(filesystem.lookup(ino, name))
        assert attrs is not None
        ino = attrs.ino
    return ino


def entry(filesystem: NtfsFilesystem, folder: int, name: bytes) -> DirEntry:
    (found,) = [e for e in run_sync(filesystem.listdir(folder)) if e.name == name]
    return found


@pytest.mark.parametrize("damage", [bytes(512), b"\xff" * 512, None])
def test_backup_of_the_boot_sector(image: Image, damage: bytes | None) -> None:
    expected = run_sync(image.open().listdir(ROOT))
    if damage is None:
        image.set(13, b"\x03")
    else:
        image.set(0, damage)
    filesystem = image.open()
    assert run_sync(filesystem.listdir(ROOT)) == expected
    (warning,) = filesystem.info.warnings
    assert "backup" in warning


def test_backup_alone_is_no_volume(image: Image) -> None:
    image.set(0, bytes(512))
    image.set(image.boot.mft_offset, bytes(4))
    with pytest.raises(NotRecognised):
        image.open()


def test_mirror_of_the_first_records(image: Image) -> None:
    expected = run_sync(image.open().listdir(ROOT))
    image.set(image.record_at(0) + 510, b"??")
    filesystem = image.open()
    assert run_sync(filesystem.listdir(ROOT)) == expected
    (warning,) = filesystem.info.warnings
    assert "mirror" in warning


def test_both_first_records_damaged(image: Image) -> None:
    image.set(image.record_at(0) + 510, b"??")
    image.set(image.boot.mirror_offset + 510, b"??")
    with pytest.raises(Corrupt, match="torn record"):
        image.open()


def test_other_formats() -> None:
    for data in (b"", bytes(100), bytes(1 << 20), random.Random(1).randbytes(1 << 20)):
        with pytest.raises(NotRecognised):
            run_sync(open_ntfs(BytesReader(data)))


def test_a_dirty_volume_says_so(image: Image) -> None:
    record = image.record_at(3)
    info = image.data.index(struct.pack("<BBH", 3, 1, 0), record, record + 1024)
    image.set(info + 2, b"\x01")
    assert "dirty" in image.open().info.warnings[0]


def test_a_volume_cut_short(pristine: bytes) -> None:
    image = Image(pristine[: len(pristine) * 3 // 4])
    filesystem = image.open()
    assert any("only" in warning for warning in filesystem.info.warnings)


def test_records_beyond_the_end_of_a_volume_cut_short(image: Image) -> None:
    first_lost = image.record_at(100)
    image.size = first_lost
    mft = run_sync(open_mft(image, image.boot, image.boot.mft_offset))
    found = run_sync(mft.records(range(70, 110)))
    assert [ino for ino, record in found.items() if isinstance(record, Corrupt)] == [
        *range(100, 110)
    ]
    with pytest.raises(Corrupt, match="record number"):
        run_sync(mft.record(mft.count))


def test_a_torn_record_costs_its_file_only(image: Image) -> None:
    filesystem = image.open()
    many = find(filesystem, b"many")
    before = run_sync(filesystem.listdir(many))
    victim = before[100]
    image.set(image.record_at(victim.ino) + 510, b"??")
    filesystem = image.open()
    after = run_sync(filesystem.listdir(many))
    assert [e.name for e in after] == [e.name for e in before]
    assert [e for e in after if e.attrs is None] == [DirEntry(victim.name, victim.ino, 0, None)]
    assert [e for e in after if e.ino != victim.ino] == [e for e in before if e.ino != victim.ino]
    with pytest.raises(Corrupt, match="torn record"):
        run_sync(filesystem.data(victim.ino))
    with pytest.raises(Corrupt, match="torn record"):
        run_sync(filesystem.lookup(many, victim.name))


def test_a_deleted_record_is_no_file(image: Image) -> None:
    filesystem = image.open()
    ino = find(filesystem, b"size 100")
    at = image.record_at(ino) + RECORD.offset("flags")
    image.set(at, b"\0\0")
    filesystem = image.open()
    assert entry(filesystem, ROOT, b"size 100").attrs is None
    with pytest.raises(Corrupt, match="name of a deleted file"):
        run_sync(filesystem.lookup(ROOT, b"size 100"))
    with pytest.raises(FileNotFoundError):
        run_sync(filesystem.attrs(ino))


def data_attribute(image: Image, ino: int) -> int:
    """Return the offset of a file's $DATA attribute in the image."""
    record = image.record_at(ino)
    position = record + struct.unpack_from("<H", image.data, record + 20)[0]
    while True:
        kind, length = struct.unpack_from("<II", image.data, position)
        if kind == 0x80:
            return int(position)
        assert kind < 0x80
        position += length


@pytest.mark.parametrize(
    ("flags", "feature"),
    [(0x4000, "EFS"), (0x0002, "compression method"), (0x0100, "attribute flags")],
)
def test_data_stored_in_unknown_ways_is_refused(image: Image, flags: int, feature: str) -> None:
    ino = find(image.open(), b"size 65536")
    image.set(data_attribute(image, ino) + 12, struct.pack("<H", flags))
    filesystem = image.open()
    with pytest.raises(Unsupported, match=feature):
        run_sync(filesystem.data(ino))
    assert entry(filesystem, ROOT, b"size 65536").attrs is not None


def test_valid_size(image: Image) -> None:
    ino = find(image.open(), b"size 65536")
    at = data_attribute(image, ino) + 56
    image.set(at, struct.pack("<Q", 1000))
    data = run_sync(image.open().data(ino))
    assert (data.size, data.valid) == (65536, 1000)
    image.set(at, struct.pack("<Q", 65537))
    with pytest.raises(Corrupt):
        run_sync(image.open().data(ino))


def test_runs_beyond_the_volume(image: Image) -> None:
    ino = find(image.open(), b"size 65536")
    at = data_attribute(image, ino)
    (offset,) = struct.unpack_from("<H", image.data, at + 32)
    runs = b"\x31\x10" + (image.boot.clusters - 15).to_bytes(3, "little") + b"\0"
    image.set(at + offset, runs)
    with pytest.raises(Corrupt, match="outside the volume"):
        run_sync(image.open().data(ino))


def index_blocks(image: Image, folder: int) -> list[int]:
    """Return where the index blocks of a directory are: those whose first name is in it."""
    blocks = []
    position = image.data.find(b"INDX")
    while position >= 0:
        (first,) = struct.unpack_from("<I", image.data, position + 24)
        (parent,) = struct.unpack_from("<Q", image.data, position + 24 + first + 16)
        if parent & (1 << 48) - 1 == folder:
            blocks.append(position)
        position = image.data.find(b"INDX", position + 4096)
    return blocks


def test_a_loop_in_an_index(image: Image) -> None:
    many = find(image.open(), b"many")
    blocks = index_blocks(image, many)
    assert len(blocks) > 5
    # The last entry of every block gets the block itself as its child.
    for block in blocks:
        vcn, first = struct.unpack_from("<QI", image.data, block + 16)
        entry_at = block + 24 + first
        length, _, flags = struct.unpack_from("<HHH", image.data, entry_at + 8)
        while not flags & 2:
            entry_at += length
            length, _, flags = struct.unpack_from("<HHH", image.data, entry_at + 8)
        image.set(entry_at + 8, struct.pack("<HHHHQ", 24, 0, 3, 0, vcn))
        image.set(block + 28, struct.pack("<I", entry_at + 24 - block - 24))
    image.reads = 0
    filesystem = image.open()
    with pytest.raises(Corrupt, match="twice"):
        run_sync(filesystem.lookup(many, b"after all others"))
    assert image.reads < 50


def test_a_damaged_index_block_is_an_error_for_its_directory(image: Image) -> None:
    many = find(image.open(), b"many")
    image.set(index_blocks(image, many)[3] + 510, b"??")
    filesystem = image.open()
    with pytest.raises(Corrupt, match="torn record"):
        run_sync(filesystem.listdir(many))
    assert run_sync(filesystem.attrs(find(filesystem, b"size 100"))).size == 100


def test_a_damaged_index_is_read_and_decoded_once(image: Image) -> None:
    names = [e.name for e in run_sync(image.open().listdir(find(image.open(), b"many")))][:200]
    for block in index_blocks(image, find(image.open(), b"many")):
        image.set(block + 510, b"??")
    filesystem = image.open()
    many = find(filesystem, b"many")
    for attempt in range(2):
        image.reads = 0
        errors = 0
        for name in names:
            try:
                run_sync(filesystem.lookup(many, name))
            except Corrupt:
                errors += 1
        assert errors > 100
        assert image.reads == 0 if attempt else image.reads < len(names) // 2


def test_without_upcase_a_directory_is_decoded_once(image: Image) -> None:
    image.set(image.record_at(10) + 510, b"??")
    filesystem = image.open()
    many = find(filesystem, b"many")
    names = [entry.name for entry in run_sync(filesystem.listdir(many))]
    image.reads = 0
    for name in names:
        assert run_sync(filesystem.lookup(many, name)) is not None
    assert image.reads < 10


def test_without_upcase_names_are_found_all_the_same(image: Image) -> None:
    image.set(image.record_at(10) + 510, b"??")
    filesystem = image.open()
    assert "exact case" in filesystem.info.warnings[0]
    assert find(filesystem, b"names", b"CASE") != find(filesystem, b"names", b"Case")


@pytest.mark.requirement("R22")
def test_an_error_of_the_disk_is_passed_on(image: Image) -> None:
    filesystem = image.open()
    many = find(filesystem, b"many")
    first = find(filesystem, b"many", b"A file with number 00001.txt")
    filesystem = image.open()
    image.broken = (image.record_at(first), image.record_at(first) + 1)
    with pytest.raises(OSError, match="the disk is gone"):
        run_sync(filesystem.listdir(many))
    image.broken = None
    assert len(run_sync(filesystem.listdir(many))) > 500


MAX_READS = 5000
"""Of a whole walk: an undamaged one takes some 100."""


async def use_all(filesystem: NtfsFilesystem) -> int:
    """Do everything to everything, passing over what is damaged; return how many things worked."""
    worked = 0
    todo, seen = [filesystem.root], set[int]()
    while todo:
        ino = todo.pop()
        if ino in seen:
            continue
        seen.add(ino)
        try:
            entries = await filesystem.listdir(ino)
        except (ParseError, NotADirectoryError, FileNotFoundError):
            continue
        for found in entries:
            if found.attrs is None:
                continue
            assert found.attrs.size >= 0
            try:
                if found.kind == stat.S_IFDIR:
                    todo.append(found.ino)
                elif found.kind == stat.S_IFLNK:
                    await filesystem.readlink(found.ino)
                elif found.kind == stat.S_IFREG:
                    data = await filesystem.data(found.ino)
                    assert 0 <= data.valid <= data.size
                await filesystem.xattrs(found.ino)
                await filesystem.lookup(ino, found.name)
                worked += 1
            except ParseError:
                continue
    return worked


@pytest.mark.requirement("R22")
@pytest.mark.parametrize("seed", range(40))
def test_mutations(pristine: bytes, seed: int) -> None:
    chosen = random.Random(seed)
    image = Image(pristine)
    boot = image.boot
    indexes = []
    position = image.data.find(b"INDX")
    while position >= 0:
        indexes.append(position)
        position = image.data.find(b"INDX", position + 4096)
    for _ in range(chosen.choice((5, 50, 500))):
        kind = chosen.random()
        if kind < 0.1:
            at = chosen.randrange(0, 80)
        elif kind < 0.7:
            at = boot.mft_offset + chosen.randrange(700) * boot.record_size + chosen.randrange(500)
        else:
            at = chosen.choice(indexes) + chosen.randrange(4096)
        value = chosen.choice((b"\0", b"\xff", b"\x7f", chosen.randbytes(1), chosen.randbytes(4)))
        image.set(at, value)
    if seed % 8 == 7:
        image.size = chosen.randrange(image.size)
    try:
        filesystem = image.open()
    except ParseError:
        return
    worked = run_sync(use_all(filesystem))
    assert image.reads < MAX_READS
    assert worked >= 0
