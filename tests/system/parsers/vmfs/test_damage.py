"""Damaged datastores: a value or an error that says what is wrong, in bounded time; never a hang."""

from __future__ import annotations

import random
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.parsers.vmfs.builder import BASE
from tests.support.parsers.vmfs.readers import FileReader, walk_parser
from vmount.parsers.errors import Corrupt, NotRecognised, ParseError, Unsupported
from vmount.parsers.model import Runs
from vmount.parsers.reader import Buffer, Span, check_bounds, run_sync
from vmount.parsers.vmfs.address import ROOT
from vmount.parsers.vmfs.descriptor import DESCRIPTOR_METADATA
from vmount.parsers.vmfs.filesystem import Vmfs, open_vmfs
from vmount.parsers.vmfs.fs_info import FS_INFO, FS_INFO_OFFSET
from vmount.parsers.vmfs.lvm import DEVICE_HEADER, DEVICE_HEADER_OFFSET

ROUNDS = 150
MOST_READS = 1500
MOST_BYTES = 400 << 20
METADATA_READ = 128 << 10
"""Bytes: what is read in larger pieces is not metadata, or is a directory."""


class Damaged:
    """A reader that has other bytes in some places, may end early, and counts."""

    def __init__(self, path: Path, patches: dict[int, bytes], size: int | None = None) -> None:
        self._reader = FileReader(path)
        self._patches = patches
        self.size = self._reader.size if size is None else size
        self.reads = self.bytes = 0
        self.spans: set[Span] = set()

    async def read(self, offset: int, length: int) -> Buffer:
        check_bounds(offset, length, self.size)
        self.reads += 1
        self.bytes += length
        assert self.reads <= MOST_READS
        assert self.bytes <= MOST_BYTES
        self.spans.add(Span(offset, length))
        data = bytearray(await self._reader.read(offset, length))
        for place, patch in self._patches.items():
            start = place - offset
            if -len(patch) < start < length:
                for index, byte in enumerate(patch):
                    if 0 <= start + index < length:
                        data[start + index] = byte
        return data

    def prefetch(self, spans: Sequence[Span]) -> None:
        pass


def visit(reader: Damaged) -> int:
    """Use whatever can be used, and return how many objects had errors."""
    try:
        filesystem = run_sync(open_vmfs([reader]))
    except ParseError:
        return 1
    errors = 0
    left = [filesystem.root]
    seen = set()
    while left:
        ino = left.pop()
        if ino in seen:
            continue
        seen.add(ino)
        try:
            listing = run_sync(filesystem.listdir(ino))
        except (ParseError, NotADirectoryError):
            errors += 1
            continue
        for entry in listing:
            if stat.S_ISDIR(entry.kind):
                left.append(entry.ino)
            else:
                errors += not use(filesystem, entry.ino, entry.kind)
    return errors


def use(filesystem: Vmfs, ino: int, kind: int) -> bool:
    try:
        if stat.S_ISLNK(kind):
            run_sync(filesystem.readlink(ino))
        elif stat.S_ISREG(kind):
            data = run_sync(filesystem.data(ino))
            if isinstance(data.layout, Runs):
                check_runs(filesystem, data.layout, data.size)
    except (ParseError, OSError):
        return False
    return True


def check_runs(filesystem: Vmfs, layout: Runs, size: int) -> None:
    position = 0
    for run in layout.runs:
        assert run.offset == position
        assert run.length > 0
        assert run.start is None or 0 <= run.start <= filesystem.volume.size - run.length
        position += run.length
    assert position == size


def test_random_damage_ends_in_a_value_or_an_error(luns: dict[str, Path], name: str) -> None:
    whole = Damaged(luns[name], {})
    assert visit(whole) == 1  # the raw device mapping
    spans = sorted(span for span in whole.spans if span.length <= METADATA_READ)
    dice = random.Random(name)
    failed = 0
    for _ in range(ROUNDS):
        patches = {}
        for _ in range(dice.choice([1, 4, 30])):
            span = dice.choice(spans)
            place = span.offset + min(dice.randrange(span.length), dice.randrange(2048))
            patches[place] = dice.choice(
                [dice.randbytes(1), dice.randbytes(8), b"\xff" * 4, bytes(4)]
            )
        failed += visit(Damaged(luns[name], patches)) > 1
    assert failed > ROUNDS // 10


