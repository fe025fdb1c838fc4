"""Targets of symbolic links that are too long for their inodes.

Source: "XFS Algorithms & Data Structures", "Symbolic Links".
"""

from __future__ import annotations

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.xfs.errors import Damage

MAX_TARGET = 1024
"""Bytes: the longest target that the kernel writes."""

HEADER = Layout(
    "XFS block of a symbolic link's target",
    Field("magic", "4s", at=0x00),
    Field("offset", "I", at=0x04, note="sl_offset: of this part, in bytes"),
    Field("length", "I", at=0x08, note="sl_bytes: in this block"),
    Field("checksum", "I", at=0x0C, note="sl_crc: little-endian"),
    Field("uuid", "16s", at=0x10),
    Field("owner", "Q", at=0x20, note="inode number"),
    Field("block", "Q", at=0x28, note="sl_blkno: of this block, in basic blocks"),
    Field("lsn", "Q", at=0x30),
    byte_order=">",
    size=56,
    source="Linux fs/xfs/libxfs/xfs_format.h struct xfs_dsymlink_hdr",
)
HEADER_SIZE = HEADER.size
_MAGIC = b"XSLM"
_HEADER = HEADER.picker("magic", "offset", "length")


def decode_part(data: bytes, where: int, position: int) -> bytes:
    """Return what a block of version 5 has of a target from `position` on. Raises Corrupt."""
    magic, offset, length = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise Corrupt(Damage.SYMBOLIC_LINK_MAGIC, where, expected=_MAGIC, actual=magic)
    if offset != position or not 0 < length <= len(data) - HEADER_SIZE:
        raise Corrupt(
            Damage.SYMBOLIC_LINK_PART_OF_TARGET,
            where,
            expected=f"from {position} on, at most {len(data) - HEADER_SIZE} bytes",
            actual=f"{length} bytes from {offset}",
        )
    return data[HEADER_SIZE : HEADER_SIZE + length]
