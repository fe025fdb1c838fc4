"""The journal of one process: what it must undo, written before it is done.

Strategy: a file that is only appended to, one JSON object a line, brought to the disk (fsync) before the
undo record is done. A line cut short by a crash is of a undo record that was not begun. The process holds the file's
lock for as long as it lives, so that the kernel itself says who is dead; whoever gets the lock may go on
where the dead one stopped, in the same file. The file goes when nothing is left to undo.

    {"process": {"pid": 12, "started": 345, "host": "proxy", "boot": "..."}, "at": "2026-01-01T00:00:00+00:00"}
    {"begin": 1, "kind": "snapshot", "values": {...}}
    {"update": 1, "kind": "snapshot", "values": {... what is known now ...}}
    {"end": 1}
"""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
import threading
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from vmount.errors import Remedy, VmountError, explain
from vmount.state.lockfile import try_lock
from vmount.state.processes import Process
from vmount.state.undo_records import UndoRecord, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

OTHER_FOLDER = Remedy(
    "choose another folder with --state-dir", "name another folder: open_disks(..., state_dir=...)"
)

SUFFIX = ".journal"
SOCKET_SUFFIX = ".sock"
LONGEST = 1 << 24
"""Bytes of a journal that are read: a process does hundreds of undo records, of some hundred bytes each."""


@dataclass
class Contents:
    """What a journal's file says."""

    process: Process | None = None
    """None: the file was made, and its process killed before it wrote anything."""
    at: str = ""
    """When the process began, ISO 8601."""
    undo_records: dict[int, UndoRecord] = field(default_factory=dict)
    """What has been begun and not ended, by number, the oldest first."""
    last: int = 0


class JournalError(ValueError):
    """A file is no journal."""


def parse(text: bytes) -> Contents:
    """Return what a journal says. Raises JournalError for what is not one.

    An unfinished last line is left out.
    """
    contents = Contents()
    try:
        for line in text.split(b"\n")[:-1]:
            _take(contents, json.loads(line))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise JournalError(f"not a journal of vmount: {error!r}") from error
    return contents


def _take(contents: Contents, fields: dict[str, Any]) -> None:
    if "process" in fields:
        contents.process = Process(**fields["process"])
        contents.at = str(fields["at"])
    elif "begin" in fields:
        contents.last = int(fields["begin"])
        contents.undo_records[contents.last] = decode(fields)
    elif "update" in fields:
        contents.undo_records[int(fields["update"])] = decode(fields)
    else:
        contents.undo_records.pop(int(fields["end"]), None)


def read(path: Path) -> Contents:
    """Return what a journal says. Raises OSError, or JournalError for a file that is none."""
    return parse(_whole(path))


def _whole(path: Path) -> bytes:
    with path.open("rb") as file:
        text = file.read(LONGEST + 1)
    if len(text) > LONGEST:
        raise JournalError(f"longer than {LONGEST} bytes")
    return text


class Entry:
    """A undo record that was begun. It stays in the journal until `end`: leave it there if undoing it fails."""

    def __init__(self, journal: Journal, number: int, undo_record: UndoRecord) -> None:
        self.undo_record = undo_record
        self._journal = journal
        self._number = number

    def update(self, undo_record: UndoRecord) -> None:
        """Say more of it than could be known before it was done."""
        self.undo_record = undo_record
        self._journal._append({"update": self._number, **encode(undo_record)})  # noqa: SLF001

    def end(self) -> None:
        """It is undone, or was never done. A second call does nothing."""
        self._journal._end(self._number)  # noqa: SLF001


