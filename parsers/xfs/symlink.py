"""Targets of symbolic links that are too long for their inodes.

Source: "XFS Algorithms & Data Structures", "Symbolic Links".
"""

from __future__ import annotations

import struct

from vmount.parsers.errors import Corrupt

MAX_TARGET = 1024
"""Bytes: the longest target that the kernel writes."""

HEADER_SIZE = 56
_MAGIC = b"XSLM"
_HEADER = struct.Struct(">4sII")


def decode_part(data: bytes, where: int, position: int) -> bytes:
    """Return what a block of version 5 has of a target from `position` on. Raises Corrupt."""
    magic, offset, length = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise Corrupt("symbolic link: magic", where, expected=_MAGIC, actual=magic)
    if offset != position or not 0 < length <= len(data) - HEADER_SIZE:
        raise Corrupt(
            "symbolic link: part of the target",
            where,
            expected=f"from {position} on, at most {len(data) - HEADER_SIZE} bytes",
            actual=f"{length} bytes from {offset}",
        )
    return data[HEADER_SIZE : HEADER_SIZE + length]
