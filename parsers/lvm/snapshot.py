"""A classic snapshot: an origin, and a store of the chunks in which the snapshot differs from it.

Strategy: the exceptions are read once, at open, and kept as sorted runs, so that reading is a bisection.
Source: Linux kernel, drivers/md/dm-snap-persistent.c and Documentation/admin-guide/device-mapper/snapshot.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.layout import Field, Layout
from vmount.parsers.lvm.composite import SourcePiece, announce, gather, joined, try_gather
from vmount.parsers.reader import Span, check_bounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.reader import BlockSource, Buffer, Reader

SECTOR = 512
MAGIC = 0x70416E53
MAX_CHUNK = 16 << 20
"""Bytes. LVM2 makes none larger than 512 KiB."""
MAX_EXCEPTIONS = 1 << 23
"""Changed chunks: 32 GiB of the smallest ones, and some 400 MiB of memory while they are sorted."""
AREAS_AHEAD = 64
"""Areas of exceptions that are fetched together."""

HEADER = Layout(
    "dm-snapshot header",
    Field("magic", "I", at=0x00, note="SnAp"),
    Field("valid", "I", at=0x04, note="0: the store was full"),
    Field("version", "I", at=0x08),
    Field("chunk_sectors", "I", at=0x0C, note="chunk_size: sectors of 512 bytes"),
    size=16,
    source="Linux drivers/md/dm-snap-persistent.c struct disk_header",
)
EXCEPTION = Layout(
    "dm-snapshot exception",
    Field("old_chunk", "Q", at=0x00, note="in the origin"),
    Field("new_chunk", "Q", at=0x08, note="in the store; 0: the table's end"),
    size=16,
    source="Linux drivers/md/dm-snap-persistent.c struct disk_exception",
)
_HEADER = HEADER.whole()
_EXCEPTION = EXCEPTION.whole()

_ORIGIN, _STORE = 0, 1


class SnapshotSource:
    """The bytes of a snapshot."""

    def __init__(
        self, origin: BlockSource, store: BlockSource, exceptions: Exceptions, size: int
    ) -> None:
        check_bounds(0, size, origin.size)
        self.size = size
        self._sources = (origin, store)
        self._exceptions = exceptions

    def try_read(self, offset: int, length: int) -> Buffer | None:
        """Return the bytes if origin and store have them at hand."""
        return try_gather(self._sources, self._pieces(offset, length))

    async def read(self, offset: int, length: int) -> Buffer:
        """Return the bytes."""
        return await gather(self._sources, self._pieces(offset, length))

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Pass the hint on to origin and store."""
        for offset, length in spans:
            if offset >= 0 and 0 < length <= self.size - offset:
                announce(self._sources, self._pieces(offset, length))

    def _pieces(self, offset: int, length: int) -> list[SourcePiece]:
        check_bounds(offset, length, self.size)
        return joined(self._exceptions.pieces(offset, length))


class Exceptions:
    """Which chunks are in the store, and where."""

    def __init__(self, chunk: int, old: array[int], new: array[int]) -> None:
        self.chunk = chunk
        """Bytes."""
        order = sorted(range(len(old)), key=old.__getitem__)
        self._first, self._store, self._count = array("Q"), array("Q"), array("Q")
        for index in order:
            chunk_number, place = old[index], new[index]
            if self._first:
                run = chunk_number - self._first[-1]
                if run < self._count[-1]:
                    raise Corrupt("snapshot store: a chunk twice", actual=chunk_number)
                if run == self._count[-1] and self._store[-1] + run == place:
                    self._count[-1] += 1
                    continue
            self._first.append(chunk_number)
            self._store.append(place)
            self._count.append(1)

    def pieces(self, offset: int, length: int) -> list[SourcePiece]:
        """Say where a range of the snapshot is."""
        found = []
        end = offset + length
        index = max(bisect_right(self._first, offset // self.chunk) - 1, 0)
        while offset < end:
            start = stop = end
            if index < len(self._first):
                start = self._first[index] * self.chunk
                stop = start + self._count[index] * self.chunk
            if offset >= stop:
                index += 1
            elif offset < start:
                part = min(start, end) - offset
                found.append(SourcePiece(_ORIGIN, offset, part))
                offset += part
            else:
                part = min(stop, end) - offset
                place = self._store[index] * self.chunk + offset - start
                found.append(SourcePiece(_STORE, place, part))
                offset += part
        return found


async def open_snapshot(origin: BlockSource, store: BlockSource, size: int) -> SnapshotSource:
    """Read a snapshot's store and return its bytes.

    Raises Unsupported for a snapshot whose store has run full: it lacks some of the chunks that it needs.
    """
    return SnapshotSource(origin, store, await read_exceptions(store), size)


async def read_exceptions(store: Reader) -> Exceptions:
    """Read the table of exceptions of a persistent store."""
    magic, valid, version, chunk_sectors = _HEADER.unpack(await store.read(0, _HEADER.size))
    if magic != MAGIC:
        raise Corrupt("snapshot store: magic", 0, expected=MAGIC, actual=magic)
    if not valid:
        raise Unsupported("a snapshot that is invalid because its store was full")
    if version != 1:
        raise Unsupported(f"snapshot store of version {version}")
    chunk = chunk_sectors * SECTOR
    if not 0 < chunk <= MAX_CHUNK or chunk_sectors & (chunk_sectors - 1):
        raise Corrupt("snapshot store: chunk size", 12, actual=chunk)
    chunks = store.size // chunk
    per_area = chunk // _EXCEPTION.size
    areas = range(1, chunks, per_area + 1)
    old, new = array("Q"), array("Q")
    for number, at in enumerate(areas):
        if number % AREAS_AHEAD == 0:
            # The table ends somewhere: asking for a few at first costs a small one little.
            ahead = areas[number : number + (AREAS_AHEAD if number else 2)]
            store.prefetch([Span(each * chunk, chunk) for each in ahead])
        area = Span(at * chunk, chunk)
        for old_chunk, new_chunk in _EXCEPTION.iter_unpack(await store.read(*area)):
            if new_chunk == 0:
                return Exceptions(chunk, old, new)
            if new_chunk >= chunks:
                raise Corrupt(
                    "snapshot store: a chunk beyond its end", area.offset, actual=new_chunk
                )
            if old_chunk > (1 << 63) // chunk:
                raise Corrupt(
                    "snapshot store: a chunk without an address", area.offset, actual=old_chunk
                )
            if len(old) == MAX_EXCEPTIONS:
                raise Unsupported(f"a snapshot with more than {MAX_EXCEPTIONS} changed chunks")
            old.append(old_chunk)
            new.append(new_chunk)
    return Exceptions(chunk, old, new)
