"""A disk in memory, as far as it has been read: the only layer between file systems and a backend.

Strategy: the disk is divided into lines of 64 KiB. A miss fetches whole lines: one record of metadata
brings its neighbours, which are asked for next. Lines that are missing side by side, and those that
other tasks come to want before the fetch has begun, are fetched by one request of at most the
backend's max_read; the buffer that comes is kept whole, as a slab, so that a read inside it is a slice
and no copy. Slabs are what is evicted, the least recently used first.

Everything runs in trio's one thread and nothing suspends between looking and changing, so there are no
locks. `try_read` looks up a dict and slices; it never waits, logs or calls the backend.

A fetch belongs to the cache's nursery, not to the task that wanted it: whoever else waits for it is not
harmed by a cancellation. A fetch that fails tells everyone who waits and leaves nothing behind.

Holes. A source's word that a range is zero is only a hint (a row of lying servers is known), so no byte
is ever made up from it: what is demanded is always asked of the source, which answers a hole in a few
bytes where the protocol has a way to say so. The hint decides about guesses alone: lines that are said to
be zero are not fetched ahead. A lie then costs time and not truth.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import trio

from vmount.backends.base import Backend, BackendClosed, Extent
from vmount.parsers.reader import Buffer, Span, check_bounds

LINE = 32 << 10
"""Bytes. Larger lines make a small read on a distant disk wait for what it does not need; smaller ones
make more requests of a walk through metadata."""
_SHIFT = LINE.bit_length() - 1
_MASK = LINE - 1


@dataclass(frozen=True)
class CacheOptions:
    """Bounds of a CachedDisk, in bytes where nothing else is said."""

    capacity: int = 256 << 20
    """Kept in memory at most."""
    guesses_in_flight: int = 8 << 20
    """Being fetched ahead at a time."""
    guess_requests: int = 32
    """Requests for them at a time: half of what an NBD connection takes, so that what is demanded finds
    room beside them."""
    guesses_queued: int = 32 << 20
    """Waiting to be fetched ahead; what comes in addition is forgotten."""


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


class _Slab:
    """Neighbouring lines that came by one request."""

    __slots__ = ("first", "guess", "start", "view")

    def __init__(self, first: int, view: memoryview, *, guess: bool) -> None:
        self.first = first
        """Number of the first line."""
        self.start = first << _SHIFT
        """Offset on the disk."""
        self.view = view
        self.guess = guess
        """Fetched ahead and not read yet."""


class _Fetch:
    """A request for neighbouring lines. It can grow until it has begun."""

    __slots__ = ("begun", "count", "done", "error", "first", "guess", "slab")

    def __init__(self, line: int, *, guess: bool) -> None:
        self.first = line
        self.count = 1
        self.guess = guess
        """Nobody waits for it."""
        self.begun = False
        self.done = trio.Event()
        self.slab: _Slab | None = None
        self.error: OSError | None = None

    async def result(self) -> _Slab:
        """Wait for the slab; raises what the backend raised."""
        await self.done.wait()
        if self.error is not None:
            raise self.error
        assert self.slab is not None
        return self.slab


class CacheBudget:
    """The slabs that may be kept, of one CachedDisk or of several that share what they may take."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        """Bytes."""
        self.slabs: OrderedDict[_Slab, CachedDisk] = OrderedDict()
        """And whose they are, the least recently used first."""
        self.cached = 0
        """Bytes."""


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
        self.size = backend.size
        self._transport = backend
        self._nursery = nursery
        self._options = options or CacheOptions()
        self._budget = budget or CacheBudget(self._options.capacity)
        self._most_lines = max(1, backend.max_read >> _SHIFT)
        """Lines that one fetch may have."""
        self._lines: dict[int, _Slab] = {}
        self._slabs = self._budget.slabs
        self._cached = 0
        self._fetching: dict[int, _Fetch] = {}
        self._fetches_now = 0
        self._guesses: dict[int, None] = {}
        """Lines to fetch ahead, in order."""
        self._guess_lines = self._guess_requests = 0
        """Those of guesses under way."""
        self._zeros: list[Span] = []
        self._closed = False
        self._hits = self._misses = self._demanded = 0
        self._fetched = self._fetches = self._failures = 0
        self._used = self._wasted = 0
        self._latency = 0.0

    # Reading

    def try_read(self, offset: int, length: int) -> Buffer | None:
        """Return the bytes if they are all in memory, else None. Raises OutOfBounds."""
        check_bounds(offset, length, self.size)
        slab = self._lines.get(offset >> _SHIFT)
        if slab is None:
            return None if length else b""
        start = offset - slab.start
        if start + length <= len(slab.view):
            self._touch(slab)
            self._hits += 1
            self._demanded += length
            return slab.view[start : start + length]
        pieces: list[_Slab] = []
        end = offset + length
        position = offset
        while position < end:
            slab = self._lines.get(position >> _SHIFT)
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
        if self._closed:
            raise BackendClosed("the disk is closed")
        self._misses += 1
        self._demanded += length
        # All fetches are begun before the first is waited for, and the slabs are held until the end:
        # they may be evicted meanwhile.
        lines = range(offset >> _SHIFT, ((offset + length - 1) >> _SHIFT) + 1)
        sources: list[_Slab | _Fetch] = []
        for line in lines:
            source = self._lines.get(line) or self._demand(line)
            if not sources or sources[-1] is not source:
                sources.append(source)
        slabs = [
            source if isinstance(source, _Slab) else await source.result() for source in sources
        ]
        return self._join(slabs, offset, offset + length)

    def _join(self, slabs: Sequence[_Slab], offset: int, end: int) -> Buffer:
        """Return what [offset, end) has in slabs that cover it in order.

        They may overlap: a fetch that had not begun can have grown over a line whose slab was evicted
        after this reader took hold of it.
        """
        parts = []
        position = offset
        for slab in slabs:
            self._touch(slab)
            part = slab.view[position - slab.start : max(end, position) - slab.start]
            position += len(part)
            parts.append(part)
        assert position == end
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _touch(self, slab: _Slab) -> None:
        """Note that a slab is used."""
        if slab in self._slabs:
            self._slabs.move_to_end(slab)
        if slab.guess:
            slab.guess = False
            self._used += len(slab.view)

    # Fetching

    def _demand(self, line: int) -> _Fetch:
        """Return the fetch of a line that somebody waits for."""
        fetch = self._fetching.get(line)
        if fetch is None:
            self._guesses.pop(line, None)
            fetch = self._enlist(line, guess=False)
        return fetch

    def _enlist(self, line: int, *, guess: bool) -> _Fetch:
        """Let a line be fetched, together with a neighbour whose fetch has not begun if there is one."""
        for neighbour in (self._fetching.get(line - 1), self._fetching.get(line + 1)):
            if (
                neighbour is not None
                and not neighbour.begun
                and neighbour.count < self._most_lines
                and neighbour.guess == guess
            ):
                neighbour.first = min(neighbour.first, line)
                neighbour.count += 1
                fetch = neighbour
                break
        else:
            fetch = _Fetch(line, guess=guess)
            self._fetches_now += 1
            self._guess_requests += guess
            self._nursery.start_soon(self._fetch, fetch)
        self._guess_lines += guess
        self._fetching[line] = fetch
        return fetch

    async def _fetch(self, fetch: _Fetch) -> None:
        """Read the lines of a fetch and keep them."""
        fetch.begun = True
        lines = range(fetch.first, fetch.first + fetch.count)
        start = fetch.first << _SHIFT
        length = min(fetch.count << _SHIFT, self.size - start)
        begun = trio.current_time()
        try:
            data = await self._transport.read(start, length)
            view = memoryview(data).toreadonly()
            fetch.slab = _Slab(fetch.first, view, guess=fetch.guess)
            self._latency += trio.current_time() - begun
            self._fetches += 1
            self._fetched += length
        except OSError as error:
            fetch.error = error
            self._failures += 1
        finally:
            for line in lines:
                del self._fetching[line]
            self._fetches_now -= 1
            if fetch.guess:
                self._guess_requests -= 1
                self._guess_lines -= fetch.count
            if fetch.slab is None and fetch.error is None:
                self._closed = True  # the nursery is being cancelled
                fetch.error = BackendClosed("the disk is closed")
            fetch.done.set()
        if fetch.slab is not None:
            self._keep(fetch.slab, lines)
        self._guess_on()

    def preload(self, head: bytes) -> None:
        """Take the first bytes of the disk, which have been read already; what is no whole line is left."""
        whole = len(head) if len(head) == self.size else len(head) & ~_MASK
        if whole and not self._lines:
            self._keep(_Slab(0, memoryview(head)[:whole], guess=False), range(-(-whole // LINE)))

    def _keep(self, slab: _Slab, lines: range) -> None:
        """Store a slab, and let go of those that are over the bound."""
        budget = self._budget
        budget.slabs[slab] = self
        budget.cached += len(slab.view)
        for line in lines:
            self._lines[line] = slab
        self._cached += len(slab.view)
        while budget.cached > budget.capacity:
            old, owner = budget.slabs.popitem(last=False)
            budget.cached -= len(old.view)
            owner._forget(old)  # noqa: SLF001 (another one of this class)

    def _forget(self, slab: _Slab) -> None:
        """Let go of an evicted slab."""
        for line in range(slab.first, slab.first + -(-len(slab.view) // LINE)):
            del self._lines[line]
        self._cached -= len(slab.view)
        if slab.guess:
            self._wasted += len(slab.view)

    # Guessing

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Fetch what will be read soon, as far as the bounds allow. Never fails, never waits."""
        room = (self._options.guesses_queued >> _SHIFT) - len(self._guesses)
        wanted = (line for span in spans for line in self._lines_of(span) if self._unknown(line))
        self._guesses.update(dict.fromkeys(sorted(set(itertools.islice(wanted, max(room, 0))))))
        self._guess_on()

    def forget_guesses(self) -> None:
        """Do not fetch ahead what has not begun: the reader went elsewhere."""
        self._guesses.clear()

    def note_zeros(self, extents: Sequence[Extent]) -> None:
        """Take a source's word for what is zero: such lines are not fetched ahead.

        `extents` are as `Backend.allocated` gives them; they replace those noted before.
        """
        self._zeros = [Span(extent.offset, extent.length) for extent in extents if extent.zero]

    def _lines_of(self, span: Span) -> Iterator[int]:
        start, end = max(span.offset, 0), min(span.offset + span.length, self.size)
        if start >= end:
            return iter(())
        return iter(range(start >> _SHIFT, ((end - 1) >> _SHIFT) + 1))

    def _unknown(self, line: int) -> bool:
        """Say whether it is of use to fetch a line ahead."""
        if line in self._lines or line in self._fetching or line in self._guesses:
            return False
        start = line << _SHIFT
        end = min(start + LINE, self.size)
        at = bisect_right(self._zeros, start, key=lambda zeros: zeros.offset) - 1
        return at < 0 or end > self._zeros[at].offset + self._zeros[at].length

    def _guess_on(self) -> None:
        """Begin fetches of guesses, as many as may be under way."""
        options = self._options
        while self._guesses and not self._closed:
            if (self._guess_lines + 1) << _SHIFT > options.guesses_in_flight:
                return
            line = next(iter(self._guesses))
            if self._guess_requests >= options.guess_requests and not self._joins(line):
                return
            del self._guesses[line]
            if line not in self._lines and line not in self._fetching:
                self._enlist(line, guess=True)

    def _joins(self, line: int) -> bool:
        """Say whether a guess would be part of a fetch that has not begun."""
        before = self._fetching.get(line - 1)
        return (
            before is not None
            and before.guess
            and not before.begun
            and before.count < self._most_lines
        )

    def close(self) -> None:
        """Begin no more fetches; what is in memory can still be read."""
        self._closed = True
        self._guesses.clear()

    def stats(self) -> CacheStats:
        """Return the counters as they are now."""
        return CacheStats(
            hits=self._hits,
            misses=self._misses,
            bytes_demanded=self._demanded,
            bytes_fetched=self._fetched,
            fetches=self._fetches,
            failures=self._failures,
            in_flight=self._fetches_now,
            bytes_cached=self._cached,
            guesses_used=self._used,
            guesses_wasted=self._wasted,
            latency=self._latency / self._fetches if self._fetches else 0.0,
        )
