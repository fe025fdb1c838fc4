"""The block map of ext2 and ext3: twelve direct blocks, then one to three levels of indirect ones.

Source: Linux kernel documentation, filesystems/ext4, "Direct/Indirect Block Addressing".
"""

from __future__ import annotations

import struct
from typing import NamedTuple

DIRECT_BLOCKS = 12
MAX_HEIGHT = 3


class Branch(NamedTuple):
    """A block number in the map together with what it stands for."""

    height: int
    """0: a block of the file; else a block of pointers, this number of levels above the file."""
    block: int
    """First block of the file that it stands for."""
    pointer: int
    """Block of the volume; 0 is a hole as large as the branch."""


def decode_block_map(data: bytes, block_size: int) -> list[Branch]:
    """Return the fifteen branches that an inode holds in its 60 bytes."""
    pointers = struct.unpack("<15I", data)
    branches = [Branch(0, index, pointer) for index, pointer in enumerate(pointers[:DIRECT_BLOCKS])]
    first = DIRECT_BLOCKS
    for height, pointer in enumerate(pointers[DIRECT_BLOCKS:], 1):
        branches.append(Branch(height, first, pointer))
        first += branch_blocks(height, block_size)
    return branches


def decode_pointers(data: bytes) -> tuple[int, ...]:
    """Return the block numbers that fill a block of pointers."""
    return struct.unpack(f"<{len(data) // 4}I", data)


def branch_blocks(height: int, block_size: int) -> int:
    """Return how many blocks of the file a branch stands for."""
    blocks: int = (block_size // 4) ** height
    return blocks


def mappable_blocks(block_size: int) -> int:
    """Return how many blocks the largest file has that a block map can describe."""
    return DIRECT_BLOCKS + sum(
        branch_blocks(height, block_size) for height in range(1, MAX_HEIGHT + 1)
    )
