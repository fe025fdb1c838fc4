"""The filter of system calls: its table, and what it answers for calls of another architecture."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vmount.sandbox import calls
from vmount.sandbox.calls import machine_of
from vmount.sandbox.policy import Policy
from vmount.sandbox.seccomp import filter_for

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
ALLOWED, REFUSED, MISSING = 0x7FFF0000, 0x00050001, 0x00050026
PID = 4711


@pytest.mark.parametrize("name", HEADERS)
def test_numbers_are_the_kernels_own(name: str) -> None:
    if not HEADERS[name].exists():
        pytest.skip("the kernel's headers are not installed")
    text = HEADERS[name].read_text()
    told = {
        found[1]: int(found[2])
        for found in re.finditer(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\b", text)
    }
    machine = machine_of(name)
    assert machine is not None
    assert {call: told[call] for call in machine.numbers if call in told} == {
        call: number for call, number in machine.numbers.items() if call in told
    }
    # What is in the table and not in older headers is a call that came later: the same number everywhere.
    assert all(machine.numbers[call] > 424 for call in machine.numbers if call not in told)
    listed = (*calls.FORBIDDEN, *calls.PROGRAMS, *calls.SIGNALS, *calls.ATTRIBUTES)
    assert {call for call in listed if call in told} <= set(machine.numbers)


def answer(policy: Policy, name: str, *arguments: int, machine: str = "x86_64") -> int:
    """Return what the filter answers: a machine that runs classic BPF, as bpf(4) describes it."""
    known = machine_of(machine)
    assert known is not None
    number = known.numbers[name] if name else 1  # write, read or io_destroy: not looked at
    return run(policy, machine, known.architecture, number, arguments)


def run(
    policy: Policy, machine: str, architecture: int, number: int, arguments: tuple[int, ...]
) -> int:
    """Run the filter over a call."""
    known = machine_of(machine)
    assert known is not None
    words = {0: number, 4: architecture}
    words |= {16 + 8 * index: value & 0xFFFFFFFF for index, value in enumerate(arguments)}
    instructions = filter_for(policy, known, PID).instructions
    loaded, at = 0, 0
    while True:
        code, true, false, value = instructions[at]
        at += 1
        if code == 0x20:
            loaded = words.get(value, 0)
        elif code == 0x54:
            loaded &= value
        elif code == 0x06:
            return value
        else:
            tests = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}
            at += true if tests[code] else false


@pytest.mark.parametrize("machine", HEADERS)
def test_what_is_allowed_and_what_is_not(machine: str) -> None:
    nothing, web = Policy(), Policy(ports=frozenset({443}))
    names = Policy(ports=frozenset({443}), asks_for_names=True)
    local = Policy(unix_sockets=True)
    starting = Policy(starts_programs=True)
    stream, datagram, raw = 1 | 0o2000000, 2, 3
    cases: list[tuple[Policy, str, tuple[int, ...], bool]] = [
        (nothing, "", (), True),
        (nothing, "execve", (), False),
        (starting, "execve", (), True),
        (starting, "mount", (), False),
        (nothing, "fchmodat", (), False),
        (Policy(changes_attributes=True), "fchmodat", (), True),
        (nothing, "clone", (0x3D0F00,), True),
        (nothing, "clone", (0x10000000 | 0x3D0F00,), False),
        (nothing, "kill", (PID, 9), True),
        (nothing, "kill", (1, 9), False),
        (nothing, "kill", (-1, 9), False),
        (nothing, "kill", (0, 9), False),
        (nothing, "ioctl", (0, 0x5401), True),
        (nothing, "ioctl", (0, 0x5412), False),
        (nothing, "socket", (1, datagram), True),
        (nothing, "socket", (1, stream), False),
        (local, "socket", (1, stream), True),
        (nothing, "socket", (2, stream), False),
        (web, "socket", (2, stream, 0), True),
        (web, "socket", (10, stream, 6), True),
        (web, "socket", (2, stream, 262), False),
        (web, "socket", (2, datagram), False),
        (names, "socket", (2, datagram), True),
        (names, "socket", (2, raw, 17), False),
        (names, "socket", (17, raw), False),
        (names, "socket", (40, stream), False),
    ]
    for policy, name, arguments, is_allowed in cases:
        told = answer(policy, name, *arguments, machine=machine)
        assert (told == ALLOWED) == is_allowed, (name, arguments)
    assert answer(nothing, "clone3", machine=machine) == MISSING


def test_other_sets_of_numbers_are_refused() -> None:
    i386, x86_64 = 0x40000003, 0xC000003E
    assert run(Policy(), "x86_64", i386, 1, ()) == REFUSED
    assert run(Policy(), "x86_64", x86_64, 0x40000001, ()) == REFUSED
    assert run(Policy(), "x86_64", x86_64, 1, ()) == ALLOWED
