"""A scan: what is to be scanned, by which kind of engine, and what comes of it."""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from vmount.jobs.scan.engine import CLEAN, Engine, Verdict
from vmount.jobs.scan.feeder import Feeder, readable
from vmount.jobs.scan.files_to_scan import (
    Content,
    FilesToScan,
    Selection,
    find_contents,
    seen_of,
)
from vmount.jobs.scan.report import ScanReport, Seen
from vmount.jobs.unread import NotRead
from vmount.volumes.unread import FILE, Unread

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from vmount.api import FileRef
    from vmount.jobs.file_source import FileSource


@runtime_checkable
class PathEngine(Protocol):
    """A scanner that reads files by itself, by their paths."""

    @property
    def largest(self) -> int | None:
        """As Engine has it."""
        ...

    @property
    def is_limit_known(self) -> bool:
        """As Engine has it."""
        ...

    @property
    def advice(self) -> str:
        """As Engine has it."""
        ...

    def version(self) -> str:
        """As Engine has it."""
        ...

    def close(self) -> None:
        """End the program if it runs."""
        ...

    def scan_paths(self, paths: Sequence[str]) -> Generator[tuple[str, Verdict], None, None]:
        """Scan files; yield each path with what was found. Raises VmountError.

        Whoever asks sees to it that the files are there, and reads those that are found clean: a program
        may say so of what it could not read.
        """
        ...


@dataclass(frozen=True)
class ScanOptions:
    """What is scanned of what was found."""

    selection: Selection = field(default_factory=Selection)
    max_size: int | None = None
    """Bytes: larger files are not scanned."""


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
        disks: FileSource,
        sources: Sequence[str],
        engine: Engine | PathEngine,
        on_progress: Callable[[Progress], None],
        options: ScanOptions | None = None,
        place_of: Callable[[FileRef], str] | None = None,
    ) -> None:
        """`place_of` returns the path by which a program of this system opens a file, for a PathEngine.

        It raises OSError for a file that cannot be shown, VmountError if none can.
        """
        self._disks = disks
        self._place_of = place_of
        self._engine = engine
        self._on_progress = on_progress
        self._options = options or ScanOptions()
        self._lock = threading.Lock()
        self._not_read = NotRead("not scanned")
        self._unclean: set[str] = set()
        """Files with a stream that is not clean."""
        self._progress = Progress()
        self.report = ScanReport(
            tuple(sources), engine.version(), datetime.now(UTC).isoformat(timespec="seconds")
        )

    def run(
        self,
        paths: Sequence[str],
        clean: Mapping[str, Seen],
        answers_for: Sequence[str] | None = None,
    ) -> ScanReport:
        """Scan what is at or below the paths, but for what is in `clean` and has not changed.

        `answers_for` are the paths that the report answers for, where they are more than those that can be
        scanned: disks and volumes there that cannot be read are in it as not scanned.
        Raises VmountError if the scanner fails as a whole.
        """
        began = time.monotonic()
        report = self.report
        self._not_read.add_parts(self._disks, paths if answers_for is None else answers_for)
        files = find_contents(
            self._disks, paths, clean, self._tell_found, self._not_read, self._options.selection
        )
        report.excluded = files.excluded
        files.contents = [content for content in files.contents if self._is_taken(content)]
        for file in files.unchanged:
            report.unchanged += 1
            report.clean[file.path] = seen_of(file)
        self._progress.contents, self._progress.size = len(files.contents), files.size
        engine = self._engine
        if isinstance(engine, PathEngine):
            self._scan_paths(engine, files)
        else:
            Feeder(self._disks, engine, self._note).run(files.contents)
        report.not_scanned = sorted(self._not_read.items)
        self._unclean.update(item.path for item in report.not_scanned)
        for path in self._unclean:
            report.clean.pop(path, None)
        report.found.sort()
        report.seconds = time.monotonic() - began
        return report

    def _is_taken(self, content: Content) -> bool:
        """Say whether a content is small enough to be scanned; if not, note that."""
        size, engine = content.file.attrs.size, self._engine
        verdict = None
        if self._options.max_size is not None and size > self._options.max_size:
            limit = _mib(self._options.max_size)
            verdict = Verdict(None, f"larger than --max-size ({limit})")
        elif engine.is_limit_known and engine.largest is not None and size > engine.largest:
            verdict = self._too_large(engine.largest)
        if verdict is not None:
            self._note(content, verdict, 0)
        return verdict is None

    def _too_large(self, largest: int) -> Verdict:
        advice = f"; {self._engine.advice}" if self._engine.advice else ""
        return Verdict(None, f"larger than the limit of the scanner ({_mib(largest)}){advice}")

    def _scan_paths(self, engine: PathEngine, files: FilesToScan) -> None:
        """Let a program read the files by itself."""
        if not files.contents:
            return
        assert self._place_of is not None, "a PathEngine opens files by their paths"
        contents = {}
        for content in files.contents:
            if content.file.stream:
                text = "an alternate stream, which only --engine clamd can scan"
                self._note(content, Verdict(None, text), 0)
                continue
            try:
                contents[self._place_of(content.file)] = content
            except OSError as error:
                self._note(content, Verdict(None, error.strerror or str(error)), 0)
        # Closed before the files go: a program must not outlive the loop that is interrupted.
        with closing(engine.scan_paths(list(contents))) as said_of:
            for path, said in said_of:
                content = contents[path]
                verdict = _in_words_of_the_guest(said, path, content.file.path)
                size = content.file.attrs.size
                if verdict == CLEAN and (problem := _why_not_whole(path, size)) is not None:
                    verdict = Verdict(None, problem)
                self._note(content, verdict, size)

    def _tell_found(self, files: int) -> None:
        self._progress.files = files
        self._on_progress(self._progress)

    def _note(self, content: Content, verdict: Verdict, size: int) -> None:
        """Enter a verdict into the report. Called from any thread."""
        largest, expected = self._engine.largest, content.file.attrs.size
        if verdict == CLEAN and size != expected:
            verdict = Verdict(None, f"{size} of {expected} bytes could be read")
        elif verdict == CLEAN and largest is not None and size > largest:
            verdict = self._too_large(largest)
        report, progress = self.report, self._progress
        with self._lock:
            for file in content.files:
                if file.stream and verdict != CLEAN:
                    self._unclean.add(file.path.removesuffix(f":{file.stream}"))
                if verdict.signature is not None:
                    report.found.append((file.path, verdict.signature))
                elif verdict.problem is not None:
                    self._not_read.add(Unread(FILE, file.path, verdict.problem))
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


def _in_words_of_the_guest(verdict: Verdict, place: str, path: str) -> Verdict:
    """Return a verdict in which a file has its path on the disks, and not that of a private mount."""
    return Verdict(*(None if text is None else text.replace(place, path) for text in verdict))


def _why_not_whole(place: str, size: int) -> str | None:
    """Return why a file that a program calls clean cannot have been read to its end; None if it can.

    It comes from the page cache as a rule, the program having just read it.
    """
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            read = readable(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        return error.strerror or str(error)
    return None if read == size else f"{read} of {size} bytes could be read"


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.6g} MiB"
