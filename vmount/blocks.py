"""BlockSources made of BlockSources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parsers.reader import BlockSource, Buffer, Span, check_bounds

if TYPE_CHECKING:
    from collections.abc import Sequence


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
                Span(self._start + span.offset, span.length)
                for span in spans
                if span.offset >= 0 and span.offset + span.length <= self.size
            ]
        )
