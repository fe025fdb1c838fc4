"""LZNT1: the compression of NTFS.

Stored bytes are a sequence of blocks, each with a two-byte header and at most 4096 bytes when decoded. The
framing is decoded here and what is in a compressed block by libfwnt: its own framing puts a
block that follows a short one at the wrong place, and accepts blocks of more than 4096 bytes. Source: MS-XCA 2.5.
"""

from __future__ import annotations

import pyfwnt

from vmount.parsers.errors import Corrupt
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.reader import Buffer

BLOCK = 4096
"""Bytes that a block has when decoded; the last one of a unit may have less."""

_SIGNATURE_MASK = 0x7000
_SIGNATURE = 0x3000
_COMPRESSED = 0x8000
_SIZE_MASK = 0x0FFF


def decode_lznt1(stored: Buffer, length: int) -> bytes:
    """Decode the first `length` bytes of what is stored; raises Corrupt if it has not as many."""
    data = bytes(stored)
    decoded = bytearray()
    position, end = 0, len(data)
    while len(decoded) < length:
        header = int.from_bytes(data[position : position + 2], "little")
        after = position + 2 + (header & _SIZE_MASK) + 1
        if header == 0 or position + 2 > end or after > end:
            raise Corrupt(
                Damage.LZNT1_DATA_ENDS_EARLY, position, expected=length, actual=len(decoded)
            )
        if header & _SIGNATURE_MASK != _SIGNATURE:
            raise Corrupt(Damage.LZNT1_BLOCK_HEADER, position, actual=header)
        # A block that another one follows stands for 4096 bytes: what it leaves out is zeros.
        decoded += bytes(-len(decoded) % BLOCK)
        if len(decoded) >= length:
            break
        if header & _COMPRESSED:
            decoded += _decode_block(data[position:after], position)
        else:
            decoded += data[position + 2 : after]
        position = after
    return bytes(decoded[:length])


def _decode_block(block: bytes, where: int) -> bytes:
    try:
        decoded: bytes = pyfwnt.lznt1_decompress(block, BLOCK)
    except OSError as error:
        raise Corrupt(Damage.LZNT1_BLOCK, where, actual=str(error).rpartition(". ")[2]) from error
    return decoded
