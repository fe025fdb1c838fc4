"""Prefetching for a file that is read in order.

Strategy: the file's runs are followed with a window that doubles at each read that continues the last
one, and closes when the reader jumps. The window is in the file, not on the disk: a fragmented file is
read ahead as well as one in a single piece.

Used with remote disks only; for local files the kernel does this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.blocks.file_map import FileMap
    from vmount.parsers.reader import BlockSource, Buffer, Span

FIRST_WINDOW = 1 << 20
"""Bytes fetched ahead of a reader who has read in order once."""
LARGEST_WINDOW = 16 << 20
"""Bytes: at 5 ms a request and 1 GB/s, three requests' time of data."""
NEAR = 2 << 20
"""Bytes between two reads that are still in order: the kernel asks for neighbouring ranges at once, and
they come in any order."""


class ReadAhead:
    """A FileMap that prefetches for reads in order.

    A read begins with `try_read`, as FuseOps and FileReader do it, and that is where it is noted; `read` is the
    second half of one that `try_read` could not answer, and looks no further ahead.
    """

    def __init__(self, content: FileMap, source: BlockSource) -> None:
        self.size = content.size
        self._content = content
        self._source = source
        self._next = 0
        self._asked = 0
        self._window = 0

    def try_read(self, offset: int, length: int) -> Buffer | None:
        """Return the bytes if they are at hand."""
        self._look_ahead(offset, length)
        return self._content.try_read(offset, length)

    async def read(self, offset: int, length: int) -> Buffer:
        """Return the bytes."""
        return await self._content.read(offset, length)

    def spans(self) -> Sequence[Span]:
        """Return the parts that may hold something else than zeros."""
        return self._content.spans()

    def where(self, offset: int, length: int, /) -> Sequence[Span]:
        """Return where a range lies on the volume."""
        return self._content.where(offset, length)

    def _look_ahead(self, offset: int, length: int) -> None:
        end = offset + length
        if abs(offset - self._next) > NEAR:
            self._window, self._asked = 0, end
        elif end > self._next:
            self._window = min(max(FIRST_WINDOW, self._window * 2), LARGEST_WINDOW)
        self._next = max(end, self._next) if self._window else end
        target = min(end + self._window, self.size)
        # Not for every few bytes: half a window is worth a request.
        if self._window and target - max(self._asked, end) >= min(
            self._window // 2, self.size - end
        ):
            start = max(self._asked, end)
            if target > start:
                self._source.prefetch(self._content.where(start, target - start))
                self._asked = target
