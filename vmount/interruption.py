"""Signals that end a program: SIGINT (Ctrl-C), SIGTERM and SIGHUP.

Strategy: plain code gets an exception, `Interrupted`, at the moment of the signal. Code that must not be
torn apart (an event loop, a fork) is `deferred`: the signal is kept, announced to who watches, and raised
at the end. Python loses an exception that is raised inside a destructor or a weak reference's callback,
which import is full of: the hook for such exceptions has the signal raised again.

A signal is ignored for a moment after another: `timeout` and terminals send it to a process and to its
group. A later one ends the process at once; what it leaves is in the journal.

Sources: signal(7), Python's signal module ("Note on Signal Handlers and Exceptions").
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from vmount.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import FrameType

T = TypeVar("T")

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ECHO = 1.0
"""Seconds after a signal in which another is taken for the same."""
AGAIN = 0.001
"""Seconds until a signal whose exception was lost is raised again."""


class Interrupted(KeyboardInterrupt):
    """A signal has ended what was going on."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"interrupted by {number.name}")
        self.number = number


def exit_code_of(error: KeyboardInterrupt) -> Exit:
    """Return the exit code of a program that a signal has ended."""
    return Exit(128 + (error.number if isinstance(error, Interrupted) else signal.SIGINT))


class _State:
    """What has come, and who is to know. One for the process: signals are the process's."""

    def __init__(self) -> None:
        self.number: signal.Signals | None = None
        """Came, and has not been raised."""
        self.last: float | None = None
        """When the last one came, on the monotonic clock."""
        self.deferred = 0
        self.on_signal: Callable[[signal.Signals], None] | None = None

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal."""
        now, last = time.monotonic(), self.last
        if last is not None and now - last < ECHO:
            return
        self.last = now
        found = signal.Signals(number)
        if self.deferred:
            self.number = found
            if self.on_signal is not None:
                self.on_signal(found)
            return
        if last is not None:
            os.write(2, b"vmount: interrupted again; what remains: vmount cleanup\n")
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        raise Interrupted(found)

    def raise_again(self, lost: Interrupted) -> None:
        """Raise what was raised where Python drops it, in a moment."""

        def handle(_number: int, _frame: FrameType | None) -> None:
            if self.deferred:
                self.number = lost.number
            else:
                raise Interrupted(lost.number)

        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, AGAIN)


_state = _State()


@contextmanager
def catching() -> Iterator[None]:
    """Have signals raise Interrupted, those that the caller ignores excepted; at the end all is as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    hook = sys.unraisablehook

    def on_lost(lost: sys.UnraisableHookArgs) -> None:
        if isinstance(lost.exc_value, Interrupted):
            _state.raise_again(lost.exc_value)
        else:
            hook(lost)

    sys.unraisablehook = on_lost
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _state.handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) == _state.handle:
                signal.signal(number, handler)
        sys.unraisablehook = hook


@contextmanager
def deferred() -> Iterator[None]:
    """Keep a signal until the end of the context, and raise it there. Raises Interrupted."""
    _state.deferred += 1
    try:
        yield
    finally:
        _state.deferred -= 1
        check()


def fork() -> int:
    """Do as os.fork, but lose no signal that comes meanwhile: Python forgets those that a child has got by
    the time it is set up."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        return os.fork()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def raising() -> Iterator[None]:
    """Let signals raise where they are deferred: for a call that only waits. Raises Interrupted."""
    depth, _state.deferred = _state.deferred, 0
    try:
        check()
        yield
    finally:
        _state.deferred = depth


@contextmanager
def announced(tell: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Within `deferred`: have `tell` called in a signal's handler, and now if one has come."""
    _state.on_signal = tell
    try:
        if _state.number is not None:
            tell(_state.number)
        yield
    finally:
        _state.on_signal = None


def check() -> None:
    """Raise what was kept, if nothing defers it. Raises Interrupted."""
    if _state.number is not None and not _state.deferred:
        raise Interrupted(taken() or signal.SIGINT)


def pending() -> signal.Signals | None:
    """Return the signal that was kept."""
    return _state.number


def taken() -> signal.Signals | None:
    """Return the signal that was kept, and keep it no more."""
    number, _state.number = _state.number, None
    return number


def ignore_from_now() -> None:
    """Ignore signals until the process ends: what it was asked for is done, and it says so."""
    for number in ENDING:
        if signal.getsignal(number) == _state.handle:
            signal.signal(number, signal.SIG_IGN)
    _state.number = None


def run(function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    """Run an event loop whose main task is cancelled by a signal. Raises Interrupted."""
    import trio  # most commands need no event loop

    async def cancelled_by_signals() -> T:
        token = trio.lowlevel.current_trio_token()
        with trio.CancelScope() as scope:

            def cancel(_number: signal.Signals) -> None:
                token.run_sync_soon(scope.cancel)

            with announced(cancel):
                return await function(*arguments)
        raise Interrupted(taken() or signal.SIGINT)

    with deferred():
        return trio.run(cancelled_by_signals)
