"""Directories as the modules os and glob show them: scandir, walk, glob. Paths are the mount's own."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self

from vmount.api import spelling
from vmount.api.globs import compile_glob
from vmount.api.lookup import Entry
from vmount.api.stat_result import FileStat

if TYPE_CHECKING:
    from types import TracebackType

    from vmount.api.files import Files
    from vmount.api.lookup import Lookup
    from vmount.parsers.model import Attrs

_DRIVE = re.compile(r"(?:[A-Za-z]:)?\\|[A-Za-z]:")
"""How a path begins in which backslashes part the names."""


class DirEntry:
    """A name in a directory, with the methods of os.DirEntry."""

    __slots__ = ("_attrs", "_kind", "_lookup", "_number", "name", "path")

    def __init__(
        self, lookup: Lookup, folder: str, name: str, number: int, kind: int, attrs: Attrs | None
    ) -> None:
        self.name = name
        self.path = joined(folder, name)
        """Its path, which every method of the disk set takes."""
        self._lookup = lookup
        self._number = number
        self._kind = kind if attrs is None else stat.S_IFMT(attrs.mode)
        self._attrs = attrs

    def inode(self) -> int:
        """Return what tells the file from all others of the set."""
        return self._number

    def is_symlink(self) -> bool:
        """Say whether it is a symbolic link; a junction of Windows is one."""
        return stat.S_ISLNK(self._kind)

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Say whether it is a directory, or a link to one. Raises OSError for a link that cannot be read."""
        return stat.S_ISDIR(self._kind_of(follow_symlinks))

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Say whether it is a regular file, or a link to one. Raises OSError for a link that cannot be read."""
        return stat.S_ISREG(self._kind_of(follow_symlinks))

    def stat(self, *, follow_symlinks: bool = True) -> FileStat:
        """Return the attributes, by default of what a link leads to. Raises OSError."""
        if follow_symlinks and self.is_symlink():
            found = self._lookup.at(self.path, follow=True)
            return FileStat.of(found.attrs, found.number)
        if self._attrs is None:
            raise OSError(errno.EUCLEAN, "its record is damaged", self.path)
        return FileStat.of(self._attrs, self._number)

    def _kind_of(self, follow_symlinks: bool) -> int:
        if not follow_symlinks or not self.is_symlink():
            return self._kind
        try:
            return stat.S_IFMT(self._lookup.at(self.path, follow=True).attrs.mode)
        except FileNotFoundError:
            return 0

    def __fspath__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"


class Scandir(Iterator[DirEntry]):
    """The entries of a directory, one after the other, as os.scandir gives them."""

    def __init__(self, entries: Iterator[DirEntry]) -> None:
        self._entries = entries

    def __next__(self) -> DirEntry:
        return next(self._entries)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give no more entries."""
        self._entries = iter(())


def scandir(lookup: Lookup, path: str) -> Scandir:
    """Return the entries of a directory, in the order of the disk. Raises OSError."""
    return Scandir(_entries(lookup, path, lookup.at(path, follow=True).number))


def _entries(lookup: Lookup, path: str, number: int) -> Iterator[DirEntry]:
    listing = lookup.listing_of(number, path)
    return (
        DirEntry(
            lookup,
            path,
            os.fsdecode(entry.name),
            listing.base | entry.ino,
            entry.kind,
            entry.attrs,
        )
        for entry in listing.entries
    )


def walk(
    lookup: Lookup,
    top: str,
    *,
    topdown: bool = True,
    onerror: Callable[[OSError], Any] | None = None,
    followlinks: bool = False,
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield directory, names of directories in it, names of other files in it, as os.walk does.

    With `topdown`, a caller that changes the list of directories says which of them are walked. Links to
    directories stand among the directories and are not walked unless `followlinks`. A directory that
    cannot be listed, or that the walk has been in already (damage can put one inside itself), is passed over
    and its OSError given to `onerror`; without that it is raised, which os.walk does not do.
    """
    entered: set[int] = set()
    pending: list[tuple[str, int | None] | tuple[str, list[str], list[str]]] = [(top, None)]
    while pending:
        step = pending.pop()
        if len(step) == 3:
            yield step
            continue
        here, number = step
        try:
            if number is None:
                number = lookup.at(here, follow=True).number
            if number in entered:
                raise OSError(errno.ELOOP, "the same directory was already listed", here)
            entered.add(number)
            entries = list(_entries(lookup, here, number))
        except OSError as error:
            if onerror is None:
                raise
            onerror(error)
            continue
        numbers = {entry.name: entry.inode() for entry in entries if not entry.is_symlink()}
        links = {entry.name for entry in entries if entry.is_symlink()}
        folders: list[str] = []
        others: list[str] = []
        for entry in entries:
            (folders if _is_folder(entry) else others).append(entry.name)
        if topdown:
            yield here, folders, others
        else:
            pending.append((here, folders, others))
        pending += [
            (joined(here, name), numbers.get(name))
            for name in reversed(folders)
            if followlinks or name not in links
        ]


def walk_entries(
    lookup: Lookup, top: str, on_error: Callable[[OSError], None] | None = None
) -> Iterator[tuple[str, list[Entry]]]:
    """Yield each directory at and below a path with what it holds; errors are as those of `walk`."""
    pending: list[tuple[str, int | None]] = [(top, None)]
    entered: set[int] = set()
    while pending:
        here, number = pending.pop()
        try:
            number = lookup.at(here, follow=True).number if number is None else number
            if number in entered:
                raise OSError(errno.ELOOP, "the same directory was already listed", here)
            entered.add(number)
            listing = lookup.listing_of(number, here)
        except OSError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        named = [(os.fsdecode(entry.name), entry) for entry in listing.entries]
        yield here, [Entry(name, entry.attrs) for name, entry in named]
        pending += [
            (joined(here, name), listing.base | entry.ino)
            for name, entry in reversed(named)
            if entry.attrs is not None and stat.S_ISDIR(entry.attrs.mode)
        ]


def _is_folder(entry: DirEntry) -> bool:
    """Say whether an entry is a directory, or leads to one; one that cannot be told is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def glob(
    lookup: Lookup,
    files: Files,
    pattern: str,
    on_error: Callable[[OSError], None] | None = None,
) -> list[str]:
    """Return the paths that a pattern names, sorted; none if there are none.

    `*`, `?` and `[...]` stand for parts of a name, a leading dot too; `**` for any number of directories.
    What cannot be listed is given to `on_error`; without that its OSError is raised.
    """
    if _DRIVE.match(pattern):
        pattern = pattern.replace("\\", "/")
    parts = pattern.split("/")
    deep = next((at for at, part in enumerate(parts) if "**" in part), None)
    if deep is None:
        return spelling.find(lookup, pattern)
    top, below = "/".join(parts[:deep]), "/".join(parts[deep:])
    if not top:
        top = "/" if pattern.startswith("/") else ""
    found: set[str] = set()
    for folder in spelling.find(lookup, top or "/"):
        prefix = folder.rstrip("/") + "/" if folder else ""
        for file in files.below(folder, on_error, dangling=True):
            inner = file.path.removeprefix(prefix)
            if file.path == folder.rstrip("/"):
                continue
            wanted = compile_glob(below, ignore_case=lookup.ignores_case(file.number))
            if wanted.fullmatch(inner):
                found.add(file.path)
    return sorted(found)


def joined(folder: str, name: str) -> str:
    """Return the path of a name in a directory."""
    return f"{folder.rstrip('/')}/{name}" if folder else name
