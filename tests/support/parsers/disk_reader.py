"""A BlockSource over a file or over bytes, for parsers whose disks are too large for memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vmount.parsers.reader import BytesReader, check_bounds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vmount.parsers.reader import Buffer, Span


class FileReader:
    """Reads a disk image."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = path.stat().st_size

    async def read(self, offset: int, length: int) -> Buffer:
        check_bounds(offset, length, self.size)
        with self._path.open("rb") as image:
            return os.pread(image.fileno(), length, offset)

    def prefetch(self, spans: Sequence[Span]) -> None:
        pass


class CountingReader(BytesReader):
    """Counts what is read of a disk in memory."""

    def __init__(self, data: Buffer) -> None:
        super().__init__(data)
        self.reads = 0
        self.bytes = 0

    async def read(self, offset: int, length: int) -> Buffer:
        self.reads += 1
        self.bytes += length
        return await super().read(offset, length)
