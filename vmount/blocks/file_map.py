"""A file's bytes over the volume it lies on.

Strategy: everything is worked out when the file is opened; a read is a bisect and a few sums. A read
that lies in one run is handed through without a copy. Reads end at the end of the file, as read(2) does;
within the file they are never short.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Protocol

from vmount.blocks.memory import PROCESS, Decoded, MemoryBudget
from vmount.parsers.errors import Corrupt
from vmount.parsers.model import Chunk, FileData, Inline, Packed, Runs
from vmount.parsers.reader import BlockSource, Buffer, Span
from vmount.parsers.runs import RunList

if TYPE_CHECKING:
    from collections.abc import Sequence

LARGEST_INLINE = 64 << 20
"""Bytes of a file that is kept in its record: far more than any record of any file system here holds, so
that a size without bytes behind it cannot take the memory."""

DECODED: Decoded[tuple[int, int]] = Decoded(PROCESS)
"""Decoded chunks of all open packed files: the kernel asks for less than a chunk at a time, and often for the
one before again."""
_TOKENS = itertools.count()


class FileMap(Protocol):
    """An open file."""

    @property
    def size(self) -> int:
        """Bytes in the file."""
        ...

    def try_read(self, offset: int, length: int) -> Buffer | None:
        """Return the bytes at `offset`, fewer at the end of the file, if that takes no waiting."""
        ...

    async def read(self, offset: int, length: int) -> Buffer:
        """Return the bytes at `offset`, fewer at the end of the file."""
        ...

    def spans(self) -> Sequence[Span]:
        """Return the parts that may hold something else than zeros, in order."""
        ...

    def where(self, offset: int, length: int, /) -> Sequence[Span]:
        """Return where a range lies on the volume, as far as that is known without reading."""
        ...


def open_file(source: BlockSource, data: FileData, memory: MemoryBudget = PROCESS) -> FileMap:
    """Return a FileMap of the file that `data` describes on the volume `source`.

    Raises Corrupt if the runs do not cover the file or leave the volume, TooLarge (an OSError) if what it
    needs is more than `memory` has left.
    """
    match data.layout:
        case Inline(content):
            if len(content) < data.valid:
                raise Corrupt(
                    "inline data is shorter than the file", expected=data.valid, actual=len(content)
                )
            if data.size > LARGEST_INLINE:
                raise Corrupt(
                    "inline data is longer than the file", expected=LARGEST_INLINE, actual=data.size
                )
            return BytesFile(content[: data.valid] + bytes(data.size - data.valid))
        case Runs(runs):
            return RunsFile(source, data, runs, memory)
        case Packed():
            return PackedFile(source, data, data.layout, DECODED)


class BytesFile:
    """A file whose bytes are in memory."""

    def __init__(self, content: bytes) -> None:
        self.size = len(content)
        self._content = memoryview(content)

    def try_read(self, offset: int, length: int) -> Buffer:
        """Return the bytes."""
        return self._content[offset : offset + length]

    async def read(self, offset: int, length: int) -> Buffer:
        """Return the bytes."""
        return self._content[offset : offset + length]

    def spans(self) -> Sequence[Span]:
        """Return the whole file."""
        return [Span(0, self.size)] if self.size else []

    def where(self, _offset: int, _length: int, /) -> Sequence[Span]:
        """Return nothing: it is in memory."""
        return []


class SourceFile:
    """A whole BlockSource as a file."""

    def __init__(self, source: BlockSource) -> None:
        self.size = source.size
        self._source = source

    def try_read(self, offset: int, length: int) -> Buffer | None:
        """Return the bytes if they are at hand."""
        offset = min(offset, self.size)
        return self._source.try_read(offset, min(length, self.size - offset))

    async def read(self, offset: int, length: int) -> Buffer:
        """Return the bytes."""
        offset = min(offset, self.size)
        return await self._source.read(offset, min(length, self.size - offset))

    def spans(self) -> Sequence[Span]:
        """Return the whole file."""
        return [Span(0, self.size)] if self.size else []

    def where(self, offset: int, length: int, /) -> Sequence[Span]:
        """Return the range itself."""
        return [Span(offset, max(0, min(length, self.size - offset)))]


class RunsFile:
    """A file in runs.

    Raises TooLarge if they need more than `memory` has left.
    """

    def __init__(
        self, source: BlockSource, data: FileData, runs: RunList, memory: MemoryBudget
    ) -> None:
        memory.hold(self, runs.cost, f"the map of {len(runs)} runs of a file")
        runs.check_within(source.size)
        if runs.end < data.valid:
            raise Corrupt(
                "the runs end before the end of the file", expected=data.valid, actual=runs.end
            )
        self.size = data.size
        self._valid = data.valid
        self._source = source
        self._runs = runs
        self._offsets = runs.offsets
        self._starts = runs.starts

    def try_read(self, offset: int, length: int) -> Buffer | None:
        """Return the bytes if they are at hand."""
        end = min(offset + length, self._valid)
        if 0 <= offset < end == offset + length:
            # A read within one run, written out: through RunList.pieces() it takes twice as long.
            offsets = self._offsets
            index = bisect_right(offsets, offset) - 1
            start = self._starts[index]
            if start >= 0 and end <= offsets[index + 1]:
                return self._source.try_read(start + offset - offsets[index], length)
        pieces = self._pieces(offset, end)
        if len(pieces) == 1 and pieces[0].length == length:
            return self._source.try_read(pieces[0].start, length)
        buffer = bytearray(max(0, min(length, self.size - offset)))
        for at, count, place in pieces:
            part = self._source.try_read(place, count)
            if part is None:
                return None
            buffer[at : at + count] = part
        return buffer

    async def read(self, offset: int, length: int) -> Buffer:
        """Return the bytes."""
        end = min(offset + length, self._valid)
        pieces = self._pieces(offset, end)
        if len(pieces) == 1 and pieces[0].length == length:
            return await self._source.read(pieces[0].start, length)
        if len(pieces) > 1:
            self._source.prefetch([Span(piece.start, piece.length) for piece in pieces])
        buffer = bytearray(max(0, min(length, self.size - offset)))
        for at, count, place in pieces:
            buffer[at : at + count] = await self._source.read(place, count)
        return buffer

    def spans(self) -> Sequence[Span]:
        """Return what lies on the volume."""
        spans: list[Span] = []
        for (offset, end), place in zip(pairwise(self._offsets), self._starts, strict=True):
            count = min(end, self._valid) - offset
            if place < 0 or count <= 0:
                continue
            if spans and spans[-1].offset + spans[-1].length == offset:
                spans[-1] = Span(spans[-1].offset, spans[-1].length + count)
            else:
                spans.append(Span(offset, count))
        return spans

    def where(self, offset: int, length: int, /) -> Sequence[Span]:
        """Return what of a range lies on the volume."""
        pieces = self._pieces(offset, min(offset + length, self._valid))
        return [Span(piece.start, piece.length) for piece in pieces]

    def _pieces(self, offset: int, end: int) -> Sequence[_Piece]:
        """Return what lies on the volume of [offset, end)."""
        return [
            _Piece(at - offset, length, start)
            for at, length, start in self._runs.pieces(offset, end - offset)
            if start is not None
        ]


class _Piece(NamedTuple):
    """A part of a range that lies in one piece on the volume; `offset` counts from the range's start."""

    offset: int
    length: int
    start: int


