"""Records of running mounts: one JSON file each, written before the mount and removed after it.

A record names a process by its number and its start time, so that a number used again is not taken for
it. Records hold no secret.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from vmount.errors import VmountError, explain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class MountRecord:
    """A mount and the process that serves it."""

    pid: int
    started: int
    """Start of the process in clock ticks since boot (/proc/PID/stat, field 22)."""
    mountpoint: str
    sources: tuple[str, ...]

    @property
    def is_alive(self) -> bool:
        """Say whether the process still runs."""
        return process_start(self.pid) == self.started


class StateDir:
    """The folder of the records. It belongs to one user and is made when it is first needed."""

    def __init__(self, path: Path) -> None:
        # The server leaves the folder that it was started in.
        self._path = path.absolute()

    def write(self, record: MountRecord) -> None:
        """Write a record. Raises VmountError if the folder cannot be used."""
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._is_ours():
                raise VmountError(
                    f"{self._path}: belongs to somebody else, or others may write to it",
                    remedy="name another folder with --state-dir",
                )
            file = self._file(record)
            scratch = file.with_suffix(".new")
            scratch.write_text(json.dumps(asdict(record)), "utf-8", "surrogateescape")
            scratch.replace(file)
        except OSError as error:
            raise VmountError(
                f"cannot record the mount: {explain(error)}",
                remedy="name another folder with --state-dir",
            ) from error

    def remove(self, record: MountRecord) -> None:
        """Remove a record; one that is gone is no error."""
        self._file(record).unlink(missing_ok=True)
        self.socket(record).unlink(missing_ok=True)

    def records(self) -> Iterator[MountRecord]:
        """Yield all records, those of dead processes too. A file that is no record is passed over.

        A folder that others may write to has none: a record names a process that may be sent a signal.
        """
        if not self._path.is_dir() or not self._is_ours():
            return
        for file in sorted(self._path.glob("*.json")):
            try:
                values = json.loads(file.read_text("utf-8", "surrogateescape"))
                yield MountRecord(
                    int(values["pid"]),
                    int(values["started"]),
                    str(values["mountpoint"]),
                    tuple(map(str, values["sources"])),
                )
            except (OSError, ValueError, KeyError, TypeError):
                continue

    def socket(self, record: MountRecord) -> Path:
        """Return the path of the socket on which the process of a mount is talked to."""
        return self._file(record).with_suffix(".sock")

    def find(self, mountpoint: str) -> MountRecord | None:
        """Return the record of the mount at a path: the youngest one whose process runs, or of all."""
        found = [record for record in self.records() if record.mountpoint == mountpoint]
        return max(found, key=lambda record: (record.is_alive, record.started), default=None)

    def _is_ours(self) -> bool:
        """Say whether nobody else can have put anything there."""
        status = self._path.lstat()
        return status.st_uid == os.getuid() and not status.st_mode & 0o022

    def _file(self, record: MountRecord) -> Path:
        return self._path / f"{record.pid}-{record.started}.json"


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
