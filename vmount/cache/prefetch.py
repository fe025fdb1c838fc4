"""Lines that will be wanted soon: a queue, and which of them may be fetched now.

Holes. A source's word that a range is zero is only a hint (a row of lying servers is known), so no byte
is ever made up from it: what is demanded is always asked of the source, which answers a hole in a few
bytes where the protocol has a way to say so. The hint decides about guesses alone: lines that are said to
be zero are not fetched ahead. A lie then costs time and not truth.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vmount.cache.slabs import LINE, SHIFT
from vmount.parsers.reader import Span

if TYPE_CHECKING:
    from vmount.backends.base import Extent
    from vmount.cache.fetching import Fetches
    from vmount.cache.options import CacheOptions
    from vmount.cache.slabs import Slabs


class PrefetchQueue:
    """The guesses of one disk of `size` bytes."""

    def __init__(self, size: int, slabs: Slabs, fetches: Fetches, options: CacheOptions) -> None:
        self._size = size
        self._known = slabs.lines
        self._fetches = fetches
        self._options = options
        self._queued: dict[int, None] = {}
        """Lines, in the order of their fetching."""
        self._zeros: list[Span] = []

    def add(self, spans: Sequence[Span]) -> None:
        """Queue the lines of spans, as far as there is room, and begin what may begin."""
        room = (self._options.guesses_queued >> SHIFT) - len(self._queued)
        wanted = (line for span in spans for line in self._lines_of(span) if self._is_of_use(line))
        self._queued.update(dict.fromkeys(sorted(set(itertools.islice(wanted, max(room, 0))))))
        self.go_on()

    def discard(self, line: int) -> None:
        """Take out a line that is demanded now."""
        self._queued.pop(line, None)

    def clear(self) -> None:
        """Fetch nothing ahead that has not begun."""
        self._queued.clear()

    def note_zeros(self, extents: Sequence[Extent]) -> None:
        """Fetch nothing ahead of what the source says is zero; `extents` replace those noted before."""
        self._zeros = [Span(extent.offset, extent.length) for extent in extents if extent.zero]

    def go_on(self) -> None:
        """Begin fetches of guesses, as many as may be under way."""
        fetches, options = self._fetches, self._options
        while self._queued and not fetches.closed:
            if (fetches.guess_lines + 1) << SHIFT > options.guesses_in_flight:
                return
            line = next(iter(self._queued))
            if fetches.guess_requests >= options.guess_requests and not fetches.joins(line):
                return
            del self._queued[line]
            if line not in self._known and line not in fetches.by_line:
                fetches.begin(line, guess=True)

    def _lines_of(self, span: Span) -> Iterator[int]:
        start, end = max(span.offset, 0), min(span.offset + span.length, self._size)
        if start >= end:
            return iter(())
        return iter(range(start >> SHIFT, ((end - 1) >> SHIFT) + 1))

    def _is_of_use(self, line: int) -> bool:
        """Say whether it is of use to fetch a line ahead."""
        if line in self._known or line in self._fetches.by_line or line in self._queued:
            return False
        start = line << SHIFT
        end = min(start + LINE, self._size)
        at = bisect_right(self._zeros, start, key=lambda zeros: zeros.offset) - 1
        return at < 0 or end > self._zeros[at].offset + self._zeros[at].length
