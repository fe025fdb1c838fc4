"""A VMware virtual disk as a block source: its snapshot chain flattened.

Strategy: the disk is resolved region by region, on first use, into pieces that name the file (or zeros, or a
compressed grain) that has each range and the sum that leads there. A read then bisects; how many links the
chain has, and what formats, no longer matters. Regions are forgotten in the order of their last use. What
is resolved depends on the tables in the files alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.lru import Lru
from vmount.parsers.reader import BlockSource, Buffer, Span, check_bounds
from vmount.parsers.vmdk.chain import ChainReader, Link
from vmount.parsers.vmdk.opener import FileOpener
from vmount.parsers.vmdk.pieces import MAX_READ, ZEROS, DiskPiece, append
from vmount.parsers.vmdk.stream import GRAIN_CACHE, CompressedGrain, GrainCache
from vmount.parsers.vmdk.tablefile import TableCache

REGION_CACHE = 32 << 20
"""Bytes of resolved regions kept for a disk: 1,000 GiB of unfragmented hosted sparse disk and more."""

HINT_LIMIT = 256 << 20
"""Bytes of a span that a hint is taken for: nobody reads more of it soon."""

_PIECE_COST, _REGION_COST = 100, 400
"""Bytes that a piece, and a region without its pieces, take in memory, roughly."""

_WHOLE = 62
"""The shift of a disk without tables, which is one region."""


class AllocatedRange(NamedTuple):
    """A range of a disk that is stored somewhere in its chain, or is not."""

    offset: int
    length: int
    allocated: bool


class _Region(NamedTuple):
    """A resolved region: the ends of its pieces, and for each its source and the way there."""

    ends: list[int]
    sources: list[BlockSource]
    deltas: list[int]


def _cost(region: _Region) -> int:
    return _REGION_COST + _PIECE_COST * len(region.ends)


class _Part(NamedTuple):
    source: BlockSource
    start: int
    length: int


async def open_vmdk(opener: FileOpener, name: str, *, force: bool = False) -> VmdkDisk:
    """Open a virtual disk by its descriptor, or by the one file that holds it and its descriptor.

    With `force`, a snapshot whose parent has changed since is a warning and not an error.
    Raises NotRecognised if the file is no VMDK, Corrupt for damage, Unsupported for raw device mappings,
    encrypted disks and unknown versions, OSError where a file of the chain is missing or unreadable.
    """
    warnings: list[str] = []
    grains = GrainCache(GRAIN_CACHE, len)
    links = await ChainReader(opener, TableCache(), grains, warnings.append, force=force).open(name)
    disk = VmdkDisk(links, warnings)
    await disk.resolve_solid()
    return disk


class VmdkDisk:
    """An open virtual disk."""

    def __init__(self, links: tuple[Link, ...], warnings: list[str]) -> None:
        """`links` has the disk itself first; `warnings` may grow while the disk is read."""
        self.links = links
        self.size = links[0].size
        """Bytes."""
        self._warnings = warnings
        regions = [
            extent.region for link in links for extent in link.extents if extent.region is not None
        ]
        self._shift = min(regions).bit_length() - 1 if regions else _WHOLE
        self._regions: Lru[int, _Region] = Lru(REGION_CACHE, _cost)

    @property
    def format(self) -> str:
        """The createType of the disk itself ("monolithicSparse")."""
        return self.links[0].descriptor.create_type

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was found wrong and could be dealt with, one sentence each, naming the file."""
        return tuple(dict.fromkeys(self._warnings))

    async def resolve_solid(self) -> None:
        """Resolve a disk that has no tables, so that every read of it can do without waiting."""
        if self._shift == _WHOLE and self.size:
            await self._region(0)

    def try_read(self, offset: int, length: int) -> Buffer | None:
        """Return `length` bytes at `offset` if that takes no waiting, else None.

        Raises OutOfBounds, and Corrupt or Unsupported if a grain in the range cannot be read.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            check_bounds(offset, length, self.size)
        if not length:
            return b""
        region = self._regions.get(offset >> self._shift)
        if region is None:
            return None
        ends, sources, deltas = region
        index = bisect_right(ends, offset)
        if offset + length <= ends[index]:
            return sources[index].try_read(offset + deltas[index], length)
        parts = self._known_parts(offset, length)
        if parts is None:
            return None
        buffers = []
        for source, start, size in parts:
            buffer = source.try_read(start, size)
            if buffer is None:
                return None
            buffers.append(buffer)
        return buffers[0] if len(buffers) == 1 else b"".join(buffers)

    async def read(self, offset: int, length: int) -> Buffer:
        """Return `length` bytes at `offset`.

        Raises as `try_read` does, and OSError where a file cannot be read.
        """
        found = self.try_read(offset, length)
        if found is not None:
            return found
        parts: list[_Part] = []
        end = offset + length
        for index in range(offset >> self._shift, ((end - 1) >> self._shift) + 1):
            _collect(parts, await self._region(index), self._clip(index, offset, end))
        if len(parts) == 1:
            return await parts[0].source.read(parts[0].start, parts[0].length)
        return b"".join(await _read_parts(parts))

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Pass the hint on to the files: for data where it is resolved, for tables where it is not."""
        for span in spans:
            start = max(span.offset, 0)
            end = min(span.offset + span.length, self.size, start + HINT_LIMIT)
            if start >= end:
                continue
            for index in range(start >> self._shift, ((end - 1) >> self._shift) + 1):
                region = self._regions.get(index)
                window = self._clip(index, start, end)
                if region is None:
                    for link in self.links:
                        link.hint(window.offset, window.offset + window.length)
                    continue
                parts: list[_Part] = []
                _collect(parts, region, window)
                for part in parts:
                    part.source.prefetch([Span(part.start, part.length)])

    async def allocated(self, offset: int, length: int) -> Sequence[AllocatedRange]:
        """Tell which parts of a range are stored in a file of the chain.

        Only a hint: the rest reads as zeros, and so may what is stored. Raises as `read` does.
        """
        check_bounds(offset, length, self.size)
        found: list[AllocatedRange] = []
        end = offset + length
        for index in range(offset >> self._shift, ((end - 1) >> self._shift) + 1 if length else 0):
            parts: list[_Part] = []
            window = self._clip(index, offset, end)
            _collect(parts, await self._region(index), window)
            at = window.offset
            for part in parts:
                allocated = part.source is not ZEROS
                if found and found[-1].allocated == allocated:
                    found[-1] = found[-1]._replace(length=found[-1].length + part.length)
                else:
                    found.append(AllocatedRange(at, part.length, allocated))
                at += part.length
        return found

    def _known_parts(self, offset: int, length: int) -> list[_Part] | None:
        parts: list[_Part] = []
        end = offset + length
        for index in range(offset >> self._shift, ((end - 1) >> self._shift) + 1):
            region = self._regions.get(index)
            if region is None:
                return None
            _collect(parts, region, self._clip(index, offset, end))
        return parts

    def _clip(self, index: int, start: int, end: int) -> Span:
        """Return what of [start, end) lies in a region."""
        first = max(start, index << self._shift)
        return Span(first, min(end, (index + 1) << self._shift) - first)

    async def _region(self, index: int) -> _Region:
        region = self._regions.get(index)
        if region is None:
            start = index << self._shift
            pieces = await self._resolve(start, min(start + (1 << self._shift), self.size))
            region = _Region(
                [piece.end for piece in pieces],
                [ZEROS if piece.source is None else piece.source for piece in pieces],
                [piece.delta for piece in pieces],
            )
            self._regions.put(index, region)
        return region

    async def _resolve(self, start: int, end: int) -> list[DiskPiece]:
        """Find out who has the bytes of a range, link by link, asking each only for what is left."""
        if len(self.links) > 1:
            await self._load_tables(start, end)
        found: list[DiskPiece] = []
        gaps = [(start, end)]
        for link in self.links:
            if not gaps:
                break
            gaps = _overlay(found, gaps, await link.pieces(gaps[0][0], gaps[-1][1]))
        found.extend(DiskPiece(first, last, ZEROS, 0) for first, last in gaps)
        found.sort(key=lambda piece: piece.start)
        joined: list[DiskPiece] = []
        for piece in found:
            append(joined, piece)
        return joined

    async def _load_tables(self, start: int, end: int) -> None:
        """Have the files fetch the tables of all links at once, not one link after the other."""
        for link in self.links:
            link.hint(start, end)
        for link in self.links:
            try:
                await link.load_directories(start, end)
            except Corrupt:
                continue  # Reading the grains will tell.
        for link in self.links:
            link.hint(start, end)


