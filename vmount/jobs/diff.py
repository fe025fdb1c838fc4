"""What differs between two disk sets: two snapshots of a machine, or a machine and its clone."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vmount.api import DiskSet, Entry
    from vmount.parsers.model import Attrs

PIECE = 1 << 20


class Change(NamedTuple):
    """A path, and how it differs."""

    kind: str
    """"added", "removed", "type", "content", "attributes"."""
    path: str
    before: Attrs | None
    after: Attrs | None


@dataclass(frozen=True)
class Comparison:
    """How two trees are compared."""

    checksum: bool = False
    """Read files of one size, instead of going by their times."""


def compare(
    first: DiskSet,
    second: DiskSet,
    path: str,
    how: Comparison,
    on_error: Callable[[OSError], None],
) -> Iterator[Change]:
    """Yield what differs at or below a path, in the order of the names.

    A whole directory that is new or gone is one change for each thing in it. Raises OSError if the path is
    in neither set.
    """
    before, after = _stat(first, path), _stat(second, path)
    if before is None and after is None:
        first.stat(path)
    one, other = _Side(first, on_error), _Side(second, on_error)
    pending: list[tuple[str, Attrs | None, Attrs | None]] = [(path.rstrip("/"), before, after)]
    while pending:
        here, before, after = pending.pop()
        yield from _change(first, second, here, before, after, how, on_error)
        left, right = one.members(here, before), other.members(here, after)
        if left is None or right is None:
            continue
        names = sorted(left.keys() | right.keys(), reverse=True)
        pending += [(f"{here}/{name}", left.get(name), right.get(name)) for name in names]


def _change(
    first: DiskSet,
    second: DiskSet,
    path: str,
    before: Attrs | None,
    after: Attrs | None,
    how: Comparison,
    on_error: Callable[[OSError], None],
) -> Iterator[Change]:
    if before is None or after is None:
        yield Change("added" if before is None else "removed", path, before, after)
        return
    if stat.S_IFMT(before.mode) != stat.S_IFMT(after.mode):
        yield Change("type", path, before, after)
        return
    try:
        if _differs(first, second, path, before, after, how):
            yield Change("content", path, before, after)
            return
    except OSError as error:
        on_error(error)
        return
    if (before.mode, before.uid, before.gid) != (after.mode, after.uid, after.gid):
        yield Change("attributes", path, before, after)


def _differs(
    first: DiskSet, second: DiskSet, path: str, before: Attrs, after: Attrs, how: Comparison
) -> bool:
    if stat.S_ISLNK(before.mode):
        return first.readlink(path) != second.readlink(path)
    if stat.S_ISCHR(before.mode) or stat.S_ISBLK(before.mode):
        return before.rdev != after.rdev
    if not stat.S_ISREG(before.mode):
        return False
    if before.size != after.size:
        return True
    if not how.checksum:
        return before.mtime != after.mtime
    with first.open(path) as left, second.open(path) as right:
        while True:
            piece = left.read(PIECE)
            if piece != right.read(PIECE):
                return True
            if not piece:
                return False


class _Side:
    """The directories of one of the two."""

    def __init__(self, disks: DiskSet, on_error: Callable[[OSError], None]) -> None:
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
                raise OSError(errno.ELOOP, "a directory that was listed already", path)
            self._entered.add(number)
            entries = self._disks.listdir(path)
        except OSError as error:
            self._on_error(error)
            return None
        known = ((entry.name, _known(entry, path, self._on_error)) for entry in entries)
        return {name: attrs for name, attrs in known if attrs is not None}


def _known(entry: Entry, path: str, on_error: Callable[[OSError], None]) -> Attrs | None:
    if entry.attrs is None:
        on_error(OSError(0, "its record is damaged", os.path.join(path, entry.name)))  # noqa: PTH118
    return entry.attrs


def _stat(disks: DiskSet, path: str) -> Attrs | None:
    try:
        return disks.stat(path, follow=False)
    except FileNotFoundError:
        return None
