"""The two checksums of ext4: CRC-32C (metadata_csum) and CRC-16 (gdt_csum).

Both are used without the final inversion that their common definitions have, and chained: the result
over one piece is the seed for the next.
Source: Linux kernel documentation, filesystems/ext4, "Checksums".
"""

from __future__ import annotations

import google_crc32c

CRC32C_START = 0xFFFFFFFF
CRC16_START = 0xFFFF


def crc32c(seed: int, data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) over `data`, going on from `seed`."""
    state: int = google_crc32c.extend(seed ^ 0xFFFFFFFF, data)
    return state ^ 0xFFFFFFFF


def crc16(seed: int, data: bytes) -> int:
    """Return the CRC-16 of the reversed polynomial 0xA001 ("ANSI", "ARC") over `data`, going on from
    `seed`."""
    for byte in data:
        seed = (seed >> 8) ^ _CRC16_TABLE[(seed ^ byte) & 0xFF]
    return seed


def _crc16_entry(index: int) -> int:
    for _ in range(8):
        index = (index >> 1) ^ (0xA001 if index & 1 else 0)
    return index


_CRC16_TABLE = tuple(_crc16_entry(index) for index in range(256))
