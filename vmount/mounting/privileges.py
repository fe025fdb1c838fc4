"""Giving up what a process that reads hostile disks does not need.

Strategy: a serving process is confined before it opens its sources (`serve.confined`). It keeps the
capabilities that opening them needs, and gives those up as well before it answers the first request. What
still needs more, mounting and unmounting, is left to a process that was started before (`mounter.Mounter`).

Linux keeps all of this for each thread, and a pool has idle threads by then. So every thread is made to
give up for itself: as many jobs as there are threads meet at a barrier, which takes all the idle ones;
threads that are busy are caught later.

Source: capabilities(7).
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from vmount.sandbox.kernel import keep_capabilities

if TYPE_CHECKING:
    from collections.abc import Collection

log = logging.getLogger(__name__)

_MEETING = 5.0
"""Seconds for all idle threads to meet; more than that only if the machine stands still."""
_STRAGGLERS = 30.0
"""Seconds until it is looked again for threads that were busy."""


async def give_up(
    keep: Collection[int],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Give up all capabilities but those in `keep`, and no_new_privs for ever, in every thread.

    It has started when this thread and all idle ones have done so, and returns when all have.
    """
    try:
        await _give_up_everywhere(keep)
        task_status.started()
        while _has_privileged_threads():
            await trio.sleep(_STRAGGLERS)
            await _give_up_everywhere(keep)
    except OSError as error:
        log.warning("this process keeps its privileges: %s", error)
        task_status.started()


async def _give_up_everywhere(keep: Collection[int]) -> None:
    others = len(_threads()) - 1
    if others:
        barrier = threading.Barrier(others)
        limiter = trio.CapacityLimiter(others)

        def meet() -> None:
            with suppress(threading.BrokenBarrierError):
                barrier.wait(_MEETING)
            keep_capabilities(keep)

        async with trio.open_nursery() as nursery:
            for _ in range(others):
                nursery.start_soon(partial(trio.to_thread.run_sync, meet, limiter=limiter))
    keep_capabilities(keep)


def _threads() -> list[Path]:
    return list(Path("/proc/self/task").iterdir())


def _has_privileged_threads() -> bool:
    for thread in _threads():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            if "NoNewPrivs:\t0" in (thread / "status").read_text():
                return True
    return False
