"""System calls that Python has no name for: Landlock's, capabilities, prctl.

Sources: syscall(2), capabilities(7), capset(2), PR_SET_NO_NEW_PRIVS(2const), PR_SET_DUMPABLE(2const),
PR_SET_PDEATHSIG(2const).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_SECCOMP_MODE_FILTER = 2

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


def call(number: int, *arguments: Any) -> int:
    """Make a system call and return its value. Raises OSError."""
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    value: int = _libc.syscall(ctypes.c_long(number), *words)
    if value < 0:
        raise _error()
    return value


def keep_memory_private() -> None:
    """Write no core file, and let no other process of this user read this one's memory.

    It holds passwords, and the guest's bytes. Raises OSError.
    """
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))
    _prctl(_PR_SET_DUMPABLE, 0)


def die_with_parent(parent: int) -> None:
    """Have the kernel send SIGTERM when the thread that has started this process ends, or end now.

    `parent` is that thread's process: it may have ended before this call. Raises OSError.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(128 + signal.SIGTERM)


def no_new_privileges() -> None:
    """Get no more privileges through a program that this thread starts. Raises OSError."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def set_seccomp_filter(program: Any) -> None:
    """Put a filter of system calls (a struct sock_fprog) on this thread. Raises OSError."""
    if _libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.byref(program)):
        raise _error()


def keep_capabilities(keep: Collection[int]) -> None:
    """Give up all capabilities of this thread but those in `keep`, and no_new_privs. Raises OSError."""
    header, sets = _Header(_CAPABILITY_VERSION_3, 0), (_Sets * 2)()
    _check(_libc.capget(ctypes.byref(header), sets))
    kept = sum(1 << capability for capability in keep)
    for number, half in enumerate(sets):
        half.permitted &= kept >> 32 * number & 0xFFFFFFFF
        half.effective = half.permitted
        half.inheritable = 0
    _check(_libc.capset(ctypes.byref(header), sets))
    no_new_privileges()


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0))))


def _check(result: int) -> None:
    if result != 0:
        raise _error()


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
