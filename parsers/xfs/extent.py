"""Extents, and the nodes of the B+trees that hold them if an inode cannot.

Source: "XFS Algorithms & Data Structures", "Data Extents" and "B+tree Extent List".
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout

MAX_LEVEL = 9
"""More than the smallest blocks need for the 2**48 extents that a file can have."""
EXTENT_SIZE = 16
FILE_BLOCKS = 1 << 54
"""What an extent has for the block number in its file."""

_MAGIC_4, _MAGIC_5 = b"BMAP", b"BMA3"
NODE_HEADER = Layout(
    "XFS B+tree block",
    Field("magic", "4s", at=0x00),
    Field("level", "H", at=0x04, note="0: the entries are extents"),
    Field("count", "H", at=0x06, note="bb_numrecs; siblings and, in version 5, a seal follow"),
    byte_order=">",
    size=8,
    source="Linux fs/xfs/libxfs/xfs_format.h struct xfs_btree_block",
)
ROOT_HEADER = Layout(
    "XFS B+tree root in an inode",
    Field("level", "H", at=0x00),
    Field("count", "H", at=0x02, note="bb_numrecs"),
    byte_order=">",
    size=4,
    source="Linux fs/xfs/libxfs/xfs_format.h struct xfs_bmdr_block",
)
EXTENT_RECORD = Layout(
    "XFS extent",
    Field("high", "Q", at=0x00, note="l0: unwritten (1 bit), block in the file (54), start (9)"),
    Field("low", "Q", at=0x08, note="l1: start, lower bits (43), blocks (21)"),
    byte_order=">",
    size=16,
    source="Linux fs/xfs/libxfs/xfs_format.h struct xfs_bmbt_rec",
)
_HEADER = NODE_HEADER.whole()
_HEADER_SIZE = {_MAGIC_4: 24, _MAGIC_5: 72}
_ROOT_HEADER = ROOT_HEADER.whole()
_iter_extents = EXTENT_RECORD.whole().iter_unpack
_UNWRITTEN = 1 << 63
_COUNT_MASK = (1 << 21) - 1


class Extent(NamedTuple):
    """Neighbouring blocks of a file that are neighbours in the volume."""

    block: int
    """In the file."""
    blocks: int
    start: int
    """In the volume: group and block in it."""
    unwritten: bool
    """Allocated and never written: reads as zeros."""


class Node(NamedTuple):
    """A node; one of the two is empty."""

    level: int
    extents: list[Extent]
    children: list[tuple[int, int]]
    """First block of the file that a child maps, and the block of the volume with the child."""


def decode_extents(data: bytes, count: int, where: int) -> list[Extent]:
    """Decode `count` extents. Raises Corrupt if `data` is too short for them or one is empty."""
    if count * EXTENT_SIZE > len(data):
        raise Corrupt(
            "extents", where, expected=f"at most {len(data) // EXTENT_SIZE}", actual=count
        )
    extents = []
    for high, low in _iter_extents(data[: count * EXTENT_SIZE]):
        blocks = low & _COUNT_MASK
        if not blocks:
            raise Corrupt("extent without blocks", where)
        extents.append(
            Extent(
                high >> 9 & (FILE_BLOCKS - 1),
                blocks,
                (high & 0x1FF) << 43 | low >> 21,
                high >= _UNWRITTEN,
            )
        )
    return extents


def decode_root(data: bytes, where: int) -> Node:
    """Decode the root of a B+tree, which fills a fork in its inode. Raises Corrupt."""
    level, count = _ROOT_HEADER.unpack_from(data)
    if not 0 < level <= MAX_LEVEL:
        raise Corrupt("extent B+tree: level", where, expected=f"1 to {MAX_LEVEL}", actual=level)
    return Node(level, [], _children(data, _ROOT_HEADER.size, count, where))


def decode_node(data: bytes, where: int, *, level: int, version_5: bool) -> Node:
    """Decode a block of a B+tree of extents that its parent says is of `level`. Raises Corrupt."""
    wanted = _MAGIC_5 if version_5 else _MAGIC_4
    magic, actual, count = _HEADER.unpack_from(data)
    if magic != wanted:
        raise Corrupt("extent B+tree: magic", where, expected=wanted, actual=magic)
    if actual != level:
        raise Corrupt("extent B+tree: level", where, expected=level, actual=actual)
    start = _HEADER_SIZE[wanted]
    if not count:
        raise Corrupt("extent B+tree: empty node", where)
    if level:
        return Node(level, [], _children(data, start, count, where))
    return Node(level, decode_extents(data[start:], count, where), [])


def _children(data: bytes, start: int, count: int, where: int) -> list[tuple[int, int]]:
    """Decode keys and, after the space for as many as would fit, block numbers."""
    fitting = (len(data) - start) // 16
    if not 0 < count <= fitting:
        raise Corrupt("extent B+tree: children", where, expected=f"1 to {fitting}", actual=count)
    keys = struct.unpack_from(f">{count}Q", data, start)
    blocks = struct.unpack_from(f">{count}Q", data, start + fitting * 8)
    return list(zip(keys, blocks, strict=True))
