"""Requests of all backends: count them, cut a read into them, run several, fail with the first error.

Strategy: an exception holds the frames that it came through, and those hold the buffers that a read was to
fill. So nothing here keeps an exception with its traceback: a cycle through it would keep the buffers until
the garbage collector's last generation runs, and a server that is gone makes such errors by the thousand.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

import trio

from vmount.backends.base import BackendError, BackendStats
from vmount.parsers.reader import Span

T = TypeVar("T")


class Counters:
    """The counters behind `Backend.stats`. Seconds and bytes."""

    __slots__ = ("bytes", "in_flight", "requests", "retries", "seconds")

    def __init__(self) -> None:
        self.requests = 0
        self.bytes = 0
        self.in_flight = 0
        self.retries = 0
        self.seconds = 0.0

    def answered(self, began: float, length: int) -> None:
        """Note a request that began at `began` (trio's clock) and has brought `length` bytes."""
        self.requests += 1
        self.bytes += length
        self.seconds += trio.current_time() - began

    def stats(self, *, in_flight: int | None = None, reconnects: int = 0) -> BackendStats:
        """Return the current counters; `in_flight` if another object counts those."""
        return BackendStats(
            requests=self.requests,
            bytes_received=self.bytes,
            in_flight=self.in_flight if in_flight is None else in_flight,
            retries=self.retries,
            reconnects=reconnects,
            latency=self.seconds / self.requests if self.requests else 0.0,
        )


def cut(length: int, most: int) -> Iterator[Span]:
    """Yield the parts of a range of `length` bytes, each of at most `most`."""
    for start in range(0, length, most):
        yield Span(start, min(most, length - start))


async def run_together(
    calls: Iterable[T], work: Callable[[T], Awaitable[object]], tasks: int
) -> None:
    """Await `work` for each of `calls`, by at most `tasks` tasks.

    The first OSError is raised unchanged; the other calls are then cancelled.
    """
    pending = iter(calls)
    errors: list[OSError] = []

    async def run() -> None:
        try:
            for call in pending:
                await work(call)
        except OSError as error:
            errors.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(run)
    if errors:
        first = errors[0]
        errors.clear()
        try:
            raise first
        finally:
            del first


def fresh(error: OSError) -> OSError:
    """Return the same error without the frames that it came through, to be kept or raised again."""
    if isinstance(error, BackendError):
        return type(error)(error.message, code=error.errno or errno.EIO)
    return type(error)(*error.args)
