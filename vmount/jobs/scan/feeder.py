"""Feeding a scanner: one thread reads in disk order, several hand over what was read.

Strategy: a disk set is read from one thread. Each content goes through a short queue of its own to the
worker that talks to the engine for it; so a large file is never whole in memory, and while the engine
scans one, the next ones are read. A content that cannot be read to its end is reported as not scanned,
whatever the engine would say of its beginning. When the reader is interrupted, all queues end at once.
"""

from __future__ import annotations

import io
import os
import threading
from collections import deque
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from vmount.errors import VmountError, explain
from vmount.jobs.scan.engine import CLEAN, Engine, Verdict
from vmount.jobs.scan.files_to_scan import Content, in_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vmount.jobs.file_source import FileSource, OpenFile

T = TypeVar("T")

PIECE = 1 << 20
"""Bytes handed over at a time."""
PIECES_WAITING = 4
"""Of one content, read and not yet taken by the engine."""
BATCH_FILES = 128
BATCH_SIZE = 64 << 20
"""Bytes of a batch of files that are opened, and asked for, together."""
LOOK = 0.1
"""Seconds until a thread that waits looks whether all is given up."""


class GivenUp(Exception):
    """The scan is over before its end: nothing more comes, and nothing more is taken."""


class Channel(Generic[T]):
    """A queue of bounded length, which ends for both sides when all is given up."""

    def __init__(self, longest: int, given_up: threading.Event) -> None:
        self._longest = longest
        self._given_up = given_up
        self._items: deque[T] = deque()
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Add an item, when there is room. Raises GivenUp."""
        with self._changed:
            while len(self._items) >= self._longest:
                self._wait()
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> T:
        """Take the oldest item, when there is one. Raises GivenUp."""
        with self._changed:
            while not self._items:
                self._wait()
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def _wait(self) -> None:
        if self._given_up.is_set():
            raise GivenUp
        self._changed.wait(LOOK)


_Pieces: TypeAlias = "Channel[bytes | OSError | None]"
_Batch: TypeAlias = "tuple[Sequence[Content], Callable[[], Sequence[OpenFile | OSError]]]"


class Feeder:
    """Hands contents over to an engine that takes several at a time."""

    def __init__(
        self, disks: FileSource, engine: Engine, note: Callable[[Content, Verdict, int], None]
    ) -> None:
        self._disks = disks
        self._engine = engine
        self._note = note
        self._given_up = threading.Event()
        self._jobs: Channel[tuple[Content, _Pieces | io.FileIO] | None] = Channel(
            engine.connections, self._given_up
        )
        self._failure: BaseException | None = None

    def run(self, contents: Sequence[Content]) -> None:
        """Hand all of them over. Raises VmountError if the engine has failed.

        After any other exception, Ctrl-C for one, nobody is waited for: a worker may wait for its engine.
        """
        workers = [
            threading.Thread(target=self._work, name=f"scan-{number}", daemon=True)
            for number in range(self._engine.connections)
        ]
        try:
            for worker in workers:
                worker.start()
            batches = in_batches(contents, BATCH_FILES, BATCH_SIZE)
            batch = self._begin(batches)
            while batch is not None and self._failure is None:
                # While this one is read, the next is on its way.
                following = self._begin(batches)
                self._read(*batch)
                batch = following
            for _ in workers:
                self._jobs.put(None)
            for worker in workers:
                worker.join()
        except BaseException:
            self._given_up.set()
            raise
        if self._failure is not None:
            raise self._failure

    def _begin(self, batches: Iterator[Sequence[Content]]) -> _Batch | None:
        """Ask for the next files; None if there are no more."""
        batch = next(batches, None)
        if batch is None:
            return None
        files = [content.file for content in batch]
        return batch, self._disks.soon(lambda: self._disks.open_files(files))

    def _read(
        self, batch: Sequence[Content], readers: Callable[[], Sequence[OpenFile | OSError]]
    ) -> None:
        for content, reader in zip(batch, readers(), strict=True):
            if self._failure is not None:
                return
            if isinstance(reader, OSError):
                self._note(content, Verdict(None, reason_of(reader)), 0)
                continue
            if isinstance(reader, io.FileIO):
                self._jobs.put((content, reader))
                continue
            pieces: _Pieces = Channel(PIECES_WAITING, self._given_up)
            self._jobs.put((content, pieces))
            try:
                with closing(reader):
                    while piece := reader.read(PIECE):
                        pieces.put(piece)
                pieces.put(None)
            except OSError as error:
                pieces.put(error)

    def _work(self) -> None:
        """Talk to the engine until there is nothing more. After a failure all else is only taken away."""
        with suppress(GivenUp):
            while (job := self._jobs.get()) is not None:
                content, what = job
                taken = what if isinstance(what, io.FileIO) else _Taken(what)
                try:
                    if self._failure is None:
                        self._scan(content, taken)
                except OSError as error:
                    self._note(content, Verdict(None, reason_of(error)), 0)
                except VmountError as error:
                    self._failure = error
                finally:
                    taken.close()

    def _scan(self, content: Content, taken: _Taken | io.FileIO) -> None:
        if isinstance(taken, io.FileIO):
            verdict = self._engine.scan_open(taken.fileno())
            size = content.file.attrs.size
            if verdict == CLEAN:
                # The scanner has read the file by itself, and may call clean what it could not read.
                size = readable(taken.fileno())
            self._note(content, verdict, size)
        else:
            verdict = self._engine.scan(taken)
            self._note(content, verdict, taken.size)


class _Taken:
    """The pieces of one content as they come."""

    def __init__(self, pieces: _Pieces) -> None:
        self._pieces = pieces
        self._ended = False
        self.size = 0
        """Bytes so far."""

    def __iter__(self) -> Iterator[bytes]:
        while not self._ended:
            piece = self._next()
            if isinstance(piece, OSError):
                raise piece
            if piece is not None:
                self.size += len(piece)
                yield piece

    def close(self) -> None:
        """Take what is left, so that the reader goes on. Raises GivenUp."""
        while not self._ended:
            self._next()

    def _next(self) -> bytes | OSError | None:
        piece = self._pieces.get()
        self._ended = piece is None or isinstance(piece, OSError)
        return piece


def reason_of(error: OSError) -> str:
    """Return what an error of a file says, without the file's path: the report has that beside it."""
    return error.strerror or explain(error)


def readable(descriptor: int) -> int:
    """Return how many bytes a file has, having read them all. Raises OSError."""
    position = 0
    while piece := os.pread(descriptor, PIECE, position):
        position += len(piece)
    return position
