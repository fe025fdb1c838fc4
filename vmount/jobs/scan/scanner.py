"""Feeding a scanner: one thread reads in disk order, several hand over what was read.

Strategy: a disk set is read from one thread. Each content goes through a short queue of its own to the
worker that talks to the engine for it; so a large file is never whole in memory, and while the engine
thinks about one the next ones are read. A content that cannot be read to its end is told as not scanned,
whatever the engine would say of its beginning.
"""

from __future__ import annotations

import io
import queue
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from vmount.errors import VmountError, explain
from vmount.jobs.scan.corpus import Content, Corpus, find_contents, in_batches, seen_of
from vmount.jobs.scan.engine import CLEAN, Engine, Verdict
from vmount.jobs.scan.report import ScanReport, Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from vmount.jobs.scan.corpus import Source

PIECE = 1 << 20
"""Bytes handed over at a time."""
PIECES_WAITING = 4
"""Of one content, read and not yet taken by the engine."""
BATCH_FILES = 128
BATCH_SIZE = 64 << 20
"""Bytes of a batch of files that are opened, and asked for, together."""


@runtime_checkable
class PathEngine(Protocol):
    """A scanner that reads files by itself, by their paths."""

    @property
    def largest(self) -> int | None:
        """As Engine has it."""
        ...

    def version(self) -> str:
        """As Engine has it."""
        ...

    def scan_paths(self, paths: Sequence[str]) -> Iterator[tuple[str, Verdict]]:
        """Scan files; yield each path with what was found. Raises VmountError."""
        ...


@dataclass
class Progress:
    """How far a scan is."""

    files: int = 0
    """Found so far."""
    contents: int | None = None
    """To be scanned; None while they are still looked for."""
    size: int = 0
    """Bytes of them."""
    scanned: int = 0
    bytes: int = 0
    found: int = 0
    path: str = ""


