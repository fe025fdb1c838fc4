"""The index of a directory: hashes of names, and where the entries are.

Source: "XFS Algorithms & Data Structures", "Directories" (Leaf Directories, Node Directories).
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from typing import NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.xfs.errors import Damage

MAX_LEVEL = 5
"""What the kernel allows."""
ADDRESS_UNIT = 8
"""Bytes: what entries' addresses count."""

_MAGICS = {
    False: {0xD2F1: False, 0xD2FF: False, 0xFEBE: True},
    True: {0x3DF1: False, 0x3DFF: False, 0x3EBE: True},
}
"""By whether it is version 5: what may start a block, and whether it is a node."""
_COUNTS_AT = {False: 12, True: 56}
_ENTRIES_AT = {False: 16, True: 64}
BLOCK_HEAD = Layout(
    "XFS directory index block",
    Field(
        "following", "I", at=0x00, note="forw: address of the next block of the level, in blocks"
    ),
    Field("previous", "I", at=0x04, note="back"),
    Field("magic", "H", at=0x08),
    Field("padding", "2x", at=0x0A),
    byte_order=">",
    size=12,
    source="Linux fs/xfs/libxfs/xfs_da_format.h struct xfs_da_blkinfo",
)
BLOCK_TAIL = Layout(
    "XFS directory block tail",
    Field("count", "I", at=0x00, note="index entries, which stand before this"),
    Field("stale", "I", at=0x04, note="of them, those of names that are gone"),
    byte_order=">",
    size=8,
    source="Linux fs/xfs/libxfs/xfs_da_format.h struct xfs_dir2_block_tail",
)
_head = BLOCK_HEAD.picker("following", "magic").unpack_from
_TAIL = BLOCK_TAIL.whole()


class IndexBlock(NamedTuple):
    """A block of the index. Its hashes ascend."""

    level: int
    """0: a leaf."""
    hashes: tuple[int, ...]
    """In a leaf those of the names, in a node the highest under each child."""
    targets: tuple[int, ...]
    """In a leaf addresses of entries (in ADDRESS_UNIT; 0: none any more), in a node those of the children, in
    blocks of the volume."""
    following: int
    """Address of the next block of the same level, 0 for none."""

    def addresses(self, hashed: int) -> tuple[int, ...]:
        """Return where a leaf says that entries of a hash are, in bytes from the directory's start."""
        first = bisect_left(self.hashes, hashed)
        end = bisect_right(self.hashes, hashed)
        return tuple(target * ADDRESS_UNIT for target in self.targets[first:end] if target)

    def child(self, hashed: int) -> int | None:
        """Return the child of a node that a hash is in, None if it is in none."""
        index = bisect_left(self.hashes, hashed)
        return self.targets[index] if index < len(self.targets) else None


def name_hash(name: bytes, *, ascii_ci: bool) -> int:
    """Return the hash of a name; `ascii_ci` if case counts for nothing in the volume's names."""
    value = 0
    for byte in name.lower() if ascii_ci else name:
        value = (value << 7 & 0xFFFFFFFF | value >> 25) ^ byte
    return value


def decode_index_block(data: bytes, where: int, *, version_5: bool) -> IndexBlock:
    """Decode a block of a directory's index. Raises Corrupt."""
    following, magic = _head(data)
    node = _MAGICS[version_5].get(magic)
    if node is None:
        raise Corrupt(Damage.DIRECTORY_INDEX_MAGIC, where, actual=magic)
    count, level = struct.unpack_from(">HH", data, _COUNTS_AT[version_5])
    if node and not 0 < level <= MAX_LEVEL:
        raise Corrupt(
            Damage.DIRECTORY_INDEX_LEVEL, where, expected=f"1 to {MAX_LEVEL}", actual=level
        )
    hashes, targets = _pairs(data, _ENTRIES_AT[version_5], count, where)
    return IndexBlock(level if node else 0, hashes, targets, following)


def decode_index_in_block(data: bytes, where: int) -> IndexBlock:
    """Decode the index at the end of the only block of a directory. Raises Corrupt."""
    end = len(data) - _TAIL.size
    count, _ = _TAIL.unpack_from(data, end)
    hashes, targets = _pairs(data, end - 8 * count, count, where)
    return IndexBlock(0, hashes, targets, 0)


def _pairs(
    data: bytes, start: int, count: int, where: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if start < 0 or start + 8 * count > len(data):
        raise Corrupt(Damage.DIRECTORY_INDEX_ENTRIES, where, actual=count)
    numbers = struct.unpack_from(f">{2 * count}I", data, start)
    return numbers[::2], numbers[1::2]
