"""Extended attributes: in the inode, in a block, or with the value in an inode of its own.

Source: Linux kernel documentation, filesystems/ext4, "Extended Attributes".
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.ext.checksum import crc32c
from vmount.parsers.ext.errors import Damage
from vmount.parsers.layout import Field, Layout

MAGIC = 0xEA020000
MAX_VALUE = 64 << 10
"""The kernel's XATTR_SIZE_MAX."""
MAX_VALUES = 16 << 20
"""Bytes of all values of one file: a block of 64 KiB could name three thousand inodes of MAX_VALUE each."""

BLOCK_HEADER = Layout(
    "ext4 attribute block header",
    Field("magic", "I", at=0x00, note="0xEA020000"),
    Field("reference_count", "I", at=0x04, note="h_refcount: inodes that share the block"),
    Field("blocks", "I", at=0x08, note="1"),
    Field("hash", "I", at=0x0C, note="of all attributes"),
    Field("checksum", "I", at=0x10, note="crc32c of the block's number and the block"),
    Field("reserved", "12x", at=0x14),
    size=32,
    source="Linux fs/ext4/xattr.h struct ext4_xattr_header",
)
ENTRY = Layout(
    "ext4 attribute entry",
    Field("name_length", "B", at=0x00, note="e_name_len: bytes; the name follows"),
    Field("name_index", "B", at=0x01, note="EXT4_XATTR_INDEX_...: the prefix"),
    Field(
        "value_offset",
        "H",
        at=0x02,
        note="e_value_offs: from the block, or in an inode from the first entry",
    ),
    Field("value_inode", "I", at=0x04, note="e_value_inum: inode with the value; 0: it is here"),
    Field("value_size", "I", at=0x08, note="bytes"),
    Field("hash", "I", at=0x0C, note="of name and value"),
    size=16,
    source="Linux fs/ext4/xattr.h struct ext4_xattr_entry",
)
"""The name follows, padded to four bytes."""

_pick_entry = ENTRY.picker(
    "name_length", "name_index", "value_offset", "value_inode", "value_size", "hash"
).unpack_from
_CHECKSUM_AT = BLOCK_HEADER.offset("checksum")

SYSTEM = 7
ACL_ACCESS, ACL_DEFAULT = 2, 3
PREFIXES = {
    1: b"user.",
    ACL_ACCESS: b"system.posix_acl_access",
    ACL_DEFAULT: b"system.posix_acl_default",
    4: b"trusted.",
    6: b"security.",
    SYSTEM: b"system.",
    10: b"gnu.",
}
"""What a name index stands for. Others have no name to the kernel either."""


class StoredAttribute(NamedTuple):
    """An attribute as stored."""

    name_index: int
    """A key of PREFIXES, or one that no system call shows."""
    name: bytes
    """Without its prefix."""
    value: bytes
    value_inode: int
    """Inode with the value, 0 if it is here."""
    value_size: int
    hash: int
    """Of the name and the value."""


def hash_with_inode(name: bytes, value_hash: int) -> int:
    """Return the hash of an attribute whose value, of this CRC-32C, is in an inode of its own."""
    result = 0
    for byte in name:
        result = (result << 5 ^ result >> 27 ^ byte) & 0xFFFFFFFF
    return (result << 16 ^ result >> 16 ^ value_hash) & 0xFFFFFFFF


def decode_inode_attributes(space: bytes, where: int) -> list[StoredAttribute]:
    """Decode the attributes in the space that an inode leaves for them. Raises Corrupt."""
    if len(space) < 8 or struct.unpack_from("<I", space)[0] != MAGIC:
        return []
    return _decode(space, 4, 4, where)


def decode_attribute_block(data: bytes, where: int) -> list[StoredAttribute]:
    """Decode the attributes in a block. Raises Corrupt."""
    magic, _, blocks = struct.unpack_from("<III", data)
    if magic != MAGIC or blocks != 1:
        raise Corrupt(Damage.ATTRIBUTE_BLOCK_HEADER, where, expected=MAGIC, actual=magic)
    return _decode(data, BLOCK_HEADER.size, 0, where)


def check_attribute_block(data: bytes, block: int, where: int, seed: int) -> None:
    """Check the checksum in the header; `block` is its number, `seed` the volume's. Raises Corrupt."""
    (stored,) = struct.unpack_from("<I", data, _CHECKSUM_AT)
    covered = struct.pack("<Q", block) + data[:_CHECKSUM_AT] + bytes(4) + data[_CHECKSUM_AT + 4 :]
    expected = crc32c(seed, covered)
    if stored != expected:
        raise Corrupt(Damage.ATTRIBUTE_BLOCK_CHECKSUM, where, expected=expected, actual=stored)


def _decode(data: bytes, start: int, base: int, where: int) -> list[StoredAttribute]:
    """Decode entries from `start` on; offsets of values count from `base`."""
    attributes: list[StoredAttribute] = []
    position, end = start, len(data)
    first_value = end
    while True:
        if position + 4 > end:
            raise Corrupt(Damage.ATTRIBUTES_WITHOUT_END, where + position)
        if data[position : position + 4] == bytes(4):
            if first_value < position + 4:
                raise Corrupt(Damage.ATTRIBUTE_VALUE_AMONG_NAMES, where + first_value)
            return attributes
        if position + ENTRY.size > end:
            raise Corrupt(Damage.ATTRIBUTE_CUT_OFF, where + position)
        name_length, index, value_offset, value_inode, size, hashed = _pick_entry(data, position)
        name_at = position + ENTRY.size
        following = name_at + (name_length + 3 & ~3)
        if following > end:
            raise Corrupt(Damage.ATTRIBUTE_CUT_OFF, where + position)
        value = b""
        if size > MAX_VALUE:
            raise Corrupt(
                Damage.ATTRIBUTE_SIZE,
                where + position,
                expected=f"at most {MAX_VALUE}",
                actual=size,
            )
        if not value_inode and size:
            value_at = base + value_offset
            first_value = min(first_value, value_at)
            if value_at < following or value_at + (size + 3 & ~3) > end:
                raise Corrupt(
                    Damage.ATTRIBUTE_VALUE_OUTSIDE_PLACE,
                    where + position,
                    expected=f"within {following} to {end}",
                    actual=f"{size} bytes at {value_at}",
                )
            value = data[value_at : value_at + size]
        name = data[name_at : name_at + name_length]
        attributes.append(StoredAttribute(index, name, value, value_inode, size, hashed))
        position = following
