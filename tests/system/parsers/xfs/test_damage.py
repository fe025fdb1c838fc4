"""Damage: what it costs, and what stays readable. Places are found by xfs_db."""

from __future__ import annotations

import random
import re
import struct
import time
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from fixtures.xfs import XfsFixture, xfs_db
from fixtures.xfs_states import STATES, build_state, log_place
from tests.support.parsers.ext.support import FileSource, resolve, run
from vmount.parsers.errors import Corrupt, NotRecognised, ParseError, Unsupported
from vmount.parsers.model import Runs
from vmount.parsers.reader import Buffer, Span, check_bounds
from vmount.parsers.xfs.checksum import crc32c
from vmount.parsers.xfs.filesystem import XfsFilesystem, open_xfs

Volume = Callable[[str], XfsFixture]


class Patient:
    """A BlockSource over a volume to be damaged, with a limit to the number of reads."""

    def __init__(self, image: Path, limit: int = 20_000) -> None:
        self._image = image
        self._source = FileSource(image)
        self.size = self._source.size
        self._patches: list[tuple[int, bytes]] = []
        self.left = limit

    def put(self, offset: int, value: bytes) -> None:
        self._patches.append((offset, value))

    def flip(self, offset: int) -> None:
        self.put(offset, bytes([self.get(offset, 1)[0] ^ 0x55]))

    def get(self, offset: int, length: int) -> bytes:
        result = bytearray(self._source.try_read(offset, length))
        self._source.reads.clear()
        for at, value in self._patches:
            first, end = max(at, offset), min(at + len(value), offset + length)
            if first < end:
                result[first - offset : end - offset] = value[first - at : end - at]
        return bytes(result)

    def seal(self, offset: int, length: int, crc_at: int) -> None:
        """Give a structure the checksum that its contents should have."""
        data = self.get(offset, length)
        computed = crc32c(data[:crc_at] + bytes(4) + data[crc_at + 4 :])
        self.put(offset + crc_at, computed.to_bytes(4, "little"))

    def try_read(self, offset: int, length: int) -> Buffer:
        check_bounds(offset, length, self.size)
        self.left -= 1
        assert self.left >= 0, "too many reads"
        return self.get(offset, length)

    async def read(self, offset: int, length: int) -> Buffer:
        return self.try_read(offset, length)

    def prefetch(self, spans: Sequence[Span]) -> None:
        for span in spans:
            assert span.length > 0

    def open(self) -> XfsFilesystem:
        return run(open_xfs(self))

    def inode(self, path: str) -> int:
        """Return the offset of a file's inode."""
        output = xfs_db(self._image, f"path /{path}", "addr")
        found = re.search(r"byte offset (\d+), length", output)
        assert found, output
        return int(found[1])

    def blocks(self, path: str, fork: str = "") -> list[int]:
        """Return the offsets of the first block of each extent of a file."""
        output = xfs_db(self._image, f"path /{path}", f"bmap {fork}")
        geometry = xfs_db(self._image, "sb 0", "p blocksize agblocks")
        block_size, group_blocks = (int(line.split()[-1]) for line in geometry.splitlines())
        return [
            (int(group) * group_blocks + int(block)) * block_size
            for group, block in re.findall(r"\((\d+)/(\d+)\)", output)
        ]


def readable(volume: XfsFilesystem, path: bytes) -> bool:
    layout = run(volume.data(resolve(volume, path).ino)).layout
    return isinstance(layout, Runs) and len(layout.runs) > 0


def test_inode_costs_its_file_only(xfs_volume: Volume) -> None:
    patient = Patient(xfs_volume("xfs-default").image)
    at = patient.inode("files/size-100")
    patient.flip(at + 60)
    volume = patient.open()
    listing = {child.name: child for child in run(volume.listdir(resolve(volume, b"files").ino))}
    assert listing[b"size-100"].attrs is None
    assert listing[b"size-1023"].attrs is not None
    with pytest.raises(Corrupt, match=rf"inode \d+: checksum at {at:#x}"):
        run(volume.data(listing[b"size-100"].ino))
    assert readable(volume, b"files/size-1023")


@pytest.mark.parametrize(
    ("offset", "message"),
    [(0, "magic"), (152, "its own number"), (160, "UUID of the volume"), (2, "an unknown type")],
)
def test_inode_that_is_another(xfs_volume: Volume, offset: int, message: str) -> None:
    """With a checksum that is right."""
    patient = Patient(xfs_volume("xfs-default").image)
    at = patient.inode("files/size-100")
    patient.flip(at + offset)
    patient.seal(at, 512, 100)
    volume = patient.open()
    listing = {child.name: child for child in run(volume.listdir(resolve(volume, b"files").ino))}
    with pytest.raises(Corrupt, match=message):
        run(volume.attrs(listing[b"size-100"].ino))


