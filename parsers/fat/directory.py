"""A directory: entries of 32 bytes, a file's long ones before its short one.

Source: the specification, section "FAT Directory Structure".
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from vmount.parsers.fat.boot import ENTRY_SIZE
from vmount.parsers.fat.entry import (
    DELETED,
    DIRECTORY,
    DOT,
    DOT_DOT,
    END,
    LONG,
    LONG_MASK,
    VOLUME_LABEL,
    ShortEntry,
    decode_short,
)
from vmount.parsers.fat.long_name import LongName
from vmount.parsers.fat.names import fold, short_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vmount.parsers.model import Run
    from vmount.parsers.reader import Buffer

MAX_ENTRIES = 65536
"""In a directory, by the specification: 2 MiB."""


class Named(NamedTuple):
    """A file in a directory."""

    name: str
    """The long name if there is one."""
    short: str
    ino: int
    entry: ShortEntry


class Directory:
    """The files of a directory, in the order of the disk."""

    def __init__(self, files: Sequence[Named]) -> None:
        self.files = files

    @cached_property
    def by_ino(self) -> dict[int, Named]:
        """The files by number."""
        return {file.ino: file for file in self.files}

    def find(self, name: str) -> Named | None:
        """Return the file of this name: of exactly this one, of one that differs in case, or of this short
        name."""
        return self._by_name.get(name) or self._by_folded.get(fold(name))

    @cached_property
    def _by_name(self) -> dict[str, Named]:
        return {file.name: file for file in reversed(self.files)}

    @cached_property
    def _by_folded(self) -> dict[str, Named]:
        found = {fold(file.short): file for file in reversed(self.files)}
        found.update((fold(file.name), file) for file in reversed(self.files))
        return found


def decode_directory(data: Buffer, runs: Sequence[Run], code_page: str) -> Directory:
    """Decode all of a directory. `runs` say where `data` is on the volume."""
    files = []
    long_name = LongName()
    for at, place in _places(runs):
        first = data[at]
        attributes = data[at + 11]
        if first == END:
            break
        if first == DELETED:
            long_name.reset()
        elif attributes & LONG_MASK == LONG:
            long_name.add(data, at)
        elif attributes & VOLUME_LABEL:
            long_name.reset()
        else:
            entry = decode_short(data, at)
            name = long_name.take(entry.name)
            if entry.name in (DOT, DOT_DOT):
                continue
            short = short_name(entry.name, entry.case_flags, code_page)
            files.append(Named(name or short, short, place // ENTRY_SIZE, entry))
    return Directory(files)


def find_label(data: Buffer) -> bytes | None:
    """Return the eleven bytes of the label in a root directory, None if it has none."""
    for at in range(0, len(data) - ENTRY_SIZE + 1, ENTRY_SIZE):
        first, attributes = data[at], data[at + 11]
        if first == END:
            break
        is_label = attributes & (VOLUME_LABEL | DIRECTORY) == VOLUME_LABEL
        if first != DELETED and is_label and attributes & LONG_MASK != LONG:
            return bytes(data[at : at + 11])
    return None


def _places(runs: Sequence[Run]) -> Iterator[tuple[int, int]]:
    """Yield where each entry is: in the directory and on the volume."""
    for offset, length, start in runs:
        assert start is not None
        for at in range(0, length - ENTRY_SIZE + 1, ENTRY_SIZE):
            yield offset + at, start + at
