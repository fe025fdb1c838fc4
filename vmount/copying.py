"""Copying files out of a set of disks.

Strategy: a file is written to its own name in the target; holes stay holes, since only what may hold
something is read. What fails is reported and the rest is copied. Times and modes are set when the
content is there, those of directories last, because writing into a directory changes its time.

The disk may be made to mislead: names that are there twice, a link where a directory comes next, a
directory inside itself. No link of the disk is ever followed on this machine.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.errors import explain

if TYPE_CHECKING:
    from parsers.model import Attrs
    from vmount.api import DiskSet, Entry

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
        # Where the first of a file's hard links was copied to, and the inode that it got there.
        self._copied: dict[int, tuple[Path, int]] = {}
        self._links: set[Path] = set()

    def copy(self, path: str, target: Path) -> None:
        """Copy a file or a tree to `target`, which is the new name itself."""
        directories: list[tuple[Path, Attrs]] = []
        entered: set[int] = set()
        pending: list[tuple[str, Path, Attrs | None]] = [(path, target, None)]
        while pending:
            source, place, attrs = pending.pop()
            try:
                if attrs is None:
                    attrs = self._disks.stat(source, follow=False)
                if stat.S_ISDIR(attrs.mode):
                    number = self._disks.number(source)
                    if number in entered:
                        raise OSError(errno.ELOOP, "a directory that was copied already", source)
                    entered.add(number)
                    if place.is_symlink() and (place != target or place in self._links):
                        # Only a link that the user gave as the target may lead somewhere else.
                        place.unlink()
                    place.mkdir(exist_ok=True)
                    directories.append((place, attrs))
                    for name, known in reversed(self._members(source)):
                        pending.append((f"{source.rstrip('/')}/{name}", place / name, known))
                else:
                    self._copy_one(source, place, attrs)
            except OSError as error:
                self._fail(source, error)
        for place, attrs in reversed(directories):
            self._set_attributes(place, attrs)

    def _members(self, source: str) -> list[Entry]:
        """List a directory. Of names that are there twice the first is taken, as a path's lookup does."""
        members: dict[str, Entry] = {}
        for entry in self._disks.listdir(source):
            if members.setdefault(entry.name, entry) is not entry:
                path = f"{source.rstrip('/')}/{entry.name}"
                self._fail(path, OSError(errno.EUCLEAN, "the name is there twice", path))
        return list(members.values())

    def _copy_one(self, source: str, place: Path, attrs: Attrs) -> None:
        if stat.S_ISLNK(attrs.mode):
            destination = self._disks.readlink(source)
            place.unlink(missing_ok=True)
            place.symlink_to(destination)
            self._links.add(place)
        elif stat.S_ISREG(attrs.mode):
            number = self._disks.number(source) if attrs.nlink > 1 else 0
            first = self._copy_of(number)
            if first is not None:
                place.unlink(missing_ok=True)
                place.hardlink_to(first)
            else:
                self._copy_content(source, place)
                if attrs.nlink > 1:
                    self._copied[number] = place, place.lstat().st_ino
        elif stat.S_ISFIFO(attrs.mode):
            os.mkfifo(place)
        else:
            os.mknod(place, stat.S_IFMT(attrs.mode) | 0o600, attrs.rdev)
        self._set_attributes(place, attrs)
        self.report.files += 1
        self._on_progress(self.report, source)

    def _copy_of(self, number: int) -> Path | None:
        """Return where a file is already, unless something else has taken its place since."""
        place, inode = self._copied.get(number, (None, 0))
        if place is None or not place.is_file() or place.lstat().st_ino != inode:
            return None
        return place

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
            except BaseException:
                # Half a file under the name of the whole one would be a wrong restore.
                place.unlink()
                raise

    def _set_attributes(self, place: Path, attrs: Attrs) -> None:
        try:
            os.utime(place, ns=(attrs.atime, attrs.mtime), follow_symlinks=False)
            # chmod follows links, so what is there must be what was put there.
            if not stat.S_ISLNK(attrs.mode) and not place.is_symlink():
                place.chmod(attrs.mode & _kept_bits(attrs.mode))
        except OSError as error:
            self._fail(str(place), error)

    def _fail(self, source: str, error: OSError) -> None:
        text = explain(error)
        self.report.problems.append(text if source in text else f"{source}: {text}")


def _kept_bits(mode: int) -> int:
    """Return which permissions a copy gets: it belongs to whoever copies, so no set-user-ID bits.

    A device node leads to a device of this machine, which is not the guest's to give to others.
    """
    return 0o700 if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0o777
