"""What the tests of ext share: a source over a file, and walking a volume by its parser."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fixtures.walk import WalkEntry, hash_ranges, type_name
from vmount.parsers.ext.filesystem import ExtFilesystem, open_ext
from vmount.parsers.model import Attrs, ChunkTable, FileData, Filesystem, Inline, Packed, Runs
from vmount.parsers.reader import Buffer, Span, check_bounds, run_sync

T = TypeVar("T")


class FileSource:
    """A BlockSource over a file that notes what is asked of it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY)
        self.size = path.stat().st_size
        self.reads: list[Span] = []
        self.announced: list[Span] = []

    def try_read(self, offset: int, length: int) -> Buffer:
        check_bounds(offset, length, self.size)
        self.reads.append(Span(offset, length))
        return os.pread(self._file, length, offset)

    async def read(self, offset: int, length: int) -> Buffer:
        return self.try_read(offset, length)

    def prefetch(self, spans: Sequence[Span]) -> None:
        self.announced += spans

    def __del__(self) -> None:
        os.close(self._file)


class MemorySource:
    """A BlockSource over bytes with a limit to the number of reads."""

    def __init__(self, data: bytes | bytearray, limit: int) -> None:
        self._data = bytes(data)
        self.size = len(data)
        self.left = limit

    def try_read(self, offset: int, length: int) -> Buffer:
        check_bounds(offset, length, self.size)
        self.left -= 1
        assert self.left >= 0, "too many reads"
        return self._data[offset : offset + length]

    async def read(self, offset: int, length: int) -> Buffer:
        return self.try_read(offset, length)

    def prefetch(self, spans: Sequence[Span]) -> None:
        for span in spans:
            assert span.length > 0


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return run_sync(coroutine)


def open_image(path: Path) -> ExtFilesystem:
    return run_sync(open_ext(FileSource(path)))


def resolve(volume: Filesystem, path: bytes) -> Attrs:
    """Return the attributes of the file at a path by looking up one name after the other."""
    attrs = run_sync(volume.attrs(volume.root))
    for name in path.split(b"/") if path else ():
        found = run_sync(volume.lookup(attrs.ino, name))
        assert found is not None, path
        attrs = found
    return attrs


def read_range(
    source: FileSource | MemorySource, data: FileData, offset: int, length: int
) -> bytes:
    """Return bytes of a file by the rules of FileData; check them on the way."""
    assert offset + length <= data.size
    if isinstance(data.layout, Inline):
        assert len(data.layout.data) == data.size
        return data.layout.data[offset : offset + length]
    if isinstance(data.layout, Packed):
        return _read_packed(source, data.size, data.layout.chunks, offset, length)
    assert isinstance(data.layout, Runs)
    result = bytearray()
    expected = 0
    for run_offset, run_length, start in data.layout.runs:
        assert run_offset == expected
        assert run_length > 0
        expected += run_length
        first, end = max(offset, run_offset), min(offset + length, run_offset + run_length)
        if first >= end:
            continue
        if start is None:
            result += bytes(end - first)
        else:
            result += source.try_read(start + first - run_offset, end - first)
    assert expected == data.size
    return bytes(result)


def _read_packed(
    source: FileSource | MemorySource, size: int, chunks: ChunkTable, offset: int, length: int
) -> bytes:
    result = b""
    for index in range(offset // chunks.unit, -(-(offset + length) // chunks.unit)):
        chunk = run_sync(chunks.chunk(index))
        stored = b""
        for run_offset, run_length, start in chunk.runs:
            assert run_offset == len(stored)
            stored += bytes(run_length) if start is None else source.try_read(start, run_length)
        wanted = min(chunks.unit, size - index * chunks.unit)
        decoded = stored[:wanted] if chunk.decode is None else chunk.decode(stored, wanted)
        assert len(decoded) == wanted
        result += decoded
    skip = offset % chunks.unit
    return result[skip : skip + length]


def walk_volume(
    volume: Filesystem, source: FileSource | MemorySource, top: bytes = b""
) -> Iterator[tuple[WalkEntry, Attrs]]:
    """Yield what fixtures.walk yields for a mounted volume, or for what is under `top`; unsorted."""

    def entry(path: bytes, attrs: Attrs) -> WalkEntry:
        sha256 = target = None
        if stat.S_ISREG(attrs.mode):
            data = run_sync(volume.data(attrs.ino))
            assert data.size == data.valid == attrs.size
            digest = hashlib.sha256()
            for offset, length in hash_ranges(data.size):
                digest.update(read_range(source, data, offset, length))
            sha256 = digest.hexdigest()
        if stat.S_ISLNK(attrs.mode):
            target = run_sync(volume.readlink(attrs.ino))
        return WalkEntry(
            path,
            type_name(attrs.mode),
            stat.S_IMODE(attrs.mode),
            attrs.nlink,
            attrs.size,
            sha256,
            target,
            attrs.mtime,
            attrs.rdev,
        )

    root = resolve(volume, top)
    folders = [(top, root)]
    yield entry(top, root), root
    while folders:
        path, folder = folders.pop()
        for child in run_sync(volume.listdir(folder.ino)):
            assert child.attrs is not None, child
            assert child.attrs.ino == child.ino
            assert stat.S_IFMT(child.attrs.mode) == child.kind
            full = path + b"/" + child.name if path else child.name
            yield entry(full, child.attrs), child.attrs
            if stat.S_ISDIR(child.kind):
                folders.append((full, child.attrs))
