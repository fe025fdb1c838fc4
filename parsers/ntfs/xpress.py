"""XPRESS Huffman, of chunks that have at most 64 KiB when decoded. Source: MS-XCA 2.1.

libfwnt does the work. It takes any code, complete or not, and reads zeros where its input has ended: both
are looked after here, so that a chunk cut short is an error and not other bytes.
"""

from __future__ import annotations

import pyfwnt

from vmount.parsers.errors import Corrupt
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.reader import Buffer

MAX_CHUNK = 65536
"""Bytes, decoded, that share one code."""

_CODE_TABLE = 256
"""Bytes: four bits for the length of each of 512 codes."""

_WHOLE = 1 << 15
_SHARES = tuple(
    sum(_WHOLE >> bits for bits in (byte & 15, byte >> 4) if bits) for byte in range(256)
)
"""Of all strings of 15 bits, how many begin with the two codes that a byte of the table has."""

_AHEAD = 16
"""Bytes that a decoder may look at behind the last symbol's; two words of two bytes."""


def decode_xpress(stored: Buffer, length: int) -> bytes:
    """Decode a chunk of `length` bytes. Raises Corrupt if it has more, fewer, or none that make sense."""
    if not 0 <= length <= MAX_CHUNK:
        raise Corrupt(
            Damage.SIZE_OF_XPRESS_CHUNK, expected=f"at most {MAX_CHUNK:#x}", actual=length
        )
    data = bytes(stored)
    if len(data) < _CODE_TABLE or sum(map(_SHARES.__getitem__, data[:_CODE_TABLE])) != _WHOLE:
        raise Corrupt(Damage.CODE_OF_XPRESS_CHUNK, 0, expected="a complete code")
    try:
        decoded: bytes = pyfwnt.lzxpress_huffman_decompress(data + bytes(_AHEAD), length)
        again: bytes = pyfwnt.lzxpress_huffman_decompress(data + b"\xff" * _AHEAD, length)
    except OSError as error:
        raise Corrupt(Damage.XPRESS_DATA, actual=str(error).rpartition(". ")[2]) from error
    if len(decoded) != length or decoded != again:
        raise Corrupt(
            Damage.XPRESS_DATA_ENDS_EARLY, len(data), expected=length, actual=len(decoded)
        )
    return decoded