def _overlay(
    found: list[DiskPiece], gaps: list[tuple[int, int]], below: list[DiskPiece]
) -> list[tuple[int, int]]:
    """Fill gaps with what a link contains there, in `found`; return the remaining gaps. All are in order."""
    left: list[tuple[int, int]] = []
    first = 0
    for start, end in gaps:
        while below[first].end <= start:
            first += 1
        index = first
        while index < len(below) and below[index].start < end:
            piece = below[index]
            low, high = max(start, piece.start), min(end, piece.end)
            if piece.source is not None:
                found.append(DiskPiece(low, high, piece.source, piece.delta))
            elif left and left[-1][1] == low:
                left[-1] = left[-1][0], high
            else:
                left.append((low, high))
            index += 1
        first = index - 1
    return left


def _collect(parts: list[_Part], region: _Region, window: Span) -> None:
    """Add the parts of a window of a region; what goes on in the same file becomes one."""
    ends, sources, deltas = region
    offset, end = window.offset, window.offset + window.length
    index = bisect_right(ends, offset)
    while offset < end:
        stop = min(ends[index], end)
        source, start = sources[index], offset + deltas[index]
        last = parts[-1] if parts else None
        if last is not None and last.source is source and last.start + last.length == start:
            parts[-1] = _Part(source, last.start, last.length + stop - offset)
        else:
            parts.append(_Part(source, start, stop - offset))
        offset = stop
        index += 1


