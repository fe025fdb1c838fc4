"""The folder of the journals. It belongs to one user, outlives a reboot, and is made when first needed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.errors import VmountError, explain
from vmount.state.journal import (
    OTHER_FOLDER,
    SOCKET_SUFFIX,
    SUFFIX,
    Contents,
    Journal,
    JournalError,
    read,
)
from vmount.state.lockfile import try_lock
from vmount.state.undo_records import MountPoint, Snapshot, UndoRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmount.state.processes import Process

PATIENCE = 60.0
SNAPSHOT_PATIENCE = 3900.0
"""Seconds: the removal of a snapshot is waited for an hour (`vsphere.snapshots.REMOVE_LIMIT`)."""


@dataclass(frozen=True)
class MountRecord:
    """A mount and the process that serves it."""

    process: Process
    mountpoint: str
    sources: tuple[str, ...]
    socket: Path
    """On which the process is talked to."""
    others: tuple[UndoRecord, ...] = ()
    """What else the process has to undo."""

    @property
    def patience(self) -> float:
        """Seconds that its process may take to end once it is unmounted."""
        has_snapshot = any(isinstance(undo_record, Snapshot) for undo_record in self.others)
        return SNAPSHOT_PATIENCE if has_snapshot else PATIENCE


class StateDir:
    """The journals of this user's processes."""

    def __init__(self, path: Path) -> None:
        # The server leaves the folder that it was started in.
        self.path = path.absolute()

    def journal(self) -> Journal:
        """Return a new journal, for this process. Its file is made when it is first written."""
        return Journal(self.path, self.prepare)

    def journals(self) -> Iterator[tuple[Path, Contents]]:
        """Yield all journals, those of dead processes too. A file that is none is passed over."""
        for path in self.files():
            try:
                yield path, read(path)
            except (OSError, JournalError):
                continue

    def files(self) -> list[Path]:
        """Return the journals' files.

        A folder that others may write to has none: a journal names processes to be killed and folders to
        be removed.
        """
        if not self.path.is_dir() or not self._is_ours():
            return []
        return sorted(self.path.glob(f"*{SUFFIX}"))

    def records(self) -> Iterator[MountRecord]:
        """Yield what journals say of mounts."""
        for path, contents in self.journals():
            for undo_record in contents.undo_records.values():
                if isinstance(undo_record, MountPoint) and contents.process is not None:
                    socket = path.with_suffix(SOCKET_SUFFIX)
                    others = tuple(
                        other for other in contents.undo_records.values() if other != undo_record
                    )
                    yield MountRecord(
                        contents.process, undo_record.path, undo_record.sources, socket, others
                    )

    def find(self, mountpoint: str) -> MountRecord | None:
        """Return the record of the mount at a path: the youngest one whose process runs, or of all."""
        found = [record for record in self.records() if record.mountpoint == mountpoint]
        return max(
            found,
            key=lambda record: (record.process.is_alive, record.process.started),
            default=None,
        )

    def left_in(self, record: MountRecord) -> tuple[UndoRecord, ...]:
        """Return what the process of a mount, which has ended, has not undone."""
        path = record.socket.with_suffix(SUFFIX)
        return next(
            (tuple(found.undo_records.values()) for name, found in self.journals() if name == path),
            (),
        )

    def left_at(self, mountpoint: str) -> tuple[UndoRecord, ...]:
        """Return what dead processes that served a mount point have not undone, the mount itself excepted."""
        return tuple(
            undo_record
            for record in self.records()
            if record.mountpoint == mountpoint and not record.process.is_alive
            for undo_record in record.others
        )

    def forget_mount(self, mountpoint: str) -> None:
        """Strike a mount point that is no more from the journals of dead processes."""
        for path in self.files():
            try:
                journal = Journal.adopt(path)
            except (OSError, JournalError):
                continue
            if journal is None:
                continue
            with journal:
                for entry in journal.entries:
                    if (
                        isinstance(entry.undo_record, MountPoint)
                        and entry.undo_record.path == mountpoint
                    ):
                        entry.end()

    def try_lock(self, name: str) -> int | None:
        """Return a descriptor that holds the lock of that name; None while another process has it.

        Close it with `release`. Raises VmountError if the folder cannot be used.
        """
        try:
            self.prepare()
            return try_lock(self.path / f"{name}.lock", create=True)
        except OSError as error:
            raise _unusable(error) from error

    def release(self, name: str, descriptor: int) -> None:
        """Let a lock go."""
        (self.path / f"{name}.lock").unlink(missing_ok=True)
        os.close(descriptor)

    def prepare(self) -> None:
        """Make the folder if there is none. Raises VmountError if it cannot be used."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(error) from error
        if not self._is_ours():
            raise VmountError(
                f"{self.path}: another user owns it, or other users can write to it",
                remedy=OTHER_FOLDER,
            )

    def _is_ours(self) -> bool:
        """Say whether nobody else can have put anything there."""
        status = self.path.lstat()
        return status.st_uid == os.getuid() and not status.st_mode & 0o022


def _unusable(error: OSError) -> VmountError:
    return VmountError(
        f"cannot record what to undo: {explain(error)}",
        remedy=OTHER_FOLDER,
    )
