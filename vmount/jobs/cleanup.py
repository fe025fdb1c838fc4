"""Undoing what dead processes left behind: `vmount cleanup`.

The journals of the dead are gone through backwards. What cannot be undone stays in its journal with the
reason, and so does what it needs: a snapshot is not removed under a disk that is still attached.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from vmount.errors import MountError, VmountError, explain
from vmount.mounting.mountinfo import find_mount
from vmount.mounting.unmount import fusermount
from vmount.state import Entry, Journal, StateDir
from vmount.state.journal import JournalError
from vmount.state.processes import Process, boot_id, marked_processes
from vmount.state.undo_records import (
    AttachedDisk,
    HelperProcess,
    MountPoint,
    RelocationLock,
    Server,
    Snapshot,
    TemporaryFolder,
    UndoRecord,
    Unknown,
)

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from vmount.vsphere.session import Session

TERM_PATIENCE = 5.0
"""Seconds for a helper process to end by itself after SIGTERM."""
KILL_PATIENCE = 5.0
IN_FLIGHT = 10.0
"""Seconds in which a request of a process that was killed may still reach the server: what it has begun and
is not there yet is looked for again after so long."""


Connect = Callable[[Server], "AbstractAsyncContextManager[Session]"]
"""Logs in to a server that a journal names, and out when the context ends. Raises VmountError."""


@dataclass(frozen=True)
class Outcome:
    """What became of one undo record."""

    kind: str
    undo_record: str
    pid: int | None
    """Of the process that left it."""
    done: str = ""
    """What was done, or (dry run) would be."""
    reason: str = ""
    """Why it remains."""


@dataclass
class Report:
    """What became of all undo records."""

    cleaned: list[Outcome] = field(default_factory=list)
    remaining: list[Outcome] = field(default_factory=list)


class Recovery:
    """Goes over a state folder once."""

    def __init__(
        self,
        state: StateDir,
        connect: Connect,
        tell: Callable[[Outcome], None],
        *,
        dry_run: bool = False,
        hosts: frozenset[str] = frozenset(),
        in_flight: float = IN_FLIGHT,
    ) -> None:
        """Make one that tells of each outcome at once.

        `hosts` are machines that will not come back: what their processes have left is undone too, as far
        as it can be from here.
        """
        self._state = state
        self._connect = connect
        self._tell = tell
        self._dry_run = dry_run
        self._hosts = hosts
        self._in_flight = in_flight
        self._stack = AsyncExitStack()
        self._sessions: dict[Server, Session | VmountError] = {}
        self.report = Report()

    async def run(self) -> Report:
        """Undo what can be undone."""
        async with self._stack:
            for path in self._state.files():
                try:
                    journal = Journal.adopt(path)
                except (OSError, JournalError) as error:
                    reason = explain(error) if isinstance(error, OSError) else str(error)
                    self._remains(Outcome("journal", str(path), None, reason=reason))
                    continue
                if journal is not None:
                    with journal:
                        await self._journal(journal)
        return self.report

    async def _journal(self, journal: Journal) -> None:
        """Undo what a dead process has left, the last undo record first."""
        process = journal.process
        pid = None if process is None else process.pid
        kept: set[type] = set()
        for entry in reversed(journal.entries):
            undo_record = entry.undo_record
            try:
                self._check(undo_record, process, kept)
                done = (
                    f"would undo: {undo_record}"
                    if self._dry_run
                    else await self._undo(entry, journal)
                )
            except VmountError as error:
                kept.add(type(undo_record))
                self._remains(
                    Outcome(undo_record.KIND, str(undo_record), pid, reason=error.as_command())
                )
            else:
                outcome = Outcome(undo_record.KIND, str(undo_record), pid, done=done)
                self.report.cleaned.append(outcome)
                self._tell(outcome)

    def _check(self, undo_record: UndoRecord, process: Process | None, kept: set[type]) -> None:
        """Raise VmountError for what must not be undone; `kept`: what has not been, so far."""
        if process is not None and process.is_elsewhere and process.host not in self._hosts:
            raise VmountError(
                f"it belongs to a process of host {process.host!r}",
                remedy=f"run vmount cleanup there, or here with --host {process.host} if that host no longer exists",
            )
        if isinstance(undo_record, Snapshot) and kept & {AttachedDisk, HelperProcess}:
            raise VmountError("its disks may still be in use (see above)")
        if isinstance(undo_record, Unknown):
            raise VmountError(
                "this version of vmount cannot undo it", remedy="use the newer version"
            )

    def _remains(self, outcome: Outcome) -> None:
        self.report.remaining.append(outcome)
        self._tell(outcome)

    async def _undo(self, entry: Entry, journal: Journal) -> str:
        """Undo a undo record and end its entry; return what was done. Raises VmountError if it stays."""
        undo_record = entry.undo_record
        if isinstance(undo_record, RelocationLock | Snapshot | AttachedDisk):
            session = await self._session(undo_record.server)
            if not undo_record.is_known:
                written = journal.path.stat().st_mtime
                await trio.sleep(max(0.0, written + self._in_flight - time.time()))
            from vmount.vsphere.undo import undo  # pyvmomi is loaded where it is needed

            return await undo(session, entry, self._state)
        if journal.process is not None and journal.process.is_elsewhere:
            done = f"{undo_record} no longer exists: its VM was removed"
        else:
            done = _undo_here(undo_record, self._state)
        entry.end()
        return done

    async def _session(self, server: Server) -> Session:
        found = self._sessions.get(server)
        if found is None:
            try:
                found = await self._stack.enter_async_context(self._connect(server))
            except VmountError as error:
                found = error
            except OSError as error:
                found = VmountError(f"{server.host}: {explain(error)}")
            self._sessions[server] = found
        if isinstance(found, VmountError):
            raise found
        return found


def _undo_here(undo_record: UndoRecord, state: StateDir) -> str:
    """Undo what was done on this machine; return what was done. Raises VmountError."""
    if isinstance(undo_record, MountPoint):
        return _unmount(undo_record, state)
    if isinstance(undo_record, HelperProcess):
        return _end_helper(undo_record)
    assert isinstance(undo_record, TemporaryFolder)
    return _remove_folder(undo_record, state)


def _unmount(undo_record: MountPoint, state: StateDir) -> str:
    mount = find_mount(undo_record.path)
    if mount is None:
        return f"{undo_record.path} is no longer mounted"
    if _is_served(undo_record.path, state):
        return f"{undo_record.path} is now mounted by another process"
    fusermount(mount, lazy=True)
    return f"unmounted {undo_record.path}"


def _is_served(path: str, state: StateDir) -> bool:
    return any(record.process.is_alive and record.mountpoint == path for record in state.records())


def _end_helper(undo_record: HelperProcess) -> str:
    here = Process.current()
    processes = marked_processes(undo_record.mark)
    if undo_record.pid:
        processes.append(Process(undo_record.pid, undo_record.started, here.host, boot_id()))
    alive = [process for process in processes if process.is_alive]
    for process in alive:
        try:
            process.send(signal.SIGTERM)
            if not process.wait(TERM_PATIENCE):
                process.send(signal.SIGKILL)
        except PermissionError as error:
            raise VmountError(
                f"process {process.pid} cannot be terminated: {explain(error)}"
            ) from error
        if not process.wait(KILL_PATIENCE):
            raise VmountError(f"process {process.pid} does not terminate")
    if not alive:
        return f"{undo_record} has already ended"
    return f"ended process {', '.join(str(pid) for pid in sorted({one.pid for one in alive}))} ({undo_record.name})"


def _remove_folder(undo_record: TemporaryFolder, state: StateDir) -> str:
    """Remove a folder. What is mounted at it is taken off first: to look into that may wait for ever."""
    path = Path(undo_record.path)
    mount = find_mount(undo_record.path)
    if mount is not None:
        if _is_served(undo_record.path, state):
            raise MountError(
                f"{path}: still mounted", remedy=f"run: vmount umount {path}; vmount cleanup"
            )
        fusermount(mount, lazy=True)
    try:
        if path.lstat().st_uid != os.getuid():
            raise MountError(f"{path}: belongs to another user")
        if path.is_symlink():
            raise MountError(f"{path}: is a link instead of the folder that vmount created")
        shutil.rmtree(path)
    except FileNotFoundError:
        return f"{undo_record} no longer exists"
    except OSError as error:
        raise VmountError(explain(error)) from error
    return f"removed {path}"
