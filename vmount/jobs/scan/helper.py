"""Scanners that are programs, for a process that may start none because it reads hostile disks.

Another process, started before, mounts what is scanned (the mount's own process is confined as well) and
runs the program on files of that mount and of nothing else.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmount.api.handles import Mounting
from vmount.errors import UsageError
from vmount.jobs.scan.engine import Verdict
from vmount.sandbox.broker import Broker
from vmount.sources.opening import absolute
from vmount.sources.virtual_machine import VmInfo
from vmount.state import StateDir
from vmount.state.temporary import make_folder

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from vmount.jobs.scan.scanner import PathEngine
    from vmount.options import OpenOptions
    from vmount.state import Entry, Journal


class EngineHelper:
    """A PathEngine whose program is run by another process. Close it when done."""

    def __init__(
        self,
        engine: PathEngine,
        source: str,
        options: OpenOptions,
        state_dir: Path,
    ) -> None:
        """Start the process; it opens nothing yet. Raises VmountError if there is no such program."""
        self._version = engine.version()
        self.largest = engine.largest
        """As Engine has it, like the next two."""
        self.is_limit_known = engine.is_limit_known
        self.advice = engine.advice
        journal = StateDir(state_dir).journal()
        self.folder, entry = make_folder("vmount-scan-", journal)
        """What is below may be read: there is the mount."""
        services = _Services(engine, source, options, state_dir, self.folder, journal, entry)
        self._broker = Broker({"mount": services.mount, "scan": services.scan}, services.close)
        journal.hand_over()  # this process will not be allowed to remove it

    def version(self) -> str:
        """Return what the program said of itself."""
        return self._version

    def scan_paths(self, paths: Sequence[str]) -> Generator[tuple[str, Verdict], None, None]:
        """Scan files; yield each path with what was found. Raises VmountError."""
        for (path, signature, problem), _ in self._broker.ask("scan", list(paths)):
            yield path, Verdict(signature, problem)

    def mount(self, machines: Sequence[dict[str, Any]], volumes: Sequence[str]) -> Path:
        """Mount volumes of the source; return the mount point. `machines` is as info() has it."""
        for answer, _ in self._broker.ask("mount", {"machines": machines, "volumes": volumes}):
            return Path(answer)
        raise AssertionError("a service answers or raises")

    def close(self) -> None:
        """Unmount and let the process end. A second call does nothing."""
        self._broker.close()


class _Services:
    """What the process does."""

    def __init__(
        self,
        engine: PathEngine,
        source: str,
        options: OpenOptions,
        state_dir: Path,
        folder: Path,
        journal: Journal,
        entry: Entry | None,
    ) -> None:
        self._journal, self._entry = journal, entry
        self._engine = engine
        self._own_folder = folder
        self._mountpoint = folder / "mnt"
        self._mounting = Mounting((absolute(source),), options, self._mountpoint, state_dir)
        # A folder needs no mount.
        self._folder = os.path.realpath(source) if Path(source).is_dir() else ""

    def mount(self, value: Any, _: Sequence[int]) -> Iterator[tuple[Any, Sequence[int]]]:
        """Mount volumes; answer with the mount point."""
        self._mounting.share([VmInfo(**fields) for fields in value["machines"]])
        self._mountpoint.mkdir(exist_ok=True)
        for volume in value["volumes"]:
            self._mounting.mount(str(volume))
        self._folder = os.path.realpath(self._mountpoint)
        yield self._folder, ()

    def scan(self, value: Any, _: Sequence[int]) -> Iterator[tuple[Any, Sequence[int]]]:
        """Answer with the verdict of each path."""
        for folder in {os.path.dirname(path) for path in value}:  # noqa: PTH120 (they are many)
            if not self._folder or not f"{os.path.realpath(folder)}/".startswith(
                f"{self._folder}/"
            ):
                raise UsageError(f"{folder}: not part of the scanned files")
        for path, verdict in self._engine.scan_paths(value):
            yield [path, verdict.signature, verdict.problem], ()

    def close(self) -> None:
        """End the program, which may run, and unmount."""
        self._engine.close()
        self._mounting.close()
        for folder in (self._mountpoint, self._own_folder):
            with suppress(OSError):
                folder.rmdir()
        if self._entry is not None and not self._own_folder.exists():
            self._entry.end()
        self._journal.close()
