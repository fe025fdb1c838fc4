"""Extents without tables: a stretch of a file, zeros, and what the guest had no access to."""

from __future__ import annotations

from vmount.parsers.errors import Corrupt
from vmount.parsers.reader import BlockSource
from vmount.parsers.vmdk.descriptor import SECTOR, ExtentLine
from vmount.parsers.vmdk.opener import OpenedFile
from vmount.parsers.vmdk.pieces import DiskPiece


class SolidExtent:
    """An extent whose bytes all are in one source, one after the other."""

    region = None

    def __init__(self, size: int, source: BlockSource, start: int = 0) -> None:
        self.size = size
        self._source = source
        self._start = start

    async def pieces(self, start: int, end: int) -> list[DiskPiece]:
        """Resolve a range of this extent."""
        return [DiskPiece(start, end, self._source, self._start)]

    async def load_directory(self, start: int, end: int) -> None:
        """Do nothing: there is none."""

    def hint(self, start: int, end: int) -> None:
        """Do nothing: there are no tables."""


def flat_extent(line: ExtentLine, file: OpenedFile) -> SolidExtent:
    """Open a FLAT or VMFS extent.

    Raises Corrupt if the file ends before the extent does.
    """
    start, size = line.offset * SECTOR, line.sectors * SECTOR
    if start + size > file.source.size:
        raise Corrupt(
            f"flat file shorter than its extent: expected at least {start + size} bytes"
            f" ({size} from {start} on), found {file.source.size}"
        )
    return SolidExtent(size, file.source, start)
