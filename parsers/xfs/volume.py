"""The blocks of a volume, and how they are read.

Strategy: whoever needs several pieces says so at once. Neighbours become one read, all reads are
announced by `prefetch` before the first is awaited, so that a distant disk is asked for them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from parsers.errors import Corrupt
from parsers.reader import Reader, Span
from parsers.xfs.checksum import Seal, check_crc, check_identity
from parsers.xfs.superblock import Superblock

MAX_READ = 1 << 20
"""Bytes asked for at once: larger reads gain nothing and hold up the others."""
MERGE_GAP = 32 << 10
"""Bytes between two pieces that are cheaper to read along than to leave out with a second request."""


class Volume:
    """A reader and the superblock that says how it is divided."""

    def __init__(self, reader: Reader, superblock: Superblock) -> None:
        self.reader = reader
        self.superblock = superblock
        self.block_size = superblock.block_size
        self._group_bits = superblock.group_blocks_log
        self._group_mask = (1 << superblock.group_blocks_log) - 1

    def offset(self, block: int, count: int = 1) -> int:
        """Return the offset in bytes of a block number read from disk: group and block in it.

        Raises Corrupt unless it and its `count` - 1 successors are blocks that can belong to a file.
        """
        superblock = self.superblock
        group, index = block >> self._group_bits, block & self._group_mask
        if not (
            group < superblock.groups_count
            and 0 < index <= superblock.blocks_in_group(group) - count
        ):
            raise Corrupt(
                "block number outside the volume",
                expected=f"{count} blocks in one of {superblock.groups_count} groups",
                actual=block,
            )
        return (group * superblock.group_blocks + index) * self.block_size

    async def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes of metadata at `offset`."""
        return bytes(await self.reader.read(offset, length))

    def check(self, data: bytes, seal: Seal, kind: str, where: int, owner: int) -> None:
        """Raise Corrupt unless a structure of version 5, which has all of `data`, is whole and the one that
        was looked for: for `where` in the volume and for inode `owner`."""
        check_crc(data, seal.crc_at, kind, where)
        check_identity(data, seal, kind, where, self.superblock.metadata_uuid, owner)

    async def read_pieces(self, offsets: Sequence[int], length: int) -> list[bytes]:
        """Return the `length` bytes at each of `offsets`, which ascend."""
        spans = _merge(offsets, length)
        if len(spans) > 1:
            self.reader.prefetch(spans)
        pieces: list[bytes] = []
        position = 0
        for span in spans:
            data = await self.read(span.offset, span.length)
            end = span.offset + span.length
            while position < len(offsets) and offsets[position] < end:
                start = offsets[position] - span.offset
                pieces.append(data[start : start + length])
                position += 1
        return pieces

    async def read_ranges(self, spans: Sequence[Span]) -> list[bytes]:
        """Return the bytes of each of `spans`, read in parts of MAX_READ at most."""
        parts = [
            Span(position, min(MAX_READ, span.offset + span.length - position))
            for span in spans
            for position in range(span.offset, span.offset + span.length, MAX_READ)
        ]
        if len(parts) > 1:
            self.reader.prefetch(parts)
        return [await self.read(part.offset, part.length) for part in parts]


def _merge(offsets: Sequence[int], length: int) -> list[Span]:
    if not offsets:
        return []
    spans = []
    start = offsets[0]
    for previous, offset in pairwise(offsets):
        if offset - previous - length > MERGE_GAP or offset + length - start > MAX_READ:
            spans.append(Span(start, previous + length - start))
            start = offset
    spans.append(Span(start, offsets[-1] + length - start))
    return spans