@pytest.mark.parametrize(
    ("offset", "message"),
    [
        (8, "its own block number"),
        (24, "UUID of the volume"),
        (40, "its inode"),
        (0, "magic"),
        (64 + 16 + 16 + 8, "cut off|tag"),
    ],
)
def test_directory_block_that_is_another(xfs_volume: Volume, offset: int, message: str) -> None:
    patient = Patient(xfs_volume("xfs-default").image)
    [at] = patient.blocks("names")
    patient.flip(at + offset)
    volume = patient.open()
    with pytest.raises(Corrupt, match=rf"directory block: checksum at {at:#x}"):
        run(volume.listdir(resolve(volume, b"names").ino))
    patient.seal(at, 4096, 4)
    volume = patient.open()
    with pytest.raises(Corrupt, match=message):
        run(volume.listdir(resolve(volume, b"names").ino))
    assert readable(volume, b"files/size-100")


def test_lookup_falls_back_to_looking_at_everything(xfs_volume: Volume) -> None:
    patient = Patient(xfs_volume("xfs-default").image)
    for at in patient.blocks("large"):
        if patient.get(at + 8, 2) in (b"\x3e\xbe", b"\x3d\xf1"):
            patient.flip(at + 100)
    volume = patient.open()
    folder = resolve(volume, b"large").ino
    for child in run(volume.listdir(folder))[::100]:
        assert run(volume.lookup(folder, child.name)) == child.attrs
    assert run(volume.lookup(folder, b"not there")) is None


def test_a_lookup_reads_little_of_a_large_directory(xfs_volume: Volume) -> None:
    source = FileSource(xfs_volume("xfs-default").image)
    volume = run(open_xfs(source))
    folder = resolve(volume, b"large").ino
    names = [child.name for child in run(volume.listdir(folder))]
    source.reads.clear()
    for name in (names[0], names[1234], names[-1], b"not there"):
        run(volume.lookup(folder, name))
        assert len(source.reads) <= 4
        source.reads.clear()


def test_extent_tree_costs_its_file_only(xfs_volume: Volume) -> None:
    """A leaf that is damaged, one that is its own child, and a child outside the volume."""
    fixture = xfs_volume("xfs-default")
    patient = Patient(fixture.image)
    inode = patient.inode("fragments")
    level, count = struct.unpack(">HH", patient.get(inode + 176, 4))
    assert level == 1
    assert count > 1
    fork_offset = patient.get(inode + 82, 1)[0] * 8 or 512 - 176
    pointers = inode + 176 + 4 + (fork_offset - 4) // 16 * 8
    first = patient.get(pointers, 8)
    patient.put(pointers + 8, first)
    patient.seal(inode, 512, 100)
    volume = patient.open()
    with pytest.raises(Corrupt, match="used twice"):
        run(volume.data(resolve(volume, b"fragments").ino))
    patient.put(pointers + 8, b"\0\0\0\1" * 2)
    patient.seal(inode, 512, 100)
    volume = patient.open()
    with pytest.raises(Corrupt, match="outside the volume"):
        run(volume.data(resolve(volume, b"fragments").ino))
    assert readable(volume, b"files/size-100")


def test_remote_value_and_link(xfs_volume: Volume) -> None:
    patient = Patient(xfs_volume("xfs-default").image)
    link = patient.blocks("links/link-1000")[0]
    patient.flip(link + 100)
    for extent in patient.blocks("attributes/longest", "-a"):
        for at in range(extent, extent + 8 * 4096, 4096):
            if patient.get(at, 4) == b"XARM":
                patient.flip(at + 2000)
    volume = patient.open()
    with pytest.raises(Corrupt, match=rf"symbolic link: checksum at {link:#x}"):
        run(volume.readlink(resolve(volume, b"links/link-1000").ino))
    with pytest.raises(Corrupt, match="attribute's value: checksum"):
        run(volume.xattrs(resolve(volume, b"attributes/longest").ino))
    assert run(volume.readlink(resolve(volume, b"links/link-255").ino)) == b"t" * 255


@pytest.mark.parametrize(
    ("bit", "name"), [(0x100, "METADIR"), (0x200, "ZONED"), (0x4000, "feature 0x4000")]
)
def test_unknown_features_are_named(xfs_volume: Volume, bit: int, name: str) -> None:
    patient = Patient(xfs_volume("xfs-default").image)
    (features,) = struct.unpack(">I", patient.get(216, 4))
    patient.put(216, struct.pack(">I", features | bit))
    patient.seal(0, 512, 224)
    with pytest.raises(Unsupported, match=name):
        patient.open()


