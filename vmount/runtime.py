"""The two ways in which the same `async` code is run.

The mount runs it under trio. The Python API and the commands run it over local files with no event loop
at all: nothing in it then suspends (`parsers.reader.run_sync`), which saves a thread and a hop a call.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from vmount.parsers.reader import BlockSource, Buffer

T = TypeVar("T")


LONGEST_TURN = 0.02
"""Seconds that one task may go on without letting others run."""


class Turn:
    """Says when a task that does not wait has gone on for long enough."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since = time.monotonic()

    def is_over(self) -> bool:
        """Say, once each LONGEST_TURN, that others should run now."""
        now = time.monotonic()
        if now - self._since < LONGEST_TURN:
            return False
        self._since = now
        return True


class _Considerate:
    def __init__(
        self, source: BlockSource, turn: Turn, check_names: Callable[[int], None] | None
    ) -> None:
        self.size = source.size
        if check_names is not None:
            self.check_names = check_names
        self.try_read = source.try_read
        self.prefetch = source.prefetch
        self._read = source.read
        self._turn = turn

    async def read(self, offset: int, length: int) -> Buffer:
        if self._turn.is_over():
            await trio.lowlevel.checkpoint()
        return await self._read(offset, length) if length else b""


class Runtime(Protocol):
    """What code that may run either way asks for instead of naming trio."""

    @property
    def nursery(self) -> trio.Nursery | None:
        """Where background tasks live; None: there can be none, so no distant disks either."""
        ...

    def considerate(
        self, source: BlockSource, check_names: Callable[[int], None] | None = None
    ) -> BlockSource:
        """Return a source of the same bytes for a parser, whose reads let others run now and then.

        A walk through metadata that is all in memory would otherwise hold up everyone else. `check_names` is
        called with how many names of a directory a parser has decoded; it raises OSError to end that.
        """
        ...

    async def run_blocking(self, function: Callable[[], T]) -> T:
        """Run a call that blocks and return its value."""
        ...

    async def gather(self, calls: Sequence[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        """Run the calls, at once where that is possible, and return their values in order.

        The first exception is raised unchanged; the other calls are then cancelled.
        """
        ...


class InlineRuntime:
    """No event loop: what blocks, blocks; one thing after the other."""

    nursery = None

    def considerate(
        self,
        source: BlockSource,
        check_names: Callable[[int], None] | None = None,  # noqa: ARG002
    ) -> BlockSource:
        """Return the source itself: there are no others."""
        return source

    async def run_blocking(self, function: Callable[[], T]) -> T:
        """Call it here."""
        return function()

    async def gather(self, calls: Sequence[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        """Run them in order."""
        return [await call() for call in calls]


MOST_TOGETHER = 32
"""Calls of one `gather` that wait at the same time."""


class TrioRuntime:
    """Under trio: what blocks goes to a thread; many things at once."""

    def __init__(self, nursery: trio.Nursery | None = None) -> None:
        self.nursery = nursery
        self._turn = Turn()

    def considerate(
        self, source: BlockSource, check_names: Callable[[int], None] | None = None
    ) -> BlockSource:
        """Return a source whose `read` is a checkpoint each LONGEST_TURN."""
        return _Considerate(source, self._turn, check_names)

    async def run_blocking(self, function: Callable[[], T]) -> T:
        """Call it in a thread."""
        return await trio.to_thread.run_sync(function)

    async def gather(self, calls: Sequence[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        """Run them in a nursery, by a bounded number of tasks: most calls do not wait at all."""
        results: dict[int, T] = {}
        numbered = iter(enumerate(calls))
        failure: BaseException | None = None

        async def work() -> None:
            for index, call in numbered:
                results[index] = await call()

        try:
            async with trio.open_nursery() as nursery:
                for _ in range(min(len(calls), MOST_TOGETHER)):
                    nursery.start_soon(work)
        except BaseExceptionGroup as group:
            failure = first_of(group)
        if failure is not None:
            # Outside of the handler, where the group would become its context: a cycle that holds the frames
            # and their buffers until the garbage collector comes.
            try:
                raise failure
            finally:
                del failure
        return [results[index] for index in range(len(calls))]


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first exception in a nursery's group: what happened before all was cancelled."""
    inner = group.exceptions[0]
    return first_of(inner) if isinstance(inner, BaseExceptionGroup) else inner
