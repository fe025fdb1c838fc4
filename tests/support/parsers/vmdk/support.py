"""How the tests open disks in a folder, and compare them with a flat image."""

from __future__ import annotations

import errno
import mmap
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from vmount.parsers.reader import Buffer, BytesReader, Span, run_sync
from vmount.parsers.vmdk.disk import VmdkDisk, open_vmdk
from vmount.parsers.vmdk.opener import OpenedFile, candidates


class CountingReader:
    """Bytes in memory that tell how often they were asked for, and fail or wait when told to."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._bytes = BytesReader(memoryview(data))
        self.size = self._bytes.size
        self.reads: list[Span] = []
        self.hints: list[Span] = []
        self.fails = False
        self.ready = True

    async def read(self, offset: int, length: int) -> Buffer:
        self.reads.append(Span(offset, length))
        if self.fails:
            raise OSError(errno.EIO, "the network is gone")
        return self._bytes.try_read(offset, length)

    def try_read(self, offset: int, length: int) -> Buffer | None:
        return self._bytes.try_read(offset, length) if self.ready else None

    def prefetch(self, spans: Sequence[Span]) -> None:
        self.hints.extend(spans)


class FolderOpener:
    """Opens files on this machine."""

    def __init__(self) -> None:
        self.files: dict[str, CountingReader] = {}

    async def open(self, name: str, near: str | None) -> OpenedFile:
        return self._opened(name, near)

    def _opened(self, name: str, near: str | None) -> OpenedFile:
        for path in map(Path, candidates(name, near)):
            if path.is_file():
                return OpenedFile(str(path), self._reader(path))
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)

    def _reader(self, path: Path) -> CountingReader:
        reader = self.files[str(path)] = CountingReader(flat(path))
        return reader

    @property
    def reads(self) -> int:
        return sum(len(reader.reads) for reader in self.files.values())


class DictOpener:
    """Opens files that are bytes in memory, by their base name."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = {name: CountingReader(data) for name, data in files.items()}

    async def open(self, name: str, near: str | None) -> OpenedFile:
        if name not in self.files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)
        return OpenedFile(name, self.files[name])


def open_path(path: Path, *, force: bool = False) -> VmdkDisk:
    return run_sync(open_vmdk(FolderOpener(), str(path), force=force))


def flat(path: Path) -> memoryview:
    """Map a file into memory; pages around those that are used are not wanted."""
    if not path.stat().st_size:
        return memoryview(b"")
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    mapped.madvise(mmap.MADV_RANDOM)
    return memoryview(mapped)


def ranges(size: int, count: int, edges: Iterable[int], seed: int = 0) -> list[Span]:
    """Draw ranges: anywhere, and around multiples of what a format counts in."""
    source = random.Random(seed)
    boundaries = [edge for edge in edges if edge < size]
    found = []
    for _ in range(count):
        length = min(int(2 ** source.uniform(0, 18)), size)
        if source.random() < 0.5:
            edge = source.choice(boundaries)
            offset = source.randrange(size // edge + 1) * edge - source.randrange(length + 1)
        else:
            offset = source.randrange(size)
        offset = min(max(offset, 0), size - 1)
        found.append(Span(offset, min(length, size - offset)))
    return found


def assert_same(disk: VmdkDisk, expected: memoryview, count: int = 10_000, seed: int = 0) -> None:
    """Compare `count` random ranges, then all bytes."""
    assert disk.size == len(expected)
    edges = [512, 4096, 65_536, 2 << 20, 16 << 20, 32 << 20, 1 << 31, disk.size]
    for offset, length in ranges(disk.size, count, edges, seed):
        wanted = expected[offset : offset + length]
        assert bytes(run_sync(disk.read(offset, length))) == bytes(wanted), (offset, length)
        tried = disk.try_read(offset, length)
        assert tried is None or bytes(tried) == bytes(wanted), (offset, length)
    if disk.size < 1 << 30:
        for offset in range(0, disk.size, 1 << 20):
            length = min(1 << 20, disk.size - offset)
            assert run_sync(disk.read(offset, length)) == bytes(expected[offset : offset + length])
