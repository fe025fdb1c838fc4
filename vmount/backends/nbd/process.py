"""Programs that serve one disk over NBD for us alone: started with a mount, ended with it.

Strategy: a folder that nobody else may enter holds the socket. A program that listens by itself is given
the socket's path and waited for; one that talks NBD on its standard input and output is started once for
each connection, by a listener of ours. What a program writes to standard error goes to our log, without
the secrets that it was given.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import trio

from vmount.backends.base import BackendError, BackendTimeout
from vmount.state.processes import MARK
from vmount.state.temporary import make_folder
from vmount.state.undo_records import HelperProcess

if TYPE_CHECKING:
    from vmount.state import Entry, Journal

log = logging.getLogger(__name__)

SOCKET_NAME = "nbd"
FIRST_LOOK, LONGEST_PAUSE = 0.01, 0.25
"""Seconds between looks whether the program listens."""
FAREWELL = 5.0
"""Seconds for a program to end by itself before it is killed."""
LAST_WORDS = 1.0
"""Seconds to read what a program that has ended still had to say."""
ACCEPTS = 0x10000
"""The kernel's __SO_ACCEPTCON, a socket's flag."""
SECRET_VARIABLES = ("GOVC_PASSWORD", "GOVC_URL", "VMOUNT_HTTP_PASSWORD")
LINES_KEPT = 5
"""Of standard error, for the message when a program fails."""
LONGEST_LINE = 2000
"""Characters of a line of standard error."""


@dataclass(frozen=True)
class NbdProgram:
    """A program to be started."""

    name: str
    """For messages."""
    command: tuple[str, ...]
    """Words; {NAME} in them stands for one of `values`, {socket} for the path of the socket. Without a
    {socket} the program talks on standard input and output."""
    values: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """In addition to ours."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What must not be seen in its messages."""
    descriptors: tuple[int, ...] = ()
    """Inherited by it."""
    start_timeout: float = 60.0
    """Seconds until it must listen: it may log in somewhere first."""

    @property
    def is_inetd_style(self) -> bool:
        """It serves one connection on its standard input and output."""
        return not any("{socket}" in word for word in self.command)

    def words(self, socket_path: Path) -> list[str]:
        """Return the command filled in. What a value holds is never filled in again."""
        values = {**self.values, "socket": str(socket_path)}
        return [
            _FIELD.sub(lambda found: values.get(found[1], found[0]), word) for word in self.command
        ]


_FIELD = re.compile(r"\{(\w+)\}")


class _Reading(NamedTuple):
    """The task that reads a program's standard error."""

    scope: trio.CancelScope
    ended: trio.Event


