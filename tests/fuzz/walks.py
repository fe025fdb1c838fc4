"""Using a file system as a mount does: everything listed, opened and read, within limits."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from vmount.blocks.file_map import open_file
from vmount.parsers.errors import ParseError
from vmount.parsers.model import FileData, Runs

if TYPE_CHECKING:
    from vmount.parsers.model import Filesystem, Ino
    from vmount.parsers.reader import BlockSource

FORGIVEN = (ParseError, OSError)
"""What a parser may raise."""

MOST_ENTRIES = 300
MOST_OF_A_FOLDER = 40
DEEPEST = 12
PIECE = 1 << 16
"""Bytes read at the beginning, in the middle and at the end of a file."""


async def walk(filesystem: Filesystem, disk: BlockSource, *, contents: bool = True) -> int:
    """Visit what can be reached from the root; return how many names were seen."""
    seen, todo = 0, [(filesystem.root, 0)]
    while todo and seen < MOST_ENTRIES:
        folder, depth = todo.pop()
        try:
            entries = await filesystem.listdir(folder)
        except FORGIVEN:
            continue
        for entry in entries[:MOST_OF_A_FOLDER]:
            seen += 1
            assert 0 <= entry.ino < 1 << 48
            try:
                attrs = await filesystem.lookup(folder, entry.name)
            except FORGIVEN:
                continue
            if attrs is None:
                continue
            assert attrs.size >= 0
            await visit(filesystem, disk, attrs.ino, attrs.mode, contents)
            if stat.S_ISDIR(attrs.mode) and depth < DEEPEST:
                todo.append((attrs.ino, depth + 1))
    return seen


async def visit(
    filesystem: Filesystem, disk: BlockSource, ino: Ino, mode: int, contents: bool
) -> None:
    """Do all that can be done with one file."""
    try:
        if stat.S_ISLNK(mode):
            assert isinstance(await filesystem.readlink(ino), bytes)
        elif stat.S_ISREG(mode):
            await read(disk, await filesystem.data(ino), contents)
    except FORGIVEN:
        pass
    try:
        for attribute in (await filesystem.xattrs(ino)).values():
            if isinstance(attribute.value, FileData):
                await read(disk, attribute.value, contents)
    except FORGIVEN:
        pass


async def read(disk: BlockSource, data: FileData, contents: bool) -> None:
    """Read pieces of a file. Without `contents` only those of packed ones, which have to be decoded."""
    assert 0 <= data.valid <= data.size
    file = open_file(disk, data)
    if isinstance(data.layout, Runs) and not contents:
        return
    for offset in sorted({0, max(0, file.size // 2), max(0, file.size - PIECE)}):
        try:
            piece = await file.read(offset, PIECE)
        except FORGIVEN:
            continue
        assert len(piece) == min(PIECE, file.size - offset)
        again = file.try_read(offset, 100)
        assert again is None or bytes(again) == bytes(piece[:100])
