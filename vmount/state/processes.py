"""Processes named so that a number used again is not taken for them (proc(5))."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

MARK = "VMOUNT_JOURNAL"
"""A helper process has this environment variable, so that it is found even if its starter was killed
before it could write down the number."""


@dataclass(frozen=True)
class Process:
    """A process of some machine."""

    pid: int
    started: int
    """Start in clock ticks since boot (/proc/PID/stat, field 22)."""
    host: str
    boot: str
    """Names one run of the machine's kernel (/proc/sys/kernel/random/boot_id)."""

    @classmethod
    def current(cls) -> Process:
        """Return this process."""
        pid = os.getpid()
        return cls(pid, process_start(pid) or 0, socket.gethostname(), boot_id())

    @property
    def is_alive(self) -> bool:
        """Say whether it runs, on this machine."""
        return self.boot == boot_id() and process_start(self.pid) == self.started

    @property
    def is_elsewhere(self) -> bool:
        """Say whether it is a process of another machine, of which nothing can be said from here."""
        return self.host != socket.gethostname()

    def wait(self, patience: float) -> bool:
        """Wait up to `patience` seconds for its end; say whether it came."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            # Asked only now: the number cannot be used again for what the descriptor names.
            if not self.is_alive:
                return True
            readable, _, _ = select.select([descriptor], [], [], patience)
            return bool(readable)
        finally:
            os.close(descriptor)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, to this process and no other. Raises PermissionError."""
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)
            try:
                if self.is_alive:
                    signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)


def boot_id() -> str:
    """Return what names this run of the kernel."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def process_start(pid: int) -> int | None:
    """Return when a process was started, in clock ticks since boot; None if it does not run."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            text = file.read()
    except OSError:
        return None
    # The name, in parentheses, may hold anything; the fields after it are numbers.
    state, *numbers = text[text.rindex(b")") + 2 :].split()
    # One that has ended and was not waited for yet is still listed.
    return None if state in (b"Z", b"X") else int(numbers[18])


def marked_processes(mark: str) -> list[Process]:
    """Return the processes of this user whose environment was given MARK=`mark` when they started."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        pid = int(folder.name)
        with contextlib.suppress(OSError):
            started = process_start(pid)
            if started is not None and wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(Process(pid, started, socket.gethostname(), boot_id()))
    return found