@pytest.mark.parametrize("size", [0, 1 << 20, (1 << 20) + 600, 4 << 20, 0x130_0100, 512 << 20])
def test_a_truncated_device_is_refused(luns: dict[str, Path], name: str, size: int) -> None:
    with pytest.raises(ParseError):
        run_sync(open_vmfs([Damaged(luns[name], {}, size)]))


def test_unknown_versions_and_flags_are_refused_by_name(luns: dict[str, Path], name: str) -> None:
    header = BASE + FS_INFO_OFFSET
    lvm = DEVICE_HEADER_OFFSET + DEVICE_HEADER.offset("major_version")
    for place, patch, message in (
        (header + FS_INFO.offset("major_version"), b"\x0d", r"VMFS-3 \(file system version 13"),
        (header + FS_INFO.offset("major_version"), b"\x19", "file system version 25"),
        (header + FS_INFO.offset("config"), b"\0\0\1", "flag 0x10000"),
        (lvm, b"\7", "volume manager version 7"),
        (DEVICE_HEADER_OFFSET + (512 if name == "vmfs5" else 4096) + 16, b"\2", "RESIGNATURE"),
    ):
        with pytest.raises(Unsupported, match=message):
            run_sync(open_vmfs([Damaged(luns[name], {place: patch})]))
    with pytest.raises(NotRecognised):
        run_sync(open_vmfs([Damaged(luns[name], {header: b"\0"})]))


def descriptor_of(luns: dict[str, Path], name: str, file: bytes) -> tuple[int, int]:
    """Return a file's number and where its metadata is on the device."""
    reader = Damaged(luns[name], {})
    filesystem = run_sync(open_vmfs([reader]))
    attrs = run_sync(filesystem.lookup(ROOT, file))
    assert attrs is not None
    reader.spans.clear()
    run_sync(filesystem.attrs(attrs.ino))
    (place,) = reader.spans
    return attrs.ino, place.offset + (512 if name == "vmfs5" else 4096)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("flags", 0x40, "file flags 0x40"),
        ("addressing", 0x10D2, "addressing 0x10d2"),
        ("addressing", 6, "addressing 0x6"),
        ("addressing", 0, "addressing 0x0"),
    ],
)
def test_unknown_ways_of_addressing_are_refused_by_name(
    luns: dict[str, Path], name: str, field: str, value: int, message: str
) -> None:
    ino, metadata = descriptor_of(luns, name, b"big")
    patch = {metadata + DESCRIPTOR_METADATA.offset(field): value.to_bytes(4, "little")}
    filesystem = run_sync(open_vmfs([Damaged(luns[name], patch)]))
    assert run_sync(filesystem.attrs(ino)).size == (1 << 20) + 1
    with pytest.raises(Unsupported, match=message):
        run_sync(filesystem.data(ino))


def test_a_file_longer_than_its_addresses_is_damaged(luns: dict[str, Path], name: str) -> None:
    ino, metadata = descriptor_of(luns, name, b"big")
    length = (1 << 40).to_bytes(8, "little")
    patch = {metadata + DESCRIPTOR_METADATA.offset("length"): length}
    filesystem = run_sync(open_vmfs([Damaged(luns[name], patch)]))
    with pytest.raises(Corrupt, match="longer than its addresses"):
        run_sync(filesystem.data(ino))


def test_a_damaged_descriptor_costs_its_file_only(luns: dict[str, Path], name: str) -> None:
    ino, metadata = descriptor_of(luns, name, b"big")
    reader = Damaged(luns[name], {metadata: b"\xff\xff"})
    filesystem = run_sync(open_vmfs([reader]))
    listing = run_sync(filesystem.listdir(ROOT))
    assert [entry.name for entry in listing if entry.attrs is None] == [b"big"]
    with pytest.raises(Corrupt, match="address"):
        run_sync(filesystem.attrs(ino))


def test_a_device_read_again_shows_what_is_there_now(luns: dict[str, Path], name: str) -> None:
    """R43: descriptors are not kept, because a datastore is written to."""
    ino, metadata = descriptor_of(luns, name, b"small")
    patches: dict[int, bytes] = {}
    filesystem = run_sync(open_vmfs([Damaged(luns[name], patches)]))
    assert run_sync(filesystem.attrs(ino)).size == 5
    patches[metadata + DESCRIPTOR_METADATA.offset("length")] = b"\4"
    assert run_sync(filesystem.attrs(ino)).size == 4


def test_a_walk_without_damage_has_no_errors(luns: dict[str, Path], name: str) -> None:
    assert len(walk_parser(run_sync(open_vmfs([FileReader(luns[name])])))) > 130
