"""From plain calls to the asynchronous core: what the Python API stands on.

Over local files nothing suspends, and a call is run as it is. Distant disks need an event loop: it runs
in a thread of its own, and a call costs two hops of about 70 us together. Several threads may call: over
local files one after the other, over distant disks at the same time.
"""

from __future__ import annotations

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import trio

from vmount.backends.base import BackendError
from vmount.parsers.reader import run_sync
from vmount.runtime import InlineRuntime, Runtime, TrioRuntime

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

CLOSED = "the disk set is closed"


class Bridge(Protocol):
    """Runs asynchronous calls for somebody who has no event loop."""

    @property
    def runtime(self) -> Runtime:
        """What the calls run under."""
        ...

    def run(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a call and return its value, or raise what it raises; ValueError after `close`."""
        ...

    def run_last(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a call after which what others run would find descriptors closed."""
        ...

    def soon(self, call: Callable[[], T]) -> Callable[[], T]:
        """Begin a call that itself uses `run`, and return what waits for its value.

        Where nothing can go on at the same time it is begun when it is waited for.
        """
        ...

    def give_up(self) -> None:
        """Have all calls that were begun with `soon` fail, if they go on."""
        ...

    def close(self) -> None:
        """Give up the event loop. A second call does nothing."""
        ...


class InlineBridge:
    """For local files."""

    def __init__(self) -> None:
        self.runtime = InlineRuntime()
        self._turn = threading.RLock()
        """Held while a call runs. What is parsed and cached is made for one thread."""
        self._is_closed = False

    def run(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run it here."""
        with self._turn:
            if self._is_closed:
                raise ValueError(CLOSED)
            return run_sync(call())

    def run_last(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run it here, in one turn with `close`: no other call comes between."""
        with self._turn:
            self._is_closed = True
            return run_sync(call())

    def soon(self, call: Callable[[], T]) -> Callable[[], T]:
        """Return the call itself."""
        return call

    def give_up(self) -> None:
        """Do nothing: no call goes on beside the caller."""

    def close(self) -> None:
        """Run no more calls: descriptors that are closed may soon be those of other files."""
        with self._turn:
            self._is_closed = True


SOON = 4
"""Calls that go on beside the caller at the same time."""


class TrioBridge:
    """For distant disks: an event loop in a thread."""

    runtime: TrioRuntime

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._scopes: set[trio.CancelScope] = set()
        """Of the calls that go on."""
        self._threads = ThreadPoolExecutor(SOON, "vmount-soon")
        self._thread = threading.Thread(
            target=trio.run, args=(self._serve,), name="vmount", daemon=True
        )
        self._thread.start()
        self._ready.wait()

    def run(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run it in the event loop's thread. Ctrl-C, and `close`, give it up."""
        scope = trio.CancelScope()

        async def run_in_scope() -> T:
            with scope:
                return await call()
            raise BackendError("cancelled: the disks are being closed", code=errno.ECANCELED)

        self._scopes.add(scope)
        try:
            return trio.from_thread.run(run_in_scope, trio_token=self._token)
        except (trio.RunFinishedError, trio.Cancelled) as error:
            raise ValueError(CLOSED) from error
        except KeyboardInterrupt:
            self._token.run_sync_soon(scope.cancel)
            raise
        finally:
            self._scopes.discard(scope)

    def run_last(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run it in the event loop's thread, which knows what is closed."""
        return self.run(call)

    def soon(self, call: Callable[[], T]) -> Callable[[], T]:
        """Begin the call in a thread."""
        return self._threads.submit(call).result

    def give_up(self) -> None:
        """Have all calls that go on fail: there may be no answer to come."""
        with suppress(trio.RunFinishedError):
            for scope in list(self._scopes):
                self._token.run_sync_soon(scope.cancel)

    def close(self) -> None:
        """Give up what goes on, and end the event loop."""
        self.give_up()
        self._threads.shutdown(cancel_futures=True)
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._stop = trio.Event()
        async with trio.open_nursery() as nursery:
            self.runtime = TrioRuntime(nursery)
            self._ready.set()
            await self._stop.wait()
            nursery.cancel_scope.cancel()
