"""Extended attributes: in an inode, or in blocks under a tree of hashes.

Source: "XFS Algorithms & Data Structures", "Extended Attributes".
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.xfs.errors import Damage

MAX_VALUE = 64 << 10
"""The kernel's XATTR_SIZE_MAX."""
MAX_LEVEL = 5
"""Of the tree of hashes; what the kernel allows."""

LEAF_MAGIC = {False: 0xFBEE, True: 0x3BEE}
NODE_MAGIC = {False: 0xFEBE, True: 0x3EBE}
"""By whether it is version 5."""
_MAGIC_AT = 8
_NODE_COUNTS_AT = {False: 12, True: 56}
_NODE_ENTRIES_AT = {False: 16, True: 64}
_LEAF_COUNT_AT = {False: 12, True: 56}
_LEAF_ENTRIES_AT = {False: 32, True: 80}
LEAF_ENTRY = Layout(
    "XFS attribute leaf entry",
    Field("hash", "I", at=0x00, note="hashval: of the name"),
    Field("position", "H", at=0x04, note="nameidx: of name and value, in bytes of the block"),
    Field("flags", "B", at=0x06, note="AttributeFlag"),
    Field("padding", "1x", at=0x07),
    byte_order=">",
    size=8,
    source="Linux fs/xfs/libxfs/xfs_da_format.h struct xfs_attr_leaf_entry",
)
LOCAL = Layout(
    "XFS attribute in its leaf",
    Field("size", "H", at=0x00, note="valuelen: bytes; the value follows the name"),
    Field("name_length", "B", at=0x02, note="namelen: bytes; the name follows"),
    byte_order=">",
    size=3,
    source="Linux fs/xfs/libxfs/xfs_da_format.h struct xfs_attr_leaf_name_local",
)
REMOTE = Layout(
    "XFS attribute with blocks of its own",
    Field("block", "I", at=0x00, note="valueblk: address in the fork, in blocks"),
    Field("size", "I", at=0x04, note="valuelen: bytes"),
    Field("name_length", "B", at=0x08, note="namelen: bytes; the name follows"),
    byte_order=">",
    size=9,
    source="Linux fs/xfs/libxfs/xfs_da_format.h struct xfs_attr_leaf_name_remote",
)
SHORT_HEADER = Layout(
    "XFS attributes in an inode",
    Field("total", "H", at=0x00, note="totsize: bytes of all, with this header"),
    Field("count", "B", at=0x02),
    Field("padding", "1x", at=0x03),
    byte_order=">",
    size=4,
    source="Linux fs/xfs/libxfs/xfs_da_format.h struct xfs_attr_sf_hdr",
)
REMOTE_HEADER = Layout(
    "XFS block of an attribute's value",
    Field("magic", "4s", at=0x00),
    Field("offset", "I", at=0x04, note="rm_offset: of this part, in bytes"),
    Field("length", "I", at=0x08, note="rm_bytes: in this block"),
    Field("checksum", "I", at=0x0C, note="rm_crc: little-endian"),
    Field("uuid", "16s", at=0x10),
    Field("owner", "Q", at=0x20, note="inode number"),
    Field("block", "Q", at=0x28, note="rm_blkno: of this block, in basic blocks"),
    Field("lsn", "Q", at=0x30),
    byte_order=">",
    size=56,
    source="Linux fs/xfs/libxfs/xfs_da_format.h struct xfs_attr3_rmt_hdr",
)
_LEAF_ENTRY = LEAF_ENTRY.whole()
_LOCAL = LOCAL.whole()
_REMOTE = REMOTE.whole()
_SHORT_HEADER = SHORT_HEADER.whole()
_REMOTE_HEADER = REMOTE_HEADER.picker("magic", "offset", "length")
_REMOTE_MAGIC = b"XARM"
REMOTE_HEADER_SIZE = REMOTE_HEADER.size


class AttributeFlag(IntEnum):
    """Flags of an attribute: where its value is, and its namespace; none of those is "user"."""

    LOCAL = 0x1
    ROOT = 0x2
    SECURE = 0x4
    PARENT = 0x8
    INCOMPLETE = 0x80


HIDDEN = AttributeFlag.PARENT | AttributeFlag.INCOMPLETE
"""Directories' names for the file, and what was being written when the machine stopped."""


class Attribute(NamedTuple):
    """An attribute as stored."""

    flags: int
    """AttributeFlag."""
    name: bytes
    """Without its prefix."""
    value: bytes | None
    """None if it is in blocks of its own."""
    size: int
    """Bytes of the value."""
    block: int
    """Address in the fork, in blocks, of such a value."""


