"""Grain directories and tables of a disk's files, read a page at a time and kept within bounds.

Strategy: tables of neighbouring ranges lie side by side in most files (a hosted table of 2 KiB maps 32 MiB),
so a page of 64 KiB answers for what is asked next as well. Pages of all files of a disk share one bound.
"""

from __future__ import annotations

from vmount.parsers.lru import Lru
from vmount.parsers.reader import Buffer, Span, check_bounds
from vmount.parsers.vmdk.opener import OpenedFile
from vmount.parsers.vmdk.pieces import MAX_READ

PAGE = 64 << 10
"""Bytes."""

TABLE_CACHE = 64 << 20
"""Bytes of pages kept for a disk: two pages (directory, table) for each link of four longest chains."""


class TableCache(Lru[tuple[int, int], memoryview]):
    """Pages by number of file and number of page."""

    def __init__(self, limit: int = TABLE_CACHE) -> None:
        super().__init__(limit, len)
        self._files = 0

    def add_file(self) -> int:
        """Return a number for one more file."""
        self._files += 1
        return self._files


class TableFile:
    """A file of which the metadata is read through the cache."""

    def __init__(self, file: OpenedFile, cache: TableCache) -> None:
        self.name = file.name
        self.source = file.source
        self.size = file.source.size
        self._cache = cache
        self._number = cache.add_file()

    def peek(self, offset: int, length: int) -> Buffer | None:
        """Return bytes if they are in the cache."""
        check_bounds(offset, length, self.size)
        if not length:
            return b""
        first, last = offset // PAGE, (offset + length - 1) // PAGE
        pages = []
        for index in range(first, last + 1):
            page = self._cache.get((self._number, index))
            if page is None:
                return None
            pages.append(page)
        start = offset - first * PAGE
        if len(pages) == 1:
            return pages[0][start : start + length]
        return b"".join(pages)[start : start + length]

    async def read(self, offset: int, length: int) -> Buffer:
        """Return bytes. Raises OutOfBounds where they do not all exist, OSError from the file."""
        found = self.peek(offset, length)
        if found is not None:
            return found
        first, last = offset // PAGE, (offset + length - 1) // PAGE
        pages: list[memoryview] = []
        index = first
        while index <= last:
            page = self._cache.get((self._number, index))
            if page is not None:
                pages.append(page)
                index += 1
                continue
            stop = index + 1
            while (
                stop <= last
                and (stop - index) * PAGE < MAX_READ
                and self._cache.get((self._number, stop)) is None
            ):
                stop += 1
            pages.extend(await self._load(index, stop))
            index = stop
        start = offset - first * PAGE
        return b"".join(pages)[start : start + length]

    async def _load(self, first: int, stop: int) -> list[memoryview]:
        span = self._span(first, stop)
        data = memoryview(await self.source.read(span.offset, span.length))
        pages = []
        for index in range(first, stop):
            # A copy each: a slice would keep alive all that was read with it.
            page = memoryview(bytes(data[(index - first) * PAGE : (index - first + 1) * PAGE]))
            self._cache.put((self._number, index), page)
            pages.append(page)
        return pages

    def hint(self, offset: int, length: int) -> None:
        """Prefetch bytes that are not in the cache."""
        if (
            offset >= 0
            and length > 0
            and offset + length <= self.size
            and self.peek(offset, length) is None
        ):
            self.source.prefetch([self._span(offset // PAGE, (offset + length - 1) // PAGE + 1)])

    def _span(self, first: int, stop: int) -> Span:
        return Span(first * PAGE, min(stop * PAGE, self.size) - first * PAGE)
