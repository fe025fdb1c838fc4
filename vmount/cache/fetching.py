"""Fetches of lines that are missing: joined where they are neighbours, shared by all who wait.

Strategy: lines that are missing side by side, and those that other tasks come to want before the fetch has
begun, are fetched by one request of at most the backend's max_read. A fetch belongs to the cache's nursery,
not to the task that wanted it, so a cancellation does not harm others that wait for it. A fetch that fails
tells everyone who waits and leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from vmount.backends.base import Backend, BackendClosed
from vmount.backends.requests import fresh
from vmount.cache.slabs import SHIFT, Slab


class Fetch:
    """A request for neighbouring lines. It can grow until it has begun."""

    __slots__ = ("begun", "count", "done", "error", "first", "guess", "slab")

    def __init__(self, line: int, *, guess: bool) -> None:
        self.first = line
        self.count = 1
        self.guess = guess
        """Nobody waits for it."""
        self.begun = False
        self.done = trio.Event()
        self.slab: Slab | None = None
        self.error: OSError | None = None

    async def result(self) -> Slab:
        """Wait for the slab; raises what the backend raised."""
        await self.done.wait()
        if self.error is not None:
            raise fresh(self.error)
        assert self.slab is not None
        return self.slab


class Fetches:
    """The fetches of one disk. They run in `nursery`; `on_done` is called with each that has ended."""

    def __init__(
        self, backend: Backend, nursery: trio.Nursery, on_done: Callable[[Fetch], None]
    ) -> None:
        self.by_line: dict[int, Fetch] = {}
        """Those that have not ended."""
        self.under_way = 0
        self.guess_lines = self.guess_requests = 0
        """Those of guesses under way."""
        self.done = self.failed = self.bytes = 0
        self.seconds = 0.0
        self.closed = False
        self._backend = backend
        self._nursery = nursery
        self._on_done = on_done
        self._most_lines = max(1, backend.max_read >> SHIFT)
        """Lines that one fetch may have."""

    def begin(self, line: int, *, guess: bool) -> Fetch:
        """Let a line be fetched, with a neighbour whose fetch has not begun if there is one."""
        for near in (line - 1, line + 1):
            fetch = self.by_line.get(near)
            if fetch is not None and self._takes(fetch, guess=guess):
                fetch.first = min(fetch.first, line)
                fetch.count += 1
                break
        else:
            fetch = Fetch(line, guess=guess)
            self.under_way += 1
            self.guess_requests += guess
            self._nursery.start_soon(self._run, fetch)
        self.guess_lines += guess
        self.by_line[line] = fetch
        return fetch

    def joins(self, line: int) -> bool:
        """Say whether a guess would be part of the fetch of the line before it."""
        before = self.by_line.get(line - 1)
        return before is not None and self._takes(before, guess=True)

    def _takes(self, fetch: Fetch, *, guess: bool) -> bool:
        return not fetch.begun and fetch.guess == guess and fetch.count < self._most_lines

    async def _run(self, fetch: Fetch) -> None:
        """Read the lines of a fetch."""
        fetch.begun = True
        start = fetch.first << SHIFT
        length = min(fetch.count << SHIFT, self._backend.size - start)
        began = trio.current_time()
        try:
            data = await self._backend.read(start, length)
            fetch.slab = Slab(fetch.first, memoryview(data).toreadonly(), guess=fetch.guess)
            self.seconds += trio.current_time() - began
            self.done += 1
            self.bytes += length
        except OSError as error:
            # Without its frames: they hold the buffer that was to be filled, and this fetch.
            fetch.error = fresh(error)
            self.failed += 1
        finally:
            for line in range(fetch.first, fetch.first + fetch.count):
                del self.by_line[line]
            self.under_way -= 1
            if fetch.guess:
                self.guess_requests -= 1
                self.guess_lines -= fetch.count
            if fetch.slab is None and fetch.error is None:
                self.closed = True  # the nursery is being cancelled
                fetch.error = BackendClosed("the disk is closed")
            fetch.done.set()
        self._on_done(fetch)
