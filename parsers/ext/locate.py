"""Finding the superblock: the first one, or a copy if that is damaged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from vmount.parsers.errors import Corrupt, NotRecognised, OutOfBounds
from vmount.parsers.ext.superblock import (
    MAX_LOG_BLOCK_SIZE,
    SUPERBLOCK,
    SUPERBLOCK_OFFSET,
    Superblock,
    decode_superblock,
)
from vmount.parsers.reader import Reader, Span

_COPY_GROUPS = (1, 3, 5, 7, 9)
"""Groups that have a copy with sparse_super, and without it too; there are more, further out."""


async def read_superblock(reader: Reader) -> tuple[Superblock, list[str]]:
    """Return the superblock and warnings about it.

    A copy is used only where the first one has its magic and is damaged: without the magic this
    may be another file system, made over an older ext one whose copies are still there.
    Raises NotRecognised, Corrupt if the first is damaged and no copy is good, Unsupported.
    """
    try:
        data = await reader.read(SUPERBLOCK_OFFSET, SUPERBLOCK.size)
    except OutOfBounds:
        raise NotRecognised("not an ext superblock: too short") from None
    try:
        return decode_superblock(data), []
    except Corrupt as error:
        damage = error
    places = list(_copies(reader.size))
    reader.prefetch([Span(offset, SUPERBLOCK.size) for offset, _ in places])
    for offset, group in places:
        data = await reader.read(offset, SUPERBLOCK.size)
        with contextlib.suppress(NotRecognised, Corrupt):
            superblock = decode_superblock(data, offset)
            if superblock.block_group == group and offset == _place(
                superblock.block_size, superblock.blocks_per_group, group
            ):
                return superblock, [f"{damage}: its copy at {offset:#x} is used"]
    raise damage


def _copies(size: int) -> Iterator[tuple[int, int]]:
    """Yield (offset, group) where a copy may be, in a volume with as many blocks a group as one block of
    bitmap can describe."""
    for shift in range(MAX_LOG_BLOCK_SIZE + 1):
        block_size = 1024 << shift
        for group in _COPY_GROUPS:
            offset = _place(block_size, 8 * block_size, group)
            if offset + SUPERBLOCK.size <= size:
                yield offset, group


def _place(block_size: int, blocks_per_group: int, group: int) -> int:
    first_data_block = 1 if block_size == 1024 else 0
    return (first_data_block + group * blocks_per_group) * block_size
