"""Extents, and the nodes of the B+trees that hold them if an inode cannot.

Source: "XFS Algorithms & Data Structures", "Data Extents" and "B+tree XfsExtent List".
"""

from __future__ import annotations

import itertools
import operator
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.xfs.errors import Damage

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
_EXTENT = EXTENT_RECORD.whole()
_block = operator.attrgetter("block")
_new = tuple.__new__
_UNWRITTEN = 1 << 63
_COUNT_MASK = (1 << 21) - 1


class XfsExtent(NamedTuple):
    """Neighbouring blocks of a file that are neighbours in the volume."""

    block: int
    """In the file."""
    blocks: int
    start: int
    """In the volume: group and block in it."""
    unwritten: bool
    """Allocated and never written: reads as zeros."""


class Extents(Sequence[XfsExtent]):
    """Extents as they are on the disk, 16 bytes each: as tuples they take over ten times as much.

    `data` is a whole number of good ones.
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes | bytearray = b"") -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data) // EXTENT_SIZE

    @overload
    def __getitem__(self, index: int) -> XfsExtent: ...
    @overload
    def __getitem__(self, index: slice) -> list[XfsExtent]: ...

    def __getitem__(self, index: int | slice) -> XfsExtent | list[XfsExtent]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return _decode(*_EXTENT.unpack_from(self.data, index % len(self) * EXTENT_SIZE))

    def __iter__(self) -> Iterator[XfsExtent]:
        return itertools.starmap(_decode, _EXTENT.iter_unpack(self.data))

    def which(self, block: int) -> int:
        """Return the number of the extent that has a block of the file, or of the last one before it; -1 if
        all come after it. They must be in order."""
        return bisect_right(self, block, key=_block) - 1


def _decode(high: int, low: int) -> XfsExtent:
    extent: XfsExtent = _new(
        XfsExtent,
        (
            high >> 9 & (FILE_BLOCKS - 1),
            low & _COUNT_MASK,
            (high & 0x1FF) << 43 | low >> 21,
            high >= _UNWRITTEN,
        ),
    )
    return extent


class Node(NamedTuple):
    """A node; one of the two is empty."""

    level: int
    extents: Extents
    children: list[tuple[int, int]]
    """First block of the file that a child maps, and the block of the volume with the child."""


def decode_extents(data: bytes, count: int, where: int) -> Extents:
    """Decode `count` extents. Raises Corrupt if `data` is too short for them or one is empty."""
    if count * EXTENT_SIZE > len(data):
        raise Corrupt(
            Damage.EXTENTS, where, expected=f"at most {len(data) // EXTENT_SIZE}", actual=count
        )
    found = data[: count * EXTENT_SIZE]
    if not all(low & _COUNT_MASK for _, low in _EXTENT.iter_unpack(found)):
        raise Corrupt(Damage.EXTENT_WITHOUT_BLOCKS, where)
    return Extents(found)


def decode_root(data: bytes, where: int) -> Node:
    """Decode the root of a B+tree, which fills a fork in its inode. Raises Corrupt."""
    level, count = _ROOT_HEADER.unpack_from(data)
    if not 0 < level <= MAX_LEVEL:
        raise Corrupt(Damage.EXTENT_BTREE_LEVEL, where, expected=f"1 to {MAX_LEVEL}", actual=level)
    return Node(level, Extents(), _children(data, _ROOT_HEADER.size, count, where))


def decode_node(data: bytes, where: int, *, level: int, version_5: bool) -> Node:
    """Decode a block of a B+tree of extents that its parent says is of `level`. Raises Corrupt."""
    wanted = _MAGIC_5 if version_5 else _MAGIC_4
    magic, actual, count = _HEADER.unpack_from(data)
    if magic != wanted:
        raise Corrupt(Damage.EXTENT_BTREE_MAGIC, where, expected=wanted, actual=magic)
    if actual != level:
        raise Corrupt(Damage.EXTENT_BTREE_LEVEL, where, expected=level, actual=actual)
    start = _HEADER_SIZE[wanted]
    if not count:
        raise Corrupt(Damage.EXTENT_BTREE_EMPTY_NODE, where)
    if level:
        return Node(level, Extents(), _children(data, start, count, where))
    return Node(level, decode_extents(data[start:], count, where), [])


def _children(data: bytes, start: int, count: int, where: int) -> list[tuple[int, int]]:
    """Decode keys and, after the space for as many as would fit, block numbers."""
    fitting = (len(data) - start) // 16
    if not 0 < count <= fitting:
        raise Corrupt(Damage.EXTENT_BTREE_CHILDREN, where, expected=f"1 to {fitting}", actual=count)
    keys = struct.unpack_from(f">{count}Q", data, start)
    blocks = struct.unpack_from(f">{count}Q", data, start + fitting * 8)
    return list(zip(keys, blocks, strict=True))