class Scan:
    """A scan of a disk set."""

    def __init__(
        self,
        disks: Source,
        sources: Sequence[str],
        engine: Engine | PathEngine,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._disks = disks
        self._engine = engine
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._unclean: set[str] = set()
        """Files with a stream that is not clean."""
        self._progress = Progress()
        self.report = ScanReport(
            tuple(sources), engine.version(), datetime.now(UTC).isoformat(timespec="seconds")
        )

    def run(self, paths: Sequence[str], clean: Mapping[str, Seen]) -> ScanReport:
        """Scan what is at or below the paths, but for what is in `clean` and has not changed.

        Raises VmountError if the scanner fails as a whole, OSError for a path that is not there.
        """
        began = time.monotonic()
        report = self.report
        corpus = find_contents(self._disks, paths, clean, self._tell_found)
        for error in corpus.problems:
            report.not_scanned.append((str(error.filename or ""), error.strerror or str(error)))
        for file in corpus.unchanged:
            report.unchanged += 1
            report.clean[file.path] = seen_of(file)
        self._progress.contents, self._progress.size = len(corpus.contents), corpus.size
        engine = self._engine
        if isinstance(engine, PathEngine):
            self._scan_paths(engine, corpus)
        else:
            _Feeder(self._disks, engine, self._note).run(corpus.contents)
        for path in self._unclean:
            report.clean.pop(path, None)
        report.found.sort()
        report.not_scanned.sort()
        report.seconds = time.monotonic() - began
        return report

    def _scan_paths(self, engine: PathEngine, corpus: Corpus) -> None:
        """Let a program read the files by itself."""
        if not corpus.contents:
            return
        top = self._disks.folder()
        contents = {}
        for content in corpus.contents:
            if content.file.stream:
                self._note(content, Verdict(None, "an alternate stream, which clamd scans"), 0)
            else:
                contents[f"{top}/{content.file.path}"] = content
        for path, verdict in engine.scan_paths(list(contents)):
            self._note(contents[path], verdict, contents[path].file.attrs.size)

    def _tell_found(self, files: int) -> None:
        self._progress.files = files
        self._on_progress(self._progress)

    def _note(self, content: Content, verdict: Verdict, size: int) -> None:
        """Enter a verdict into the report. Called from any thread."""
        largest = self._engine.largest
        if verdict == CLEAN and largest and size > largest:
            verdict = Verdict(None, f"larger than the scanner takes ({largest} bytes)")
        report, progress = self.report, self._progress
        with self._lock:
            for file in content.files:
                if file.stream and verdict != CLEAN:
                    self._unclean.add(file.path.removesuffix(f":{file.stream}"))
                if verdict.signature is not None:
                    report.found.append((file.path, verdict.signature))
                elif verdict.problem is not None:
                    report.not_scanned.append((file.path, verdict.problem))
                else:
                    report.clean[file.path] = seen_of(file)
            if verdict.problem is None:
                report.scanned += 1
                report.bytes += size
                report.same_content += len(content.others)
            progress.scanned += 1
            progress.bytes += size
            progress.found = len(report.found)
            progress.path = content.file.path
            self._on_progress(progress)


_Pieces = queue.Queue[bytes | OSError | None]
_Reader: TypeAlias = "io.BufferedIOBase | io.FileIO | OSError"
_Batch: TypeAlias = "tuple[Sequence[Content], Callable[[], Sequence[_Reader]]]"


class _Feeder:
    """Hands contents over to an engine that takes several at a time."""

    def __init__(
        self, disks: Source, engine: Engine, note: Callable[[Content, Verdict, int], None]
    ) -> None:
        self._disks = disks
        self._engine = engine
        self._note = note
        self._jobs: queue.Queue[tuple[Content, _Pieces | io.FileIO] | None] = queue.Queue(
            engine.connections
        )
        self._failure: BaseException | None = None

    def run(self, contents: Sequence[Content]) -> None:
        """Hand all of them over. Raises VmountError if the engine has failed."""
        workers = [
            threading.Thread(target=self._work, name=f"scan-{number}")
            for number in range(self._engine.connections)
        ]
        for worker in workers:
            worker.start()
        try:
            batches = in_batches(contents, BATCH_FILES, BATCH_SIZE)
            batch = self._begin(batches)
            while batch is not None and self._failure is None:
                # While this one is read, the next is on its way.
                following = self._begin(batches)
                self._read(*batch)
                batch = following
        finally:
            for _ in workers:
                self._jobs.put(None)
            for worker in workers:
                worker.join()
        if self._failure is not None:
            raise self._failure

    def _begin(self, batches: Iterator[Sequence[Content]]) -> _Batch | None:
        """Ask for the next files; None if there are no more."""
        batch = next(batches, None)
        if batch is None:
            return None
        files = [content.file for content in batch]
        return batch, self._disks.soon(lambda: self._disks.open_files(files))

    def _read(self, batch: Sequence[Content], readers: Callable[[], Sequence[_Reader]]) -> None:
        for content, reader in zip(batch, readers(), strict=True):
            if self._failure is not None:
                return
            if isinstance(reader, OSError):
                self._note(content, Verdict(None, explain(reader)), 0)
                continue
            if isinstance(reader, io.FileIO):
                self._jobs.put((content, reader))
                continue
            pieces: _Pieces = queue.Queue(PIECES_WAITING)
            self._jobs.put((content, pieces))
            try:
                with reader:
                    while piece := reader.read(PIECE):
                        pieces.put(piece)
                pieces.put(None)
            except OSError as error:
                pieces.put(error)

    def _work(self) -> None:
        """Talk to the engine until there is nothing more. After a failure all else is only taken away."""
        while (job := self._jobs.get()) is not None:
            content, what = job
            taken = what if isinstance(what, io.FileIO) else _Taken(what)
            try:
                if self._failure is None:
                    self._scan(content, taken)
            except OSError as error:
                self._note(content, Verdict(None, explain(error)), 0)
            except VmountError as error:
                self._failure = error
            finally:
                taken.close()

    def _scan(self, content: Content, taken: _Taken | io.FileIO) -> None:
        if isinstance(taken, io.FileIO):
            verdict = self._engine.scan_open(taken.fileno())
            self._note(content, verdict, content.file.attrs.size)
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
        """Take what is left, so that the reader goes on."""
        while not self._ended:
            self._next()

    def _next(self) -> bytes | OSError | None:
        piece = self._pieces.get()
        self._ended = piece is None or isinstance(piece, OSError)
        return piece
