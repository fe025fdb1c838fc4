"""Landlock: the part of the file system and the network that this process and its children see.

Source: landlock(7), Documentation/userspace-api/landlock.rst, <linux/landlock.h>. What a kernel does not know
yet is left out of what is asked of it. A rule set holds for the thread that applies it and for those that it
starts, so it is applied before there are others. Files that are open stay as usable as they were.
"""

from __future__ import annotations

import ctypes
import functools
import os
import stat
from typing import TYPE_CHECKING

from vmount.sandbox.kernel import call, no_new_privileges

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vmount.sandbox.policy import Policy

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""Numbers of the system calls: the same on every architecture."""
_VERSION = 1
"""LANDLOCK_CREATE_RULESET_VERSION."""
_PATH_BENEATH, _NET_PORT = 1, 2

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
REMOVE_DIR = 1 << 4
REMOVE_FILE = 1 << 5
REFER = 1 << 13
TRUNCATE = 1 << 14
IOCTL_DEV = 1 << 15

_OLDEST = (1 << 13) - 1
"""The rights of version 1."""
_SINCE = {2: REFER, 3: TRUNCATE, 5: IOCTL_DEV}
"""Rights of files that came with a version."""
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""The rights that a rule about a single file may give."""
_READ = READ_FILE | READ_DIR
TCP_SINCE = 4
"""The version that restricts TCP ports."""
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_SCOPES_SINCE, _ABSTRACT_UNIX_SOCKETS, _SIGNALS = 6, 1 << 0, 1 << 1


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


class _NetPort(ctypes.Structure):
    _fields_ = (("allowed_access", ctypes.c_uint64), ("port", ctypes.c_uint64))


@functools.cache
def version() -> int:
    """Return the version of the kernel's Landlock; 0 if it has none or it is switched off."""
    try:
        return call(_CREATE_RULESET, None, 0, _VERSION)
    except OSError:  # ENOSYS, EOPNOTSUPP; EPERM from a container's own filter
        return 0


def restrict(policy: Policy) -> int:
    """Apply the paths and ports of a policy to this thread; return the version that does it, 0 for none.

    Raises OSError if the kernel has Landlock and refuses.
    """
    known = version()
    if not known:
        return 0
    handled = _handled(known)
    ruleset = _Ruleset(
        handled,
        _BIND_TCP | _CONNECT_TCP if known >= TCP_SINCE else 0,
        _scopes(policy) if known >= _SCOPES_SINCE else 0,
    )
    descriptor = call(
        _CREATE_RULESET, ctypes.byref(ruleset), ctypes.sizeof(_Ruleset) if known >= 4 else 8, 0
    )
    try:
        for path, rights in _rules(policy, handled):
            _allow(descriptor, path, rights & handled)
        if known >= TCP_SINCE:
            for port in policy.ports:
                rule = _NetPort(_CONNECT_TCP, port)
                call(_ADD_RULE, descriptor, _NET_PORT, ctypes.byref(rule), 0)
        no_new_privileges()
        call(_RESTRICT_SELF, descriptor, 0)
    finally:
        os.close(descriptor)
    return known


def _scopes(policy: Policy) -> int:
    """Return what is not to be reached outside: an abstract socket may be the source itself."""
    return _SIGNALS if policy.unix_sockets else _SIGNALS | _ABSTRACT_UNIX_SOCKETS


def _handled(known: int) -> int:
    rights = _OLDEST
    for since, right in _SINCE.items():
        if known >= since:
            rights |= right
    return rights


def _rules(policy: Policy, handled: int) -> Iterator[tuple[Path, int]]:
    for path in policy.readable:
        yield path, _READ
    for path in policy.devices:
        yield path, _READ | IOCTL_DEV
    for path in policy.removable:
        yield path, REMOVE_FILE
    for path in policy.writable:
        yield path, handled & ~EXECUTE & ~IOCTL_DEV


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # it cannot be opened later either
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        rule = _PathBeneath(rights, descriptor)
        call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(descriptor)