def decode_short(data: bytes, where: int) -> list[Attribute]:
    """Decode the attributes in an inode. Raises Corrupt."""
    if len(data) < _SHORT_HEADER.size:
        raise Corrupt(Damage.ATTRIBUTES_IN_INODE_CUT_OFF, where)
    total, count = _SHORT_HEADER.unpack_from(data)
    if not _SHORT_HEADER.size <= total <= len(data):
        raise Corrupt(
            Damage.ATTRIBUTES_IN_INODE_SIZE, where, expected=f"at most {len(data)}", actual=total
        )
    attributes = []
    position = _SHORT_HEADER.size
    for _ in range(count):
        if position + 3 > total:
            raise Corrupt(Damage.ATTRIBUTE_CUT_OFF, where + position)
        name_length, value_length, flags = data[position : position + 3]
        name_end = position + 3 + name_length
        following = name_end + value_length
        if following > total:
            raise Corrupt(Damage.ATTRIBUTE_CUT_OFF, where + position)
        name, value = data[position + 3 : name_end], data[name_end:following]
        attributes.append(Attribute(flags, name, value, value_length, 0))
        position = following
    return attributes


def block_magic(data: bytes) -> int:
    """Return what tells a leaf from a node."""
    return int.from_bytes(data[_MAGIC_AT : _MAGIC_AT + 2], "big")


def decode_node(data: bytes, where: int, *, version_5: bool) -> tuple[int, list[int]]:
    """Return the level of a node of the tree and the addresses of its children in the fork, in blocks.

    Raises Corrupt.
    """
    count, level = struct.unpack_from(">HH", data, _NODE_COUNTS_AT[version_5])
    start = _NODE_ENTRIES_AT[version_5]
    fitting = (len(data) - start) // 8
    if not (0 < count <= fitting and 0 < level <= MAX_LEVEL):
        raise Corrupt(
            Damage.ATTRIBUTE_NODE,
            where,
            expected=f"1 to {fitting} children, level 1 to {MAX_LEVEL}",
            actual=f"{count} children, level {level}",
        )
    pairs = struct.unpack_from(f">{2 * count}I", data, start)
    return level, list(pairs[1::2])


def decode_leaf(data: bytes, where: int, *, version_5: bool) -> list[Attribute]:
    """Decode the attributes of a leaf. Raises Corrupt."""
    (count,) = struct.unpack_from(">H", data, _LEAF_COUNT_AT[version_5])
    start, end = _LEAF_ENTRIES_AT[version_5], len(data)
    entries_end = start + count * _LEAF_ENTRY.size
    if entries_end > end:
        raise Corrupt(Damage.ATTRIBUTE_LEAF_ENTRIES, where, actual=count)
    attributes = []
    for _, at, flags in _LEAF_ENTRY.iter_unpack(data[start:entries_end]):
        local = bool(flags & AttributeFlag.LOCAL)
        header = _LOCAL if local else _REMOTE
        name_at = at + header.size
        if at < entries_end or name_at > end:
            raise Corrupt(Damage.ATTRIBUTE_OUTSIDE_LEAF, where + at)
        block, value = 0, None
        if local:
            size, name_length = _LOCAL.unpack_from(data, at)
            value_at = name_at + name_length
            value = data[value_at : value_at + size]
            if value_at + size > end:
                raise Corrupt(Damage.ATTRIBUTE_CUT_OFF, where + at)
        else:
            block, size, name_length = _REMOTE.unpack_from(data, at)
            if name_at + name_length > end:
                raise Corrupt(Damage.ATTRIBUTE_CUT_OFF, where + at)
            if size > MAX_VALUE:
                raise Corrupt(
                    Damage.ATTRIBUTE_SIZE, where + at, expected=f"at most {MAX_VALUE}", actual=size
                )
        attributes.append(
            Attribute(flags, data[name_at : name_at + name_length], value, size, block)
        )
    return attributes


def decode_remote(data: bytes, where: int, position: int) -> bytes:
    """Return what a block of version 5 has of a value from `position` on. Raises Corrupt."""
    magic, offset, length = _REMOTE_HEADER.unpack_from(data)
    if magic != _REMOTE_MAGIC:
        raise Corrupt(Damage.ATTRIBUTE_VALUE_MAGIC, where, expected=_REMOTE_MAGIC, actual=magic)
    room = len(data) - REMOTE_HEADER_SIZE
    if offset != position or not 0 < length <= room:
        raise Corrupt(
            Damage.ATTRIBUTE_VALUE_PART,
            where,
            expected=f"from {position} on, at most {room} bytes",
            actual=f"{length} bytes from {offset}",
        )
    return data[REMOTE_HEADER_SIZE : REMOTE_HEADER_SIZE + length]