class NbdProcess:
    """A program that serves a disk. Made by `start`, ended by `aclose`."""

    def __init__(self, program: NbdProgram, journal: Journal | None) -> None:
        folder, entry = make_folder("vmount-nbd-", journal)
        self.socket = folder / SOCKET_NAME
        """Path of the Unix socket to connect to."""
        self._program = program
        self._folder = folder
        self._processes: list[trio.Process] = []
        self._listener: trio.SocketListener | None = None
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._readings: list[_Reading] = []
        self._mark = secrets.token_hex(8)
        self._entries: list[Entry] = [] if entry is None else [entry]
        if journal is not None:
            self._entries.append(journal.begin(HelperProcess(program.name, self._mark)))

    @classmethod
    async def start(
        cls, program: NbdProgram, nursery: trio.Nursery, journal: Journal | None = None
    ) -> NbdProcess:
        """Start it; it can be connected to when this returns.

        The process is recorded in the journal, for `vmount cleanup`. Raises BackendError with the program's last words.
        """
        process = cls(program, journal)
        try:
            if program.is_inetd_style:
                await process._listen(nursery)
            else:
                with trio.move_on_after(program.start_timeout) as scope:
                    await process._start_listening_program(nursery)
                if scope.cancelled_caught:
                    raise BackendTimeout(
                        f"{program.name}: is not listening after {program.start_timeout:g} s"
                        f"{process.last_words}"
                    )
        except BaseException:
            await process.aclose()
            raise
        return process

    @property
    def last_words(self) -> str:
        """What it wrote to standard error last, as the end of a message; empty for nothing."""
        return f": {' | '.join(self._lines)}" if self._lines else ""

    async def aclose(self) -> None:
        """End the program and remove the socket. A second call does nothing."""
        with trio.CancelScope(shield=True):
            if self._listener is not None:
                await self._listener.aclose()
            for process in self._processes:
                await _end(process)
            self._processes.clear()
            with trio.move_on_after(LAST_WORDS):
                for reading in self._readings:
                    await reading.ended.wait()
            for reading in self._readings:
                reading.scope.cancel()
        shutil.rmtree(self._folder, ignore_errors=True)
        while self._entries:
            self._entries.pop().end()

    async def _start_listening_program(self, nursery: trio.Nursery) -> None:
        process = await self._run(nursery, subprocess.DEVNULL, subprocess.DEVNULL)
        pause = FIRST_LOOK
        while not _is_listening(self.socket):
            if process.poll() is not None:
                await self.aclose()
                raise BackendError(
                    f"{self._program.name}: ended with code {process.returncode}{self.last_words}"
                )
            await trio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _listen(self, nursery: trio.Nursery) -> None:
        listening = trio.socket.socket(socket.AF_UNIX)
        await listening.bind(str(self.socket))
        listening.listen(16)
        self._listener = trio.SocketListener(listening)
        nursery.start_soon(self._serve, self._listener, nursery)

    async def _serve(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        """Start the program for each connection."""
        while True:
            try:
                stream = await listener.accept()
            except trio.ClosedResourceError:
                return
            connection = socket.socket(fileno=stream.socket.detach())
            connection.setblocking(True)
            with connection:
                try:
                    await self._run(nursery, connection, connection)
                except OSError as error:
                    log.error("%s: %s", self._program.name, error)

    async def _run(
        self,
        nursery: trio.Nursery,
        stdin: int | socket.socket,
        stdout: int | socket.socket,
    ) -> trio.Process:
        command = self._program.words(self.socket)
        self._processes = [process for process in self._processes if process.poll() is None]
        reading, writing = os.pipe()
        try:
            process = await trio.lowlevel.open_process(
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=writing,
                pass_fds=self._program.descriptors,
                env=_environment() | {**self._program.environment, MARK: self._mark},
                start_new_session=True,
            )
        except OSError as error:
            os.close(reading)
            raise BackendError(
                f"{self._program.name}: {command[0]} cannot be started: {error.strerror}",
                code=error.errno or errno.EIO,
            ) from error
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._processes.append(process)
        self._readings = [running for running in self._readings if not running.ended.is_set()]
        self._readings.append(_Reading(trio.CancelScope(), trio.Event()))
        nursery.start_soon(self._pass_on, reading, self._readings[-1])
        return process

    async def _pass_on(self, descriptor: int, reading: _Reading) -> None:
        """Write what the program says into our log, line by line."""
        try:
            with reading.scope:
                async with trio.lowlevel.FdStream(descriptor) as stream:
                    rest = b""
                    async for data in stream:
                        *lines, rest = (rest + data).split(b"\n")
                        for line in lines:
                            self._note(line)
                        if len(rest) > LONGEST_LINE:
                            self._note(rest)
                            rest = b""
                    if rest:
                        self._note(rest)
        finally:
            reading.ended.set()

    def _note(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace")
        for secret in self._program.secrets:
            text = text.replace(secret, "***")
        text = text[:LONGEST_LINE].rstrip()
        if text:
            self._lines.append(text)
            log.info("%s: %s", self._program.name, text)


def _environment() -> dict[str, str]:
    """Return ours without what holds passwords: a program is given what it needs otherwise."""
    return {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES}


def _is_listening(path: Path) -> bool:
    """Say whether a process listens at a Unix socket, without using up a connection: it may serve only one.

    Source: proc(5), /proc/net/unix.
    """
    lines = Path("/proc/net/unix").read_text(errors="surrogateescape").splitlines()[1:]
    for line in lines:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[7] == str(path):
            return bool(int(fields[3], 16) & ACCEPTS)
    return False


async def _end(process: trio.Process) -> None:
    """End a program and its children: it leads its own process group."""
    _signal(process, signal.SIGTERM)
    with trio.move_on_after(FAREWELL):
        await process.wait()
    if process.returncode is None:
        _signal(process, signal.SIGKILL)
        await process.wait()


def _signal(process: trio.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
