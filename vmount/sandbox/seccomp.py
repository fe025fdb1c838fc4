"""A filter of system calls: what no reader of disks needs is refused, whatever its privileges are.

Strategy: a list of what is forbidden and not of what is allowed: Python and its libraries take other calls
with each release, and paths, ports and capabilities are restricted by other means. The filter is classic BPF
that the kernel runs at each system call; for a call that is allowed whatever its arguments are, it remembers
the answer. A refused call fails with EPERM.

Written here because pyseccomp needs libseccomp, which it looks for by running programs.

Source: seccomp(2), <linux/filter.h>, <linux/seccomp.h>, <linux/audit.h>.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.sandbox.calls import ATTRIBUTES, FORBIDDEN, PROGRAMS, SIGNALS, Machine, machine_of
from vmount.sandbox.kernel import no_new_privileges, set_seccomp_filter

if TYPE_CHECKING:
    from vmount.sandbox.policy import Policy

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
"""BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JGE|K, BPF_JMP|JSET|K, BPF_ALU|AND|K, BPF_RET|K."""
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Offsets in struct seccomp_data. An argument's lower half is first: the machines are little-endian."""
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_X32 = 0x40000000
"""On x86-64: the bit of the numbers of the x32 ABI."""
_NAMESPACES = 0x7E020080
"""CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
_TYPE_MASK = 0xF
"""SOCK_CLOEXEC and SOCK_NONBLOCK are above."""
_INJECTING = (0x5412, 0x541C)
"""TIOCSTI, TIOCLINUX: they type on the terminal of who started this."""
LONGEST = 4096
"""Instructions that the kernel takes."""


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("true", ctypes.c_uint8),
        ("false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("first", ctypes.POINTER(_Instruction)))


@dataclass
class Filter:
    """A filter that is being written: instructions one after the other; each check ends by itself."""

    instructions: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Code, jump if true, jump if false, value."""

    def load(self, offset: int) -> None:
        """Load a word of the call's description."""
        self.instructions.append((_LOAD, 0, 0, offset))

    def keep(self, mask: int) -> None:
        """Keep some bits of what is loaded."""
        self.instructions.append((_AND, 0, 0, mask))

    def allow(self) -> None:
        """End: allowed."""
        self.instructions.append((_RETURN, 0, 0, _ALLOW))

    def refuse(self, code: int = errno.EPERM) -> None:
        """End: refused with an errno."""
        self.instructions.append((_RETURN, 0, 0, _ERROR | code))

    def when(self, test: int, value: int, then: Filter) -> None:
        """Run `then`, which ends, if what is loaded passes a test; else go on."""
        self.instructions.append((test, 0, len(then.instructions), value))
        self.instructions += then.instructions

    def unless_equal(self, value: int, then: Filter) -> None:
        """Run `then`, which ends, unless what is loaded is equal; else go on."""
        self.instructions.append((_EQUAL, len(then.instructions), 0, value))
        self.instructions += then.instructions


def is_known() -> bool:
    """Say whether there are filters for this machine, and its kernel has them."""
    return machine_of(os.uname().machine) is not None and Path("/proc/sys/kernel/seccomp").is_dir()


def restrict(policy: Policy) -> bool:
    """Put the filter of a policy on this thread; return whether this machine and its kernel have filters.

    Raises OSError if the kernel has and refuses.
    """
    machine = machine_of(os.uname().machine)
    if machine is None:
        return False
    instructions = filter_for(policy, machine, os.getpid()).instructions
    array = (_Instruction * len(instructions))(*(_Instruction(*words) for words in instructions))
    no_new_privileges()
    try:
        set_seccomp_filter(_Program(len(instructions), array))
    except OSError as error:
        if error.errno == errno.EINVAL:  # a kernel without CONFIG_SECCOMP_FILTER
            return False
        raise
    return True


def filter_for(policy: Policy, machine: Machine, pid: int) -> Filter:
    """Return the filter for a process of a number on a machine."""
    made = Filter()
    made.load(_ARCHITECTURE)
    made.unless_equal(machine.architecture, _refusal())
    made.load(_NUMBER)
    if machine.has_x32:
        made.when(_AT_LEAST, _X32, _refusal())
    for name in _refused(policy):
        if name in machine.numbers:
            made.when(_EQUAL, machine.numbers[name], _refusal())
    checks = {"clone": _clone(), "clone3": _refusal(errno.ENOSYS), "ioctl": _ioctl()}
    if not policy.starts_programs:
        checks |= {
            "kill": _only((pid,)),
            "tgkill": _only((pid,)),
            "prlimit64": _only((0, pid)),
            "socket": _socket(policy),
        }
    for name, check in checks.items():
        made.when(_EQUAL, machine.numbers[name], check)
    made.allow()
    assert len(made.instructions) <= LONGEST
    return made


def _refused(policy: Policy) -> tuple[str, ...]:
    names = FORBIDDEN
    if not policy.starts_programs:
        names += (*PROGRAMS, *SIGNALS)
    if not (policy.starts_programs or policy.changes_attributes):
        names += ATTRIBUTES
    return names


def _refusal(code: int = errno.EPERM) -> Filter:
    made = Filter()
    made.refuse(code)
    return made


def _allowance() -> Filter:
    made = Filter()
    made.allow()
    return made


def _clone() -> Filter:
    """Threads and processes, but no namespaces. clone3 has its flags in memory: the C library does without."""
    made = Filter()
    made.load(_argument(0))
    made.when(_ANY_BIT, _NAMESPACES, _refusal())
    made.allow()
    return made


def _ioctl() -> Filter:
    made = Filter()
    made.load(_argument(1))
    for request in _INJECTING:
        made.when(_EQUAL, request, _refusal())
    made.allow()
    return made


def _only(values: tuple[int, ...]) -> Filter:
    """The first argument is one of the values: signals go to this process only."""
    made = Filter()
    made.load(_argument(0))
    for value in values:
        made.when(_EQUAL, value, _allowance())
    made.refuse()
    return made


def _socket(policy: Policy) -> Filter:
    """Sockets of the wanted families.

    Landlock restricts TCP and nothing else, so that of the internet's protocols only TCP is left, and UDP if
    names are looked up. A datagram to this machine's log or service manager is always allowed.
    """
    made = Filter()
    made.load(_argument(0))
    made.when(_EQUAL, socket.AF_UNIX, _socket_types(policy.unix_sockets, datagrams=True))
    if policy.ports:
        internet = Filter()
        internet.load(_argument(2))
        internet.when(_EQUAL, 0, _socket_types(True, datagrams=policy.asks_for_names))
        internet.when(_EQUAL, socket.IPPROTO_TCP, _socket_types(True, datagrams=False))
        internet.when(
            _EQUAL, socket.IPPROTO_UDP, _socket_types(False, datagrams=policy.asks_for_names)
        )
        internet.refuse(errno.EACCES)
        for family in (socket.AF_INET, socket.AF_INET6):
            made.when(_EQUAL, family, internet)
        # The C library asks which addresses this machine has.
        made.when(_EQUAL, socket.AF_NETLINK, _allowance())
    made.refuse(errno.EACCES)
    return made


def _socket_types(streams: bool, *, datagrams: bool) -> Filter:
    made = Filter()
    made.load(_argument(1))
    made.keep(_TYPE_MASK)
    if streams:
        made.when(_EQUAL, socket.SOCK_STREAM, _allowance())
    if datagrams:
        made.when(_EQUAL, socket.SOCK_DGRAM, _allowance())
    made.refuse(errno.EACCES)
    return made


def _argument(number: int) -> int:
    return _ARGUMENTS + 8 * number
