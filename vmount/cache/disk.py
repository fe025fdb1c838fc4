"""Reads of a distant disk through its cache.

Strategy: the disk is divided into lines of 32 KiB. A miss fetches whole lines: one record of metadata
brings its neighbours, which are asked for next. A read inside the slab that one request brought is a slice
and no copy.

Everything runs in trio's one thread and nothing suspends between looking and changing, so there are no
locks. `try_read` looks up a dict and slices; it never waits, logs or calls the backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from vmount.backends.base import Backend, BackendClosed, Extent
from vmount.cache.fetching import Fetch, Fetches
from vmount.cache.options import CacheOptions
from vmount.cache.prefetch import PrefetchQueue
from vmount.cache.slabs import LINE, SHIFT, CacheBudget, Slab, Slabs
from vmount.parsers.reader import Buffer, Span, check_bounds

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class CacheStats:
    """What a CachedDisk has done so far."""

    hits: int
    """Reads answered from memory."""
    misses: int
    """Reads that had to wait."""
    bytes_demanded: int
    bytes_fetched: int
    fetches: int
    failures: int
    """Fetches that ended in an error."""
    in_flight: int
    """Fetches under way."""
    bytes_cached: int
    guesses_used: int
    """Bytes that were fetched ahead, in slabs of which something was then read."""
    guesses_wasted: int
    """Bytes that were fetched ahead and evicted without a read."""
    latency: float
    """Mean of the seconds that a fetch took; 0 if there was none."""


class CachedDisk:
    """A BlockSource over a Backend. Fetches run in `nursery`.

    Several that are given one `budget` share its memory; the capacity of the options is then not theirs.
    """

    def __init__(
        self,
        backend: Backend,
        nursery: trio.Nursery,
        options: CacheOptions | None = None,
        budget: CacheBudget | None = None,
    ) -> None:
        options = options or CacheOptions()
        self.size = backend.size
        self._slabs = Slabs(budget or CacheBudget(options.capacity))
        self._lines = self._slabs.lines
        self._fetches = Fetches(backend, nursery, self._fetched)
        self._queue = PrefetchQueue(self.size, self._slabs, self._fetches, options)
        self._hits = self._misses = self._demanded = 0

    def try_read(self, offset: int, length: int) -> Buffer | None:
        """Return the bytes if they are all in memory, else None. Raises OutOfBounds."""
        check_bounds(offset, length, self.size)
        slab = self._lines.get(offset >> SHIFT)
        if slab is None:
            return None if length else b""
        start = offset - slab.start
        if start + length <= len(slab.view):
            self._slabs.touch(slab)
            self._hits += 1
            self._demanded += length
            return slab.view[start : start + length]
        pieces: list[Slab] = []
        end = offset + length
        position = offset
        while position < end:
            slab = self._lines.get(position >> SHIFT)
            if slab is None:
                return None
            pieces.append(slab)
            position = slab.start + len(slab.view)
        self._hits += 1
        self._demanded += length
        return self._join(pieces, offset, end)

    async def read(self, offset: int, length: int) -> Buffer:
        """Return the bytes; a checkpoint only if they are not in memory. Raises OutOfBounds, OSError."""
        data = self.try_read(offset, length)
        if data is not None:
            return data
        if self._fetches.closed:
            raise BackendClosed("the disk is closed")
        self._misses += 1
        self._demanded += length
        # All fetches are begun before the first is waited for, and the slabs are held until the end:
        # they may be evicted meanwhile.
        sources: list[Slab | Fetch] = []
        for line in range(offset >> SHIFT, ((offset + length - 1) >> SHIFT) + 1):
            source = self._lines.get(line) or self._fetches.by_line.get(line) or self._fetch(line)
            if not sources or sources[-1] is not source:
                sources.append(source)
        slabs = [
            source if isinstance(source, Slab) else await source.result() for source in sources
        ]
        return self._join(slabs, offset, offset + length)

    def _join(self, slabs: Sequence[Slab], offset: int, end: int) -> Buffer:
        """Return what [offset, end) has in slabs that cover it in order.

        They may overlap: a fetch that had not begun can have grown over a line whose slab was evicted
        after this reader took hold of it.
        """
        parts = []
        position = offset
        for slab in slabs:
            self._slabs.touch(slab)
            part = slab.view[position - slab.start : max(end, position) - slab.start]
            position += len(part)
            parts.append(part)
        assert position == end
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _fetch(self, line: int) -> Fetch:
        self._queue.discard(line)
        return self._fetches.begin(line, guess=False)

    def _fetched(self, fetch: Fetch) -> None:
        if fetch.slab is not None:
            self._slabs.keep(fetch.slab)
        self._queue.go_on()

    def preload(self, head: bytes) -> None:
        """Take the first bytes of the disk, which have been read already; what is no whole line is left."""
        whole = len(head) if len(head) == self.size else len(head) & ~(LINE - 1)
        if whole and not self._lines:
            self._slabs.keep(Slab(0, memoryview(head)[:whole], guess=False))

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Fetch what will be read soon, as far as the bounds allow. Never fails, never waits."""
        self._queue.add(spans)

    def note_zeros(self, extents: Sequence[Extent]) -> None:
        """Take a source's word for what is zero: such lines are not fetched ahead.

        `extents` are as `Backend.allocated` gives them; they replace those noted before.
        """
        self._queue.note_zeros(extents)

    def close(self) -> None:
        """Begin no more fetches; what is in memory can still be read."""
        self._fetches.closed = True
        self._queue.clear()

    def stats(self) -> CacheStats:
        """Return the counters as they are now."""
        fetches, slabs = self._fetches, self._slabs
        return CacheStats(
            hits=self._hits,
            misses=self._misses,
            bytes_demanded=self._demanded,
            bytes_fetched=fetches.bytes,
            fetches=fetches.done,
            failures=fetches.failed,
            in_flight=fetches.under_way,
            bytes_cached=slabs.cached,
            guesses_used=slabs.guesses_used,
            guesses_wasted=slabs.guesses_wasted,
            latency=fetches.seconds / fetches.done if fetches.done else 0.0,
        )