class Journal:
    """Writes a journal; any thread may. The file is made when the first undo record is begun.

    Use:

        entry = journal.begin(TemporaryFolder(str(path)))
        path.mkdir()
        ...
        path.rmdir()
        entry.end()
    """

    def __init__(self, folder: Path, prepare: Callable[[], None]) -> None:
        """Keep the file in `folder`, which `prepare` makes. Raises nothing."""
        self.token = secrets.token_hex(8)
        """Names this journal in all the world; names of undo records made from it are found again."""
        self._prepare = prepare
        self._path = folder / f"{self.token}{SUFFIX}"
        self._descriptor: int | None = None
        self._contents = Contents()
        self._mutex = threading.Lock()

    @classmethod
    def adopt(cls, path: Path) -> Journal | None:
        """Take over the journal of a process that is dead; None if it lives, or left nothing.

        Raises OSError, or JournalError for a file that is no journal.
        """
        try:
            descriptor = try_lock(path, create=False)
        except FileNotFoundError:
            return None
        if descriptor is None:
            return None
        try:
            text = _whole(path)
            contents = parse(text)
            os.ftruncate(descriptor, text.rfind(b"\n") + 1)
        except BaseException:
            os.close(descriptor)
            raise
        journal = cls(path.parent, lambda: None)
        journal.token = path.name.removesuffix(SUFFIX)
        journal._path = path
        journal._descriptor = descriptor
        journal._contents = contents
        return journal

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def socket(self) -> Path:
        """Where the process may be talked to as long as it has something in the journal."""
        return self._path.with_suffix(SOCKET_SUFFIX)

    @property
    def process(self) -> Process | None:
        """Who began the undo records."""
        return self._contents.process

    @property
    def entries(self) -> list[Entry]:
        """What is to be undone, in the order in which it was done."""
        with self._mutex:
            undo_records = dict(self._contents.undo_records)
        return [Entry(self, number, undo_record) for number, undo_record in undo_records.items()]

    def begin(self, undo_record: UndoRecord) -> Entry:
        """Write down what is about to be done. Raises VmountError if it cannot be written: do not do it.

        The caller ends the entry once the undo record is undone.
        """
        with self._mutex:
            number = self._contents.last + 1
            try:
                if self._descriptor is None:
                    self._create()
                self._write({"begin": number, **encode(undo_record)})
            except OSError as error:
                raise VmountError(
                    f"cannot record {undo_record}: {explain(error)}",
                    remedy=OTHER_FOLDER,
                ) from error
            self._contents.last = number
            self._contents.undo_records[number] = undo_record
        return Entry(self, number, undo_record)

    def create(self) -> None:
        """Make the file now: later this process may not be able to. Raises VmountError."""
        with self._mutex:
            try:
                if self._descriptor is None:
                    self._create()
            except OSError as error:
                raise VmountError(
                    f"cannot record what to undo: {explain(error)}",
                    remedy=OTHER_FOLDER,
                ) from error

    def close(self) -> None:
        """Release the file. What has not been ended stays there, for `vmount cleanup`."""
        with self._mutex:
            if self._descriptor is None:
                return
            if not self._contents.undo_records:
                self._path.unlink(missing_ok=True)
                self.socket.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def hand_over(self) -> None:
        """Leave the journal to a process that was forked since it was begun, which closes it."""
        with self._mutex:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _create(self) -> None:
        self._prepare()
        descriptor = try_lock(self._path, create=True)
        assert descriptor is not None, "nobody else knows the name"
        self._descriptor = descriptor
        process = Process.current()
        at = datetime.now(UTC).isoformat(timespec="seconds")
        self._contents = Contents(process, at)
        self._write({"process": asdict(process), "at": at})
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _end(self, number: int) -> None:
        with self._mutex:
            if self._contents.undo_records.pop(number, None) is None:
                return
            self._try_write({"end": number})

    def _append(self, fields: dict[str, Any]) -> None:
        with self._mutex:
            self._contents.undo_records[fields["update"]] = decode(fields)
            self._try_write(fields)

    def _try_write(self, fields: dict[str, Any]) -> None:
        """Write what would only save the cleaning up some looking."""
        if self._descriptor is None:
            return
        try:
            self._write(fields)
        except OSError as error:
            log.warning("%s: %s; vmount cleanup may miss something", self._path, explain(error))

    def _write(self, fields: dict[str, Any]) -> None:
        assert self._descriptor is not None
        line = json.dumps(fields, ensure_ascii=True).encode() + b"\n"
        size = os.fstat(self._descriptor).st_size
        try:
            if os.write(self._descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise
