"""What differs between two disk sets: two snapshots of a machine, or a machine and its clone."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from vmount.errors import ListingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vmount.api import Entry
    from vmount.jobs.file_source import FileSource, OpenFile
    from vmount.parsers.model import Attrs

PIECE = 1 << 20


class Change(NamedTuple):
    """A path, and how it differs."""

    kind: str
    """"added", "removed", "type", "content", "attributes"."""
    path: str
    """Of what was before, where that is not the same."""
    before: Attrs | None
    after: Attrs | None


@dataclass(frozen=True)
class Comparison:
    """How two trees are compared."""

    checksum: bool = False
    """Read files of one size, instead of going by their times."""


class Place(NamedTuple):
    """Where something is in one of two disk sets."""

    disks: FileSource
    path: str
    is_missing: bool = False
    """There is nothing of the kind in this set, whatever is at the path."""

    def below(self, name: str) -> Place:
        """Return where a name in this directory is."""
        return self._replace(path=f"{self.path}/{name}")


def compare(
    first: Place,
    second: Place,
    how: Comparison,
    on_error: Callable[[OSError], None],
) -> Iterator[Change]:
    """Yield what differs at or below two places, in the order of the names.

    A whole directory that is new or gone is one change for each thing in it. Raises OSError if there is
    nothing at either.
    """
    before, after = _stat(first), _stat(second)
    if before is None and after is None:
        first.disks.stat(first.path)
    one, other = _Side(first.disks, on_error), _Side(second.disks, on_error)
    pending = [
        (
            first._replace(path=first.path.rstrip("/")),
            second._replace(path=second.path.rstrip("/")),
            before,
            after,
        )
    ]
    while pending:
        here, there, before, after = pending.pop()
        yield from _change(here, there, before, after, how, on_error)
        left, right = one.members(here.path, before), other.members(there.path, after)
        if left is None or right is None:
            continue
        names = sorted(left.keys() | right.keys(), reverse=True)
        pending += [
            (here.below(name), there.below(name), left.get(name), right.get(name)) for name in names
        ]


def _change(
    first: Place,
    second: Place,
    before: Attrs | None,
    after: Attrs | None,
    how: Comparison,
    on_error: Callable[[OSError], None],
) -> Iterator[Change]:
    path = first.path
    if before is None or after is None:
        yield Change("added" if before is None else "removed", path, before, after)
        return
    if stat.S_IFMT(before.mode) != stat.S_IFMT(after.mode):
        yield Change("type", path, before, after)
        return
    try:
        if _differs(first, second, before, after, how):
            yield Change("content", path, before, after)
            return
    except OSError as error:
        on_error(error)
        return
    if (before.mode, before.uid, before.gid) != (after.mode, after.uid, after.gid):
        yield Change("attributes", path, before, after)


def _differs(first: Place, second: Place, before: Attrs, after: Attrs, how: Comparison) -> bool:
    if stat.S_ISLNK(before.mode):
        return first.disks.readlink(first.path) != second.disks.readlink(second.path)
    if stat.S_ISCHR(before.mode) or stat.S_ISBLK(before.mode):
        return before.rdev != after.rdev
    if not stat.S_ISREG(before.mode):
        return False
    if before.size != after.size:
        return True
    if not how.checksum:
        return before.mtime != after.mtime
    with (
        closing(first.disks.open(first.path)) as left,
        closing(second.disks.open(second.path)) as right,
    ):
        while True:
            piece = _read(left)
            if piece != _read(right):
                return True
            if not piece:
                return False


def _read(file: OpenFile) -> bytes:
    """Return the next PIECE bytes, fewer at the end only. Raises OSError."""
    piece = file.read(PIECE) or b""
    while 0 < len(piece) < PIECE and (more := file.read(PIECE - len(piece))):
        piece += more
    return piece


class _Side:
    """The directories of one of the two."""

    def __init__(self, disks: FileSource, on_error: Callable[[OSError], None]) -> None:
        self._disks = disks
        self._on_error = on_error
        self._entered: set[int] = set()

    def members(self, path: str, attrs: Attrs | None) -> dict[str, Attrs] | None:
        """Return what is in a directory; nothing for what is none. None: that cannot be told.

        A directory is listed once: damage can put one inside itself.
        """
        if attrs is None or not stat.S_ISDIR(attrs.mode):
            return {}
        try:
            number = self._disks.number(path)
            if number in self._entered:
                raise OSError(errno.ELOOP, "the same directory was already listed", path)
            self._entered.add(number)
            entries = self._disks.listdir(path)
        except OSError as error:
            self._on_error(ListingError.of(error))
            return None
        known = ((entry.name, _known(entry, path, self._on_error)) for entry in entries)
        return {name: attrs for name, attrs in known if attrs is not None}


def _known(entry: Entry, path: str, on_error: Callable[[OSError], None]) -> Attrs | None:
    if entry.attrs is None:
        on_error(OSError(0, "its record is damaged", os.path.join(path, entry.name)))  # noqa: PTH118
    return entry.attrs


def _stat(place: Place) -> Attrs | None:
    if place.is_missing:
        return None
    try:
        return place.disks.stat(place.path, follow=False)
    except FileNotFoundError:
        return None
