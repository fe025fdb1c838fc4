"""The basic blocks of a volume that its log has newer than their own places.

Their structures bear the checksums of their old contents: what a log changes was checked by the log's own
checksums, and theirs would be made when they are written.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from vmount.parsers.xfs.checksum import BASIC_BLOCK


class Overlay:
    """New contents of basic blocks, by number."""

    def __init__(self, blocks: Mapping[int, bytes | bytearray]) -> None:
        self._blocks = blocks
        self._ordered = sorted(blocks)

    def __len__(self) -> int:
        return len(self._ordered)

    def touches(self, offset: int, length: int) -> bool:
        """Tell whether any of these bytes of the volume is newer here."""
        index = bisect_left(self._ordered, offset // BASIC_BLOCK)
        return index < len(self._ordered) and self._ordered[index] * BASIC_BLOCK < offset + length

    def apply(self, offset: int, data: bytes) -> bytes:
        """Return `data`, which was read at `offset`, with what is newer here."""
        if not self.touches(offset, len(data)):
            return data
        result, end = bytearray(data), offset + len(data)
        for index in range(bisect_left(self._ordered, offset // BASIC_BLOCK), len(self._ordered)):
            number = self._ordered[index]
            at = number * BASIC_BLOCK - offset
            if at >= end - offset:
                break
            first, last = max(at, 0), min(at + BASIC_BLOCK, len(data))
            result[first:last] = self._blocks[number][first - at : last - at]
        return bytes(result)