def test_a_volume_that_needs_repair_says_so(xfs_volume: Volume) -> None:
    patient = Patient(xfs_volume("xfs-default").image)
    (features,) = struct.unpack(">I", patient.get(216, 4))
    patient.put(216, struct.pack(">I", features | 0x10))
    patient.seal(0, 512, 224)
    [warning] = patient.open().info.warnings
    assert "xfs_repair" in warning


def test_superblock(xfs_volume: Volume) -> None:
    patient = Patient(xfs_volume("xfs-default").image)
    patient.flip(84)
    with pytest.raises(Corrupt, match="superblock: checksum"):
        patient.open()
    patient.seal(0, 512, 224)
    with pytest.raises(Corrupt, match="superblock: group"):
        patient.open()
    patient.put(0, b"XFSC")
    with pytest.raises(NotRecognised):
        patient.open()


def test_damaged_log_is_named(xfs_folder: Path) -> None:
    """The tail's record is not whole: what the volume has without its log is shown, and that is said."""
    fixture = build_state(STATES[-1], xfs_folder)
    where, length = log_place(fixture.image)
    patient = Patient(fixture.image)
    for at in range(where, where + length, 512):
        if patient.get(at, 4) == b"\xfe\xed\xba\xbe":
            patient.flip(at + 1200)
    [warning, *_] = patient.open().info.warnings
    assert "the log has not been replayed: the last changes may be missing" in warning


@pytest.mark.requirement("R22")
def test_an_entry_with_a_number_of_64_bits(xfs_volume: Volume) -> None:
    """It would be taken for a file of another volume."""
    patient = Patient(xfs_volume("xfs-v4-512").image)
    volume = patient.open()
    folder = resolve(volume, b"names").ino
    before = {child.name: child.ino for child in run(volume.listdir(folder))}
    block = patient.blocks("names")[0]
    name = max((name for name in before if name in patient.get(block, 512)), key=len)
    at = block + patient.get(block, 512).index(len(name).to_bytes() + name) - 8
    assert patient.get(at, 8) == before[name].to_bytes(8)
    patient.put(at, b"\x7f" * 8)
    after = {child.name: child for child in run(patient.open().listdir(folder))}
    assert after.keys() == before.keys()
    assert (after[name].ino, after[name].attrs) == (0, None)
    with pytest.raises(Corrupt, match="outside the volume"):
        run(patient.open().lookup(folder, name))


MUTATED = ["xfs-1k-dir-4k", "xfs-v4-512", "xfs-v4-dir-16k"]


@pytest.mark.requirement("R22")
@pytest.mark.parametrize("name", MUTATED)
def test_mutated_volumes_give_values_or_parse_errors(xfs_volume: Volume, name: str) -> None:
    """Random damage where a walk reads: within a bounded number of reads, of memory and of time."""
    _mutate(xfs_volume(name).image, name)


@pytest.mark.requirement("R22")
def test_mutated_logs_give_values_or_parse_errors(xfs_folder: Path) -> None:
    _mutate(build_state(STATES[0], xfs_folder).image, "log", (10, 60, 60))


def _mutate(image: Path, seed: str, changes: tuple[int, ...] = (1, 10, 60)) -> None:
    source = FileSource(image)
    assert _use_all(run(open_xfs(source))) == 0
    # A read of no bytes is a turn for others.
    spans = sorted({span for span in source.reads if span.length})
    rng = random.Random(seed)
    started = time.process_time()
    tracemalloc.start()
    opened = refused = 0
    for _ in range(8):
        patient = Patient(image)
        for _ in range(rng.choice(changes)):
            span = rng.choice(spans)
            at = span.offset + min(rng.randrange(span.length), rng.randrange(4096))
            length = rng.choice((1, 1, 2, 4, 8))
            patient.put(at, rng.choice((b"\0" * 8, b"\xff" * 8, rng.randbytes(8)))[:length])
        if rng.random() < 0.1:
            patient.size = rng.randrange(patient.size)
        try:
            volume = patient.open()
            opened += 1
            refused += len(volume.info.warnings) + _use_all(volume)
        except ParseError:
            refused += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert opened
    assert refused
    assert peak < 400 << 20
    assert time.process_time() - started < 60


def _use_all(volume: XfsFilesystem) -> int:
    """Call everything on everything that can be reached; return the number of refusals."""
    refused = 0
    pending, seen = [volume.root], {volume.root}
    while pending:
        ino = pending.pop()
        for call in (volume.xattrs, volume.data, volume.readlink):
            with suppress(OSError):
                try:
                    run(call(ino))
                except ParseError:
                    refused += 1
        try:
            children = run(volume.listdir(ino))
        except NotADirectoryError:
            continue
        except ParseError:
            refused += 1
            continue
        for child in children:
            refused += child.attrs is None
            if child.ino not in seen:
                seen.add(child.ino)
                pending.append(child.ino)
        for child in children[:3]:
            with suppress(ParseError):
                run(volume.lookup(ino, child.name))
    return refused