async def _read_parts(parts: list[_Part]) -> list[Buffer]:
    """Read parts; those that touch in their file are read at once, in whatever order they stand."""
    buffers: list[Buffer] = [b""] * len(parts)
    packed: dict[int, list[int]] = {}
    plain = []
    for number, part in enumerate(parts):
        if isinstance(part.source, CompressedGrain):
            packed.setdefault(id(part.source.extent), []).append(number)
        else:
            plain.append(number)
    batches = _batches(parts, plain)
    for batch in batches:
        first, last = parts[batch[0]], parts[batch[-1]]
        if len(batches) > 1:
            first.source.prefetch([Span(first.start, last.start + last.length - first.start)])
    for batch in batches:
        first, last = parts[batch[0]], parts[batch[-1]]
        data = memoryview(
            await first.source.read(first.start, last.start + last.length - first.start)
        )
        for number in batch:
            start = parts[number].start - first.start
            buffers[number] = data[start : start + parts[number].length]
    for numbers in packed.values():
        grains = [parts[n].source for n in numbers]
        compressed = [grain for grain in grains if isinstance(grain, CompressedGrain)]
        for number, decoded in zip(
            numbers, await compressed[0].extent.load(compressed), strict=True
        ):
            start = parts[number].start
            buffers[number] = decoded[start : start + parts[number].length]
    return buffers


def _batches(parts: list[_Part], numbers: list[int]) -> list[list[int]]:
    batches: list[list[int]] = []
    for number in sorted(numbers, key=lambda n: (id(parts[n].source), parts[n].start)):
        part = parts[number]
        if batches:
            first, last = parts[batches[-1][0]], parts[batches[-1][-1]]
            if (
                last.source is part.source
                and last.start + last.length == part.start
                and part.start + part.length - first.start <= MAX_READ
            ):
                batches[-1].append(number)
                continue
        batches.append([number])
    return batches
