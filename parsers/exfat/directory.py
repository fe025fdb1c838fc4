"""A directory: sets of entries, one a file, in no order.

Source: the specification, sections 6 and 8.2 (entries that are not known).
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from vmount.parsers.errors import Corrupt, ParseError, Unsupported
from vmount.parsers.exfat.entry import END, ENTRY_SIZE, FILE, ROOT_ONLY, is_unknown_critical
from vmount.parsers.exfat.entry_set import FileEntry, decode_set, guess_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vmount.parsers.exfat.upcase import Upcase
    from vmount.parsers.model import Run
    from vmount.parsers.reader import Buffer

MAX_SIZE = 256 << 20
"""Bytes of a directory, by the specification."""

MAX_FILES = 1 << 19
"""In a directory: some 400 MB decoded, and a look-up needs them all, for they are in no order."""


class Named(NamedTuple):
    """A file in a directory."""

    name: str
    ino: int
    entry: FileEntry | ParseError
    """What is wrong with it if it is damaged."""


class Directory:
    """The files of a directory, in the order of the disk."""

    def __init__(self, files: Sequence[Named], upcase: Upcase) -> None:
        self.files = files
        self._upcase = upcase

    @cached_property
    def by_ino(self) -> dict[int, Named]:
        """The files by number."""
        return {file.ino: file for file in self.files}

    def find(self, name: str) -> Named | None:
        """Return the file of this name, or else of one that differs in case.

        Its hash leads to it; drivers have been seen to write wrong ones, so that a file is only given up when
        no name is the same.
        """
        folded = self._upcase.fold(name)
        likely = self._by_hash.get(self._upcase.name_hash(folded), ())
        for file in likely:
            if file.name == name:
                return file
        for file in likely:
            if self._upcase.fold(file.name) == folded:
                return file
        return self._by_folded.get(folded)

    @cached_property
    def _by_hash(self) -> dict[int, list[Named]]:
        found: dict[int, list[Named]] = {}
        for file in self.files:
            if isinstance(file.entry, FileEntry):
                found.setdefault(file.entry.name_hash, []).append(file)
        return found

    @cached_property
    def _by_folded(self) -> dict[str, Named]:
        return {self._upcase.fold(file.name): file for file in reversed(self.files)}


def decode_directory(
    data: Buffer, runs: Sequence[Run], upcase: Upcase, *, contiguous: bool, is_root: bool
) -> Directory:
    """Decode all of a directory. `runs` say where `data` is on the volume.

    A damaged set is an entry with an error if its name can be told. Raises Corrupt if there is an entry that
    makes all of a directory invalid, Unsupported for more than MAX_FILES.
    """
    starts = [run.offset for run in runs]
    files: list[Named] = []
    for at in _primary_entries(data, is_root=is_root):
        if len(files) == MAX_FILES:
            raise Unsupported(f"a directory of more than {MAX_FILES} files")
        run = runs[bisect_right(starts, at) - 1]
        assert run.start is not None
        ino = file_number(run.start + at - run.offset, contiguous=contiguous)
        try:
            entry = decode_set(data, at)
        except ParseError as error:
            name = guess_name(data, at)
            if name:
                files.append(Named(name, ino, error))
        else:
            files.append(Named(entry.name, ino, entry))
    return Directory(files, upcase)


def file_number(place: int, *, contiguous: bool) -> int:
    """Return a file's number: the place of its file entry on the volume, in entries, and whether its
    directory is contiguous, which tells where a set goes on that crosses the end of a cluster."""
    return place // ENTRY_SIZE << 1 | contiguous


def place_of(ino: int) -> tuple[int, bool]:
    """Return what `file_number` was made of."""
    return (ino >> 1) * ENTRY_SIZE, bool(ino & 1)


def _primary_entries(data: Buffer, *, is_root: bool) -> Iterator[int]:
    """Yield where the file entries of a directory are."""
    for at in range(0, len(data) - ENTRY_SIZE + 1, ENTRY_SIZE):
        kind = data[at]
        if kind == END:
            break
        if kind == FILE:
            yield at
        elif is_unknown_critical(kind) or (not is_root and kind in ROOT_ONLY):
            raise Corrupt("entry that makes a directory invalid", actual=kind)
