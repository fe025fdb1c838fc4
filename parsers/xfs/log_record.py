"""Records of the log: their headers, and the operations in them.

The log is a ring of basic blocks (512 bytes). The first word of each tells in which cycle of the ring it was
written; in the blocks of a record it stands in place of a word that the record's header keeps.
Source: "XFS Algorithms & Data Structures", "Journaling Log" (Log Records, Log Operations).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.layout import Field, Layout
from vmount.parsers.xfs.checksum import BASIC_BLOCK, crc32c
from vmount.parsers.xfs.errors import Damage

MAGIC = 0xFEEDBABE
MAX_LENGTH = 256 << 10
"""Bytes of a record's operations: the largest that the kernel writes."""
MAX_HEADERS = MAX_LENGTH // (32 << 10)
"""Blocks of a record's header, each with the words of 32 KiB."""

RECORD_HEADER = Layout(
    "XFS log record header",
    Field("magic", "I", at=0x00),
    Field("cycle", "I", at=0x04, note="of the ring in which the record was written"),
    Field("version", "I", at=0x08),
    Field("length", "I", at=0x0C, note="h_len: bytes of the operations"),
    Field("lsn", "Q", at=0x10, note="cycle and basic block of this record"),
    Field("tail_lsn", "Q", at=0x18, note="of the oldest record that is still needed"),
    Field("checksum", "I", at=0x20, note="h_crc: little-endian"),
    Field("previous_block", "I", at=0x24, note="h_prev_block"),
    Field("operations", "I", at=0x28, note="h_num_logops"),
    Field("words", "64I", at=0x2C, note="h_cycle_data: the first word of each basic block"),
    Field("format", "I", at=0x12C, note="h_fmt: 1: little-endian Linux"),
    Field("uuid", "16s", at=0x130, note="h_fs_uuid"),
    Field("size", "I", at=0x140, note="h_size: bytes of a log buffer; 64-bit machines pad to 328"),
    byte_order=">",
    size=324,
    source="Linux fs/xfs/libxfs/xfs_log_format.h struct xlog_rec_header",
)
_CHECKSUM_AT = RECORD_HEADER.offset("checksum")
_WORDS_AT = RECORD_HEADER.offset("words")
_pick = RECORD_HEADER.picker(
    "magic",
    "cycle",
    "version",
    "length",
    "lsn",
    "tail_lsn",
    "checksum",
    "operations",
    "format",
    "size",
).unpack_from
_WORDS = 64
_COVERED = (328, 324)
"""Bytes of the first block of a header that the checksum covers, on 64 and on 32 bits."""
_COVERED_FURTHER = 260
_LITTLE_ENDIAN = 1
OPERATION = Layout(
    "XFS log operation header",
    Field("transaction", "I", at=0x00, note="oh_tid"),
    Field("length", "I", at=0x04, note="oh_len: bytes of the region, which follows"),
    Field("client", "B", at=0x08, note="oh_clientid: what of the kernel wrote it"),
    Field("flags", "B", at=0x09, note="OperationFlag"),
    Field("reserved", "2x", at=0x0A),
    byte_order=">",
    size=12,
    source="Linux fs/xfs/libxfs/xfs_log_format.h struct xlog_op_header",
)
_OPERATION = OPERATION.whole()
_UNMOUNT_MAGIC = 0x556E


class RecordHeader(NamedTuple):
    """The header of a record."""

    cycle: int
    length: int
    """Bytes of operations, in whole basic blocks."""
    lsn: int
    """Cycle (upper half) and basic block where the record starts."""
    tail_lsn: int
    """Of the oldest record that was still needed."""
    checksum: int
    operations: int
    little_endian: bool
    blocks: int
    """Basic blocks of the header."""

    @property
    def total(self) -> int:
        """Basic blocks of the record with its header."""
        return self.blocks + self.length // BASIC_BLOCK


class OperationFlag(IntEnum):
    """What an operation is."""

    START = 0x1
    COMMIT = 0x2
    CONTINUE = 0x4
    CONTINUED = 0x8
    END = 0x10
    UNMOUNT = 0x20