class PackedFile:
    """A file in compressed chunks."""

    def __init__(
        self,
        source: BlockSource,
        data: FileData,
        layout: Packed,
        decoded: Decoded[tuple[int, int]],
    ) -> None:
        self.size = data.size
        self._valid = data.valid
        self._source = source
        self._chunks = layout.chunks
        self._unit = layout.chunks.unit
        self._decoded = decoded
        self._token = next(_TOKENS)
        """Tells its chunks from those of other files."""

    def try_read(self, offset: int, length: int) -> Buffer | None:
        """Return the bytes if their chunks are decoded already."""
        length = max(0, min(length, self.size - offset))
        chunks = []
        for index in self._wanted(offset, length):
            chunk = self._decoded.get((self._token, index))
            if chunk is None:
                return None
            chunks.append(chunk)
        return self._join(offset, length, chunks)

    async def read(self, offset: int, length: int) -> Buffer:
        """Return the bytes, decoding their chunks."""
        length = max(0, min(length, self.size - offset))
        if length > self._unit:
            self._source.prefetch(self.where(offset, length))
        chunks = []
        for index in self._wanted(offset, length):
            chunk = self._decoded.get((self._token, index))
            chunks.append(await self._decode(index) if chunk is None else chunk)
        return self._join(offset, length, chunks)

    def spans(self) -> Sequence[Span]:
        """Return what is stored."""
        return [Span(0, self._valid)] if self._valid else []

    def where(self, offset: int, length: int, /) -> Sequence[Span]:
        """Return about where a range is stored."""
        return self._chunks.where(offset, max(0, min(length, self._valid - offset)))

    def _wanted(self, offset: int, length: int) -> range:
        end = min(offset + length, self._valid)
        first = offset // self._unit
        return range(first, -(-end // self._unit) if offset < end else first)

    def _join(self, offset: int, length: int, chunks: Sequence[Buffer]) -> Buffer:
        """Cut the wanted bytes out of consecutive chunks; zeros after the valid ones."""
        end = min(offset + length, self._valid)
        skip = offset % self._unit
        if len(chunks) == 1 and end == offset + length:
            return memoryview(chunks[0])[skip : skip + length]
        buffer = bytearray(length)
        position = 0
        for chunk in chunks:
            count = min(end - offset - position, len(chunk) - skip)
            buffer[position : position + count] = chunk[skip : skip + count]
            position, skip = position + count, 0
        return buffer

    async def _decode(self, index: int) -> Buffer:
        length = min(self._unit, self.size - index * self._unit)
        stored = await self._stored(await self._chunks.chunk(index), length)
        self._decoded.keep((self._token, index), stored)
        return stored

    async def _stored(self, chunk: Chunk, length: int) -> Buffer:
        RunList.of(chunk.runs).check_within(self._source.size)
        parts: list[Buffer] = []
        for run in chunk.runs:
            if run.start is None:
                parts.append(bytes(run.length))
            else:
                parts.append(await self._source.read(run.start, run.length))
        stored = parts[0] if len(parts) == 1 else b"".join(parts)
        decoded = stored[:length] if chunk.decode is None else chunk.decode(stored, length)
        if len(decoded) != length:
            raise Corrupt("chunk of a wrong length", expected=length, actual=len(decoded))
        return decoded
