"""Nodes of a directory's hash tree.

Source: Linux kernel documentation, filesystems/ext4, "Hash Tree Directories".
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.ext.checksum import crc32c
from vmount.parsers.ext.directory import ENTRY_HEADER
from vmount.parsers.ext.errors import Damage
from vmount.parsers.layout import Field, Layout

MAX_LEVELS = 3
"""Levels of inner nodes under the root: two, and three with LARGEDIR."""

ROOT_INFO = Layout(
    "ext4 hash tree root",
    Field("reserved", "I", at=0x00, note="reserved_zero"),
    Field("hash_version", "B", at=0x04, note="DX_HASH_..."),
    Field("length", "B", at=0x05, note="info_length: bytes of this structure: 8"),
    Field("indirect_levels", "B", at=0x06, note="levels of nodes between the root and the leaves"),
    Field("flags", "B", at=0x07, note="unused_flags"),
    size=8,
    source="Linux fs/ext4/namei.c struct dx_root_info",
)
COUNTS = Layout(
    "ext4 hash tree counts",
    Field("limit", "H", at=0x00, note="children that there is room for"),
    Field("count", "H", at=0x02, note="children, with the one that has these counts for a hash"),
    size=4,
    source="Linux fs/ext4/namei.c struct dx_countlimit",
)
CHILD = Layout(
    "ext4 hash tree child",
    Field(
        "hash", "I", at=0x00, note="the lowest below the child; bit 0: it began in the child before"
    ),
    Field("block", "I", at=0x04, note="in the directory; the upper 4 bits are reserved"),
    size=8,
    source="Linux fs/ext4/namei.c struct dx_entry",
)
TREE_TAIL = Layout(
    "ext4 hash tree tail",
    Field("reserved", "I", at=0x00, note="dt_reserved"),
    Field("checksum", "I", at=0x04, note="dt_checksum: crc32c of the node's entries in use"),
    size=8,
    source="Linux fs/ext4/namei.c struct dx_tail",
)
_ROOT_INFO_AT = 24
"""After the entries "." and "..", twelve bytes each."""
_ROOT_ENTRIES_AT = _ROOT_INFO_AT + ROOT_INFO.size
_NODE_ENTRIES_AT = 8
"""After an entry without a name that covers the block."""
_ENTRY_SIZE = CHILD.size
_BLOCK_MASK = 0x0FFFFFFF
"""The upper bits of a child's block number are reserved."""

_pick_root = ROOT_INFO.picker("reserved", "hash_version", "length", "indirect_levels").unpack_from
_pick_entry = ENTRY_HEADER.picker("inode", "record_length").unpack_from
_counts = COUNTS.whole()
_child = CHILD.whole()
_tail = TREE_TAIL.whole()


class Root(NamedTuple):
    """What block 0 of the directory says of the tree."""

    hash_version: int
    levels: int
    """Inner nodes between the root and the blocks of entries."""


class TreeEntry(NamedTuple):
    """A child of a node."""

    hash: int
    """The lowest in the child; its lowest bit says that the previous child has names of the same hash."""
    block: int
    """In the directory."""


def decode_root(data: bytes, where: int) -> Root:
    """Decode the root's header. Raises Corrupt."""
    reserved, version, length, levels = _pick_root(data, _ROOT_INFO_AT)
    if reserved or length != ROOT_INFO.size or levels > MAX_LEVELS:
        raise Corrupt(Damage.HASH_TREE_ROOT_HEADER, where + _ROOT_INFO_AT)
    return Root(version, levels)


def decode_tree_entries(data: bytes, where: int, *, root: bool) -> list[TreeEntry]:
    """Decode the children of a node. Raises Corrupt if they do not fit or do not ascend."""
    start = _ROOT_ENTRIES_AT if root else _NODE_ENTRIES_AT
    limit, count = _counts.unpack_from(data, start)
    fitting = (len(data) - start) // _ENTRY_SIZE
    if not 0 < count <= limit <= fitting:
        raise Corrupt(
            Damage.HASH_TREE_NUMBER_OF_CHILDREN,
            where + start,
            expected=f"1 to {min(limit, fitting)}",
            actual=count,
        )
    pairs = list(_child.iter_unpack(data[start : start + count * _ENTRY_SIZE]))
    # The first child has no hash of its own: the counts are in its place.
    entries = [TreeEntry(0, pairs[0][1] & _BLOCK_MASK)]
    entries += [TreeEntry(value, block & _BLOCK_MASK) for value, block in pairs[1:]]
    if any(left.hash > right.hash for left, right in pairwise(entries)):
        raise Corrupt(Damage.HASH_TREE_CHILDREN_OUT_OF_ORDER, where + start)
    return entries


def is_node(data: bytes) -> bool:
    """Tell whether a block that is not the first of its directory is an inner node.

    Only certain in a volume with checksums: without, an empty block of entries looks the same.
    """
    inode, record_length = _pick_entry(data)
    # A block of 64 KiB has a record length that 16 bits cannot hold.
    return inode == 0 and record_length in (len(data), 0, 0xFFFF)


def check_tree_checksum(data: bytes, where: int, seed: int, *, root: bool) -> None:
    """Check the checksum after a node's last possible child; `seed` is the directory inode's.

    Raises Corrupt.
    """
    start = _ROOT_ENTRIES_AT if root else _NODE_ENTRIES_AT
    limit, count = _counts.unpack_from(data, start)
    tail = start + limit * _ENTRY_SIZE
    if count > limit or tail + TREE_TAIL.size > len(data):
        raise Corrupt(Damage.HASH_TREE_NODE_HAS_NO_SPACE_FOR_CHECKSUM, where)
    reserved, stored = _tail.unpack_from(data, tail)
    covered = data[: start + count * _ENTRY_SIZE] + struct.pack("<II", reserved, 0)
    expected = crc32c(seed, covered)
    if stored != expected:
        raise Corrupt(Damage.HASH_TREE_NODE_CHECKSUM, where, expected=expected, actual=stored)