class Operation(NamedTuple):
    """A piece of a transaction."""

    transaction: int
    flags: int
    """OperationFlag."""
    region: bytes


def block_cycle(block: bytes) -> int:
    """Return the cycle in which a basic block of the log was written; 0 for never."""
    first: int
    second: int
    first, second = struct.unpack_from(">II", block)
    return second if first == MAGIC else first


def decode_header(block: bytes, where: int) -> RecordHeader | None:
    """Decode the header of a record; None if the block is not one. Raises Corrupt."""
    magic, cycle, version, length, lsn, tail_lsn, checksum, operations, form, size = _pick(block)
    if magic != MAGIC:
        return None
    headers = 1
    if version & 2 and size > _WORDS * BASIC_BLOCK:
        headers = -(-size // (_WORDS * BASIC_BLOCK))
    length = -(-length // BASIC_BLOCK) * BASIC_BLOCK
    if version not in (1, 2) or not 0 < length <= MAX_LENGTH or headers > MAX_HEADERS:
        raise Corrupt(Damage.LOG_RECORD_HEADER, where)
    return RecordHeader(
        cycle, length, lsn, tail_lsn, checksum, operations, form == _LITTLE_ENDIAN, headers
    )


def is_whole(header: RecordHeader, record: bytes, *, at: int, log_blocks: int) -> bool:
    """Tell whether a record that starts at block `at` of the ring was written to its end: its blocks are of
    its cycle, of the next one from the start of the ring on, and its checksum, header and all, is right.

    Records of old kernels have no checksum.
    """
    for index in range(1, header.total):
        wanted = header.cycle + (1 if at + index >= log_blocks else 0)
        found = int.from_bytes(record[index * BASIC_BLOCK : index * BASIC_BLOCK + 4], "big")
        if found != wanted:
            return False
    if not header.checksum:
        return True
    further = b"".join(
        record[index * BASIC_BLOCK : index * BASIC_BLOCK + _COVERED_FURTHER]
        for index in range(1, header.blocks)
    )
    body = record[header.blocks * BASIC_BLOCK :]
    for covered in _COVERED:
        first = record[:_CHECKSUM_AT] + bytes(4) + record[_CHECKSUM_AT + 4 : covered]
        stored = int.from_bytes(record[_CHECKSUM_AT : _CHECKSUM_AT + 4], "little")
        if crc32c(first + further + body) == stored:
            return True
    return False


def is_unmount(header: RecordHeader, record: bytes) -> bool:
    """Tell whether a record says that the file system was unmounted."""
    if header.operations != 1:
        return False
    [operation] = operations(header, record)
    return bool(operation.flags & OperationFlag.UNMOUNT)


def operations(header: RecordHeader, record: bytes) -> Iterator[Operation]:
    """Yield the operations of a record. Raises Corrupt, Unsupported for one of another kind of machine."""
    if not header.little_endian:
        raise Unsupported("the log of a big-endian system")
    body = _unpacked(header, record)
    position = 0
    for _ in range(header.operations):
        if position + _OPERATION.size > len(body):
            raise Corrupt(Damage.LOG_RECORD_OPERATION_CUT_OFF, header.lsn)
        transaction, length, _, flags = _OPERATION.unpack_from(body, position)
        position += _OPERATION.size
        if position + length > len(body):
            raise Corrupt(Damage.LOG_RECORD_OPERATION_CUT_OFF, header.lsn)
        yield Operation(transaction, flags, body[position : position + length])
        position += length


def _unpacked(header: RecordHeader, record: bytes) -> bytes:
    """Return the body of a record with the words that its header keeps put back."""
    start = header.blocks * BASIC_BLOCK
    body = bytearray(record[start:])
    words = record[_WORDS_AT : _WORDS_AT + _WORDS * 4] + b"".join(
        record[index * BASIC_BLOCK + 4 : index * BASIC_BLOCK + 4 + _WORDS * 4]
        for index in range(1, header.blocks)
    )
    for index in range(min(len(words) // 4, len(body) // BASIC_BLOCK)):
        at = index * BASIC_BLOCK
        body[at : at + 4] = words[index * 4 : index * 4 + 4]
    return bytes(body)
