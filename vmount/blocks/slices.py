"""BlockSources made of BlockSources.

Strategy: a source that has its bytes in many places turns a range into pieces, and neighbouring pieces of
one place into one fetch. All fetches are announced by `prefetch`, so that those below may run together,
and are then awaited in turn: nothing here needs an event loop.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from vmount.parsers.reader import BlockSource, Buffer, Span, check_bounds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LARGEST_FETCH = 1 << 20
"""Bytes. Longer ones save no round trips and hold up others."""


class Slice:
    """`size` bytes of a source from `start` on. Raises OutOfBounds if the source is shorter."""

    def __init__(self, source: BlockSource, start: int, size: int) -> None:
        check_bounds(start, size, source.size)
        self.size = size
        self._source = source
        self._start = start

    def try_read(self, offset: int, length: int) -> Buffer | None:
        """Return the bytes if the source has them at hand."""
        if offset < 0 or length < 0 or offset + length > self.size:
            check_bounds(offset, length, self.size)
        return self._source.try_read(self._start + offset, length)

    async def read(self, offset: int, length: int) -> Buffer:
        """Return the bytes."""
        check_bounds(offset, length, self.size)
        return await self._source.read(self._start + offset, length)

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Pass the hint on; what lies outside is left out."""
        self._source.prefetch(
            [
                Span(self._start + offset, length)
                for offset, length in spans_within(spans, self.size)
            ]
        )


class Zeros:
    """`size` bytes of zeros."""

    def __init__(self, size: int) -> None:
        self.size = size

    def try_read(self, offset: int, length: int) -> Buffer:
        """Return zeros."""
        check_bounds(offset, length, self.size)
        return bytes(length)

    async def read(self, offset: int, length: int) -> Buffer:
        """Return zeros."""
        return self.try_read(offset, length)

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Do nothing: there is nothing to fetch."""


class MissingDevice:
    """`size` bytes of a device that is not there. Reading them raises OSError (EIO)."""

    def __init__(self, device: str, size: int) -> None:
        self.device = device
        self.size = size

    @property
    def error(self) -> OSError:
        """What reading raises."""
        return OSError(errno.EIO, "a device of the volume is missing", self.device)

    def try_read(self, offset: int, length: int) -> Buffer:
        """Raise OSError."""
        check_bounds(offset, length, self.size)
        if length == 0:
            return b""
        raise self.error

    async def read(self, offset: int, length: int) -> Buffer:
        """Raise OSError."""
        return self.try_read(offset, length)

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Do nothing: there is nothing to fetch."""


class Piece(NamedTuple):
    """A range of the source of that index."""

    source: int
    offset: int
    length: int


class Fetch(NamedTuple):
    """Neighbouring pieces of one source, and where each goes: (position in the answer, length)."""

    source: int
    offset: int
    length: int
    targets: list[tuple[int, int]]


class Scattered(ABC):
    """A source that has its bytes in several others. A subclass says where."""

    def __init__(self, sources: Sequence[BlockSource], size: int) -> None:
        self.size = size
        self._sources = tuple(sources)

    @abstractmethod
    def pieces(self, offset: int, length: int) -> list[Piece]:
        """Say where the bytes of a range are, in order. The range is within the source."""

    def try_read(self, offset: int, length: int) -> Buffer | None:
        """Return the bytes if all the sources have theirs at hand."""
        check_bounds(offset, length, self.size)
        return self._try_gather(self.pieces(offset, length), length)

    async def read(self, offset: int, length: int) -> Buffer:
        """Return the bytes."""
        check_bounds(offset, length, self.size)
        return await self._gather(self.pieces(offset, length), length)

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Pass the hint on to the sources; what lies outside is left out."""
        pieces: list[Piece] = []
        for offset, length in spans_within(spans, self.size):
            pieces += self.pieces(offset, length)
        self._announce(merged(pieces))

    def _try_gather(self, pieces: list[Piece], length: int) -> Buffer | None:
        if len(pieces) == 1:
            piece = pieces[0]
            return self._sources[piece.source].try_read(piece.offset, piece.length)
        answer = bytearray(length)
        for fetch in merged(pieces):
            data = self._sources[fetch.source].try_read(fetch.offset, fetch.length)
            if data is None:
                return None
            _deal(data, fetch.targets, answer)
        return answer

    async def _gather(self, pieces: list[Piece], length: int) -> Buffer:
        if len(pieces) == 1:
            return await self._fetch(*pieces[0])
        answer = bytearray(length)
        fetches = merged(pieces)
        self._announce(fetches)
        for fetch in fetches:
            data = await self._fetch(fetch.source, fetch.offset, fetch.length)
            _deal(data, fetch.targets, answer)
        return answer

    async def _fetch(self, source: int, offset: int, length: int) -> Buffer:
        return await self._sources[source].read(offset, length)

    def _announce(self, fetches: Sequence[Fetch]) -> None:
        spans: dict[int, list[Span]] = {}
        for fetch in fetches:
            spans.setdefault(fetch.source, []).append(Span(fetch.offset, fetch.length))
        for source, wanted in spans.items():
            self._sources[source].prefetch(wanted)


class Concat(Scattered):
    """One source after the other."""

    def __init__(self, sources: Sequence[BlockSource]) -> None:
        self._starts = [0, *accumulate(source.size for source in sources)]
        super().__init__(sources, self._starts[-1])

    def pieces(self, offset: int, length: int) -> list[Piece]:
        """Say which sources the range runs through."""
        found = []
        index = bisect_right(self._starts, offset) - 1
        while length > 0:
            within = offset - self._starts[index]
            part = min(length, self._starts[index + 1] - offset)
            if part:
                found.append(Piece(index, within, part))
            offset += part
            length -= part
            index += 1
        return found


def merged(pieces: Iterable[Piece]) -> list[Fetch]:
    """Join the pieces that follow each other on their source, up to LARGEST_FETCH."""
    fetches: list[Fetch] = []
    latest: dict[int, int] = {}
    """By source: the index of its last fetch."""
    position = 0
    for source, offset, length in pieces:
        target = (position, length)
        position += length
        index = latest.get(source)
        if index is not None:
            last = fetches[index]
            joined = last.length + length
            if last.offset + last.length == offset and joined <= LARGEST_FETCH:
                last.targets.append(target)
                fetches[index] = last._replace(length=joined)
                continue
        latest[source] = len(fetches)
        fetches.append(Fetch(source, offset, length, [target]))
    return fetches


def spans_within(spans: Iterable[Span], size: int) -> list[Span]:
    """Return the spans that lie in a source of that size."""
    return [span for span in spans if span.offset >= 0 and 0 < span.length <= size - span.offset]


def _deal(data: Buffer, targets: Iterable[tuple[int, int]], answer: bytearray) -> None:
    view = memoryview(data)
    taken = 0
    for position, length in targets:
        answer[position : position + length] = view[taken : taken + length]
        taken += length
