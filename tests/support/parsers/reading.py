"""What the tests of file systems share: a reader over a file, and reading a whole tree through it."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

from fixtures.walk import hash_ranges
from vmount.blocks.file_map import open_file
from vmount.parsers.reader import Span, check_bounds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from vmount.parsers.model import Attrs, FileData, Filesystem
    from vmount.parsers.reader import BlockSource

PIECE = 1 << 20


class FileReader:
    """A BlockSource over a file that counts what it is asked for."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self._fd).st_size
        self.reads: list[Span] = []
        self.hinted: list[Span] = []

    def try_read(self, offset: int, length: int) -> bytes:
        check_bounds(offset, length, self.size)
        self.reads.append(Span(offset, length))
        return os.pread(self._fd, length, offset)

    async def read(self, offset: int, length: int) -> bytes:
        return self.try_read(offset, length)

    def prefetch(self, spans: Sequence[Span]) -> None:
        for span in spans:
            check_bounds(*span, self.size)
        self.hinted += spans

    def close(self) -> None:
        os.close(self._fd)


class Image:
    """A volume in memory that can be damaged, and counts what is read of it."""

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = bytearray(data)
        self.size = len(data)
        self.reads = 0
        self.bytes_read = 0

    def try_read(self, offset: int, length: int) -> bytes:
        check_bounds(offset, length, self.size)
        self.reads += 1
        self.bytes_read += length
        return bytes(self.data[offset : offset + length])

    async def read(self, offset: int, length: int) -> bytes:
        return self.try_read(offset, length)

    def prefetch(self, spans: Sequence[Span]) -> None:
        for offset, length in spans:
            assert offset >= 0 and length >= 0

    def set(self, offset: int, value: bytes) -> None:
        self.data[offset : offset + len(value)] = value


async def read_range(reader: BlockSource, data: FileData, offset: int, length: int) -> bytes:
    """Read a range of a file as the data path does."""
    return bytes(await open_file(reader, data).read(offset, length))


async def sha256(reader: BlockSource, data: FileData) -> str:
    """Return the hash that fixtures.walk has of such a file."""
    digest = hashlib.sha256()
    opened = open_file(reader, data)
    for offset, length in hash_ranges(data.size):
        for at in range(offset, offset + length, PIECE):
            piece = await opened.read(at, min(PIECE, offset + length - at))
            assert len(piece) == min(PIECE, offset + length - at)
            digest.update(piece)
    return digest.hexdigest()


async def tree(filesystem: Filesystem) -> AsyncIterator[tuple[bytes, Attrs]]:
    """Yield path and attributes of everything on a volume; what `attrs` and `lookup` tell must agree."""
    todo = [(b"", await filesystem.attrs(filesystem.root))]
    while todo:
        path, attrs = todo.pop()
        yield path, attrs
        if stat.S_ISDIR(attrs.mode):
            for entry in await filesystem.listdir(attrs.ino):
                assert entry.attrs is not None, entry
                assert entry.kind == stat.S_IFMT(entry.attrs.mode)
                assert entry.ino == entry.attrs.ino < 1 << 48
                assert await filesystem.lookup(attrs.ino, entry.name) == entry.attrs
                assert await filesystem.attrs(entry.ino) == entry.attrs
                todo.append((path + b"/" + entry.name if path else entry.name, entry.attrs))


async def find(filesystem: Filesystem, path: bytes) -> Attrs:
    """Return the attributes of a file that has to be there."""
    attrs = await filesystem.attrs(filesystem.root)
    for name in path.split(b"/"):
        found = await filesystem.lookup(attrs.ino, name)
        assert found is not None, path
        attrs = found
    return attrs
