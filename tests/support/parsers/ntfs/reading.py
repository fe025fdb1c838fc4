"""What the tests of NTFS share: a reader over a file, and reading a whole tree through it."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from fixtures.walk import WalkEntry, hash_ranges, type_name
from vmount.parsers.model import Inline, Packed, Runs
from vmount.parsers.ntfs import NtfsFilesystem
from vmount.parsers.reader import Span, check_bounds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from vmount.parsers.model import Attrs, FileData, Run

PIECE = 1 << 20


class FileReader:
    """A BlockSource over a file that counts what it is asked for."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self._fd).st_size
        self.reads = 0
        self.hinted: list[Span] = []

    def try_read(self, offset: int, length: int) -> bytes:
        """Return bytes of the file."""
        check_bounds(offset, length, self.size)
        self.reads += 1
        return os.pread(self._fd, length, offset)

    async def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the file."""
        return self.try_read(offset, length)

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Remember the hint."""
        self.hinted += spans

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


async def read_range(reader: FileReader, data: FileData, offset: int, length: int) -> bytes:
    """Read a range of a file as the data path is to do it, straightforwardly."""
    found = bytearray()
    match data.layout:
        case Inline(content):
            found += content[offset : offset + length]
        case Runs(runs):
            found += _runs(reader, runs, offset, length)
        case Packed(chunks):
            end = min(offset + length, data.size)
            position = offset
            while position < end:
                index, skip = divmod(position, chunks.unit)
                whole = min(chunks.unit, data.size - index * chunks.unit)
                chunk = await chunks.chunk(index)
                stored = sum(run.length for run in chunk.runs)
                content = _runs(reader, chunk.runs, 0, stored)
                if chunk.decode:
                    content = chunk.decode(content, whole)
                assert len(content) == whole
                found += content[skip : skip + end - position]
                position = min(end, (index + 1) * chunks.unit)
    real = max(0, min(length, data.valid - offset))
    wanted = max(0, min(length, data.size - offset))
    assert len(found) >= real
    return bytes(found[:real]).ljust(wanted, b"\0")


def _runs(reader: FileReader, runs: Sequence[Run], offset: int, length: int) -> bytes:
    found = bytearray()
    expected = None
    for run in runs:
        assert expected is None or run.offset == expected, "gap or overlap between runs"
        expected = run.offset + run.length
        start, end = max(offset, run.offset), min(offset + length, expected)
        if start < end:
            if run.start is None:
                found += bytes(end - start)
            else:
                found += reader.try_read(run.start + start - run.offset, end - start)
    return bytes(found)


async def sha256(reader: FileReader, data: FileData) -> str:
    """Return the hash that fixtures.walk has of such a file."""
    digest = hashlib.sha256()
    for offset, length in hash_ranges(data.size):
        for at in range(offset, offset + length, PIECE):
            digest.update(await read_range(reader, data, at, min(PIECE, offset + length - at)))
    return digest.hexdigest()


async def tree(filesystem: NtfsFilesystem) -> AsyncIterator[tuple[bytes, Attrs]]:
    """Yield path and attributes of everything on a volume."""
    todo = [(b"", await filesystem.attrs(filesystem.root))]
    while todo:
        path, attrs = todo.pop()
        yield path, attrs
        if stat.S_ISDIR(attrs.mode):
            for entry in await filesystem.listdir(attrs.ino):
                assert entry.attrs is not None, entry
                assert entry.kind == stat.S_IFMT(entry.attrs.mode)
                todo.append((path + b"/" + entry.name if path else entry.name, entry.attrs))


async def entry_of(
    reader: FileReader, filesystem: NtfsFilesystem, path: bytes, attrs: Attrs, *, content: bool
) -> WalkEntry:
    """Return what a walk of a mount has of a file."""
    kind = type_name(attrs.mode)
    return WalkEntry(
        path,
        kind,
        stat.S_IMODE(attrs.mode),
        attrs.nlink,
        attrs.size,
        await sha256(reader, await filesystem.data(attrs.ino))
        if content and kind == "file"
        else None,
        await filesystem.readlink(attrs.ino) if kind == "link" else None,
        attrs.mtime,
        attrs.rdev,
    )
