"""Giving up what a process that reads hostile disks does not need.

Strategy: a serving process opens its sources and mounts with whatever its user may do. Before it
answers the first request it gives up its capabilities, and with no_new_privs the chance to get any
through a program that it starts. What still needs them, unmounting, is left to a process that was
started before and is told one word (`unmount.Unmounter`).

Linux keeps all of this for each thread, and a pool has idle threads by then. So every thread is made to
give up for itself: as many jobs as there are threads meet at a barrier, which takes all the idle ones;
threads that are busy are caught later.

Sources: capabilities(7), capset(2), PR_SET_NO_NEW_PRIVS(2const), PR_SET_DUMPABLE(2const).
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Collection

log = logging.getLogger(__name__)

CAP_DAC_OVERRIDE = 1
"""<linux/capability.h>: root's right to open what belongs to others."""

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522

_MEETING = 5.0
"""Seconds for all idle threads to meet; more than that only if the machine stands still."""
_STRAGGLERS = 30.0
"""Seconds until it is looked again for threads that were busy."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    """Half of each set: 32 capabilities."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def keep_memory_private() -> None:
    """Write no core file, and let no other process of this user read this one's memory.

    It holds passwords, and the guest's bytes. Raises OSError.
    """
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))
    _prctl(_PR_SET_DUMPABLE, 0)


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
            _give_up_in_this_thread(keep)

        async with trio.open_nursery() as nursery:
            for _ in range(others):
                nursery.start_soon(partial(trio.to_thread.run_sync, meet, limiter=limiter))
    _give_up_in_this_thread(keep)


def _give_up_in_this_thread(keep: Collection[int]) -> None:
    header, sets = _Header(_CAPABILITY_VERSION_3, 0), (_Sets * 2)()
    _check(_libc.capget(ctypes.byref(header), sets))
    kept = sum(1 << capability for capability in keep)
    for number, half in enumerate(sets):
        half.permitted &= kept >> 32 * number & 0xFFFFFFFF
        half.effective = half.permitted
        half.inheritable = 0
    _check(_libc.capset(ctypes.byref(header), sets))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _threads() -> list[Path]:
    return list(Path("/proc/self/task").iterdir())


def _has_privileged_threads() -> bool:
    for thread in _threads():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            if "NoNewPrivs:\t0" in (thread / "status").read_text():
                return True
    return False


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0))))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
