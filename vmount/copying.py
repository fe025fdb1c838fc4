"""Copying files out of a set of disks.

Strategy: a file is written to its own name in the target; holes stay holes, since only what may hold
something is read. What fails is reported and the rest is copied. Times and modes are set when the
content is there, those of directories last, because writing into a directory changes its time.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.errors import explain

if TYPE_CHECKING:
    from parsers.model import Attrs
    from vmount.api import DiskSet

PIECE = 1 << 20
"""Bytes copied at a time."""


@dataclass
class CopyReport:
    """What has been copied so far."""

    files: int = 0
    bytes: int = 0
    """Bytes written; holes do not count."""
    problems: list[str] = field(default_factory=list)
    """One line for each file that is not, or not wholly, there."""


class Copier:
    """Copies files and trees. `on_progress` is called after each piece and each file."""

    def __init__(self, disks: DiskSet, on_progress: Callable[[CopyReport, str], None]) -> None:
        self.report = CopyReport()
        self._disks = disks
        self._on_progress = on_progress
        self._links: dict[int, Path] = {}

    def copy(self, path: str, target: Path) -> None:
        """Copy a file or a tree to `target`, which is the new name itself."""
        directories: list[tuple[Path, Attrs]] = []
        pending: list[tuple[str, Path, Attrs | None]] = [(path, target, None)]
        while pending:
            source, place, attrs = pending.pop()
            try:
                if attrs is None:
                    attrs = self._disks.stat(source, follow=False)
                if stat.S_ISDIR(attrs.mode):
                    if place != target and place.is_symlink():
                        # The disk may name a link and a directory alike, to lead us out of the target.
                        place.unlink()
                    place.mkdir(exist_ok=True)
                    directories.append((place, attrs))
                    for name, known in reversed(self._disks.listdir(source)):
                        pending.append((f"{source.rstrip('/')}/{name}", place / name, known))
                else:
                    self._copy_one(source, place, attrs)
            except OSError as error:
                self._fail(source, error)
        for place, attrs in reversed(directories):
            self._set_attributes(place, attrs)

    def _copy_one(self, source: str, place: Path, attrs: Attrs) -> None:
        if stat.S_ISLNK(attrs.mode):
            place.unlink(missing_ok=True)
            place.symlink_to(self._disks.readlink(source))
        elif stat.S_ISREG(attrs.mode):
            number = self._disks.number(source) if attrs.nlink > 1 else 0
            first = self._links.get(number)
            if first is not None:
                place.unlink(missing_ok=True)
                place.hardlink_to(first)
            else:
                self._copy_content(source, place)
                if attrs.nlink > 1:
                    self._links[number] = place
        elif stat.S_ISFIFO(attrs.mode):
            os.mkfifo(place)
        else:
            os.mknod(place, attrs.mode, attrs.rdev)
        self._set_attributes(place, attrs)
        self.report.files += 1
        self._on_progress(self.report, source)

    def _copy_content(self, source: str, place: Path) -> None:
        place.unlink(missing_ok=True)
        with self._disks.open(source) as reader, place.open("xb") as writer:
            try:
                for start, length in reader.spans():
                    reader.seek(start)
                    writer.seek(start)
                    left = length
                    while left:
                        piece = reader.read(min(PIECE, left))
                        writer.write(piece)
                        left -= len(piece)
                        self.report.bytes += len(piece)
                        self._on_progress(self.report, source)
                writer.truncate(reader.seek(0, os.SEEK_END))
            except OSError:
                # Half a file under the name of the whole one would be a wrong restore.
                place.unlink()
                raise

    def _set_attributes(self, place: Path, attrs: Attrs) -> None:
        try:
            os.utime(place, ns=(attrs.atime, attrs.mtime), follow_symlinks=False)
            if not stat.S_ISLNK(attrs.mode):
                # Not the set-user-ID bits: the copy belongs to whoever copies.
                place.chmod(stat.S_IMODE(attrs.mode) & 0o777)
        except OSError as error:
            self._fail(str(place), error)

    def _fail(self, source: str, error: OSError) -> None:
        text = explain(error)
        self.report.problems.append(text if source in text else f"{source}: {text}")
