"""Blocks of a journal (JBD2). Its numbers are big-endian.

Source: Linux kernel documentation, filesystems/ext4, "Journal (jbd2)".
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import NamedTuple

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.ext.checksum import CRC32C_START, crc32c
from vmount.parsers.ext.errors import Damage
from vmount.parsers.layout import Field, Layout

MAGIC = 0xC03B3998
DEFAULT_FAST_COMMIT_BLOCKS = 256
MIN_BLOCKS = 1024
"""Of the log; a journal that would have fewer has no place for fast commits."""


class BlockType(IntEnum):
    """What a block of the journal is, if it starts with MAGIC."""

    DESCRIPTOR = 1
    COMMIT = 2
    SUPERBLOCK_V1 = 3
    SUPERBLOCK_V2 = 4
    REVOKE = 5


class JournalFeature(IntFlag):
    """Incompatible features of a journal."""

    REVOKE = 0x1
    BITS_64 = 0x2
    ASYNC_COMMIT = 0x4
    CSUM_V2 = 0x8
    CSUM_V3 = 0x10
    FAST_COMMIT = 0x20


_KNOWN_FEATURES = 0x3F
_COMPAT_CHECKSUM = 0x1

HEADER = Layout(
    "jbd2 block header",
    Field("magic", "I", at=0x00, note="h_magic: 0xC03B3998"),
    Field("block_type", "I", at=0x04, note="h_blocktype: JBD2_..._BLOCK"),
    Field("sequence", "I", at=0x08, note="of the transaction"),
    byte_order=">",
    size=12,
    source="Linux include/linux/jbd2.h struct journal_header_s",
)
JOURNAL_SUPERBLOCK = Layout(
    "jbd2 superblock",
    Field("magic", "I", at=0x00),
    Field("block_type", "I", at=0x04),
    Field("header_sequence", "I", at=0x08, note="of the header: not used"),
    Field("block_size", "I", at=0x0C, note="bytes"),
    Field("blocks", "I", at=0x10, note="s_maxlen: of the journal"),
    Field("first", "I", at=0x14, note="first block of the log itself"),
    Field("sequence", "I", at=0x18, note="of the first transaction that is not checkpointed"),
    Field("start", "I", at=0x1C, note="block where that one begins; 0: the journal is empty"),
    Field("error", "I", at=0x20, note="s_errno: of an aborted journal"),
    Field("feature_compat", "I", at=0x24),
    Field("feature_incompat", "I", at=0x28),
    Field("feature_ro_compat", "I", at=0x2C),
    Field("uuid", "16s", at=0x30),
    Field("users", "I", at=0x40, note="s_nr_users: file systems with this journal"),
    Field("dynamic_superblock", "I", at=0x44, note="s_dynsuper: not used"),
    Field("max_transaction", "I", at=0x48),
    Field("max_transaction_data", "I", at=0x4C),
    Field("checksum_type", "B", at=0x50, note="4: crc32c"),
    Field("padding", "3x", at=0x51),
    Field("fast_commit_blocks", "I", at=0x54, note="s_num_fc_blks: at the end of the journal"),
    Field("head", "I", at=0x58, note="s_head: block after the last transaction"),
    Field("padding_2", "160x", at=0x5C),
    Field("checksum", "I", at=0xFC),
    Field(
        "user_uuids", "768s", at=0x100, note="s_users: UUIDs of the file systems, 48 of 16 bytes"
    ),
    byte_order=">",
    size=1024,
    source="Linux include/linux/jbd2.h struct journal_superblock_s",
)
_CHECKSUM_TYPE_CRC32C = 4
_CHECKSUM_TYPE_CRC32 = 1

COMMIT = Layout(
    "jbd2 commit",
    Field("magic", "I", at=0x00),
    Field("block_type", "I", at=0x04),
    Field("sequence", "I", at=0x08),
    Field("checksum_type", "B", at=0x0C, note="h_chksum_type"),
    Field("checksum_size", "B", at=0x0D),
    Field("padding", "2x", at=0x0E),
    Field("checksum", "I", at=0x10, note="h_chksum[0]: crc32c of the block with 0 here"),
    Field("more_checksums", "28x", at=0x14, note="h_chksum[1] to [7]: not used"),
    Field("seconds", "Q", at=0x30, note="h_commit_sec: since 1970"),
    Field("nanoseconds", "I", at=0x38),
    byte_order=">",
    size=60,
    source="Linux include/linux/jbd2.h struct commit_header",
)
BLOCK_TAG = Layout(
    "jbd2 block tag",
    Field("block", "I", at=0x00, note="t_blocknr: lower half of the block's number on the volume"),
    Field("checksum", "H", at=0x04, note="lower half of the block's crc32c, with CSUM_V2"),
    Field("flags", "H", at=0x06, note="JBD2_FLAG_..."),
    Field("block_high", "I", at=0x08, note="t_blocknr_high: only with the feature 64BIT"),
    byte_order=">",
    size=12,
    source="Linux include/linux/jbd2.h struct journal_block_tag_s",
)
BLOCK_TAG_3 = Layout(
    "jbd2 block tag, version 3",
    Field("block", "I", at=0x00, note="t_blocknr"),
    Field("flags", "I", at=0x04, note="JBD2_FLAG_..."),
    Field("block_high", "I", at=0x08, note="t_blocknr_high"),
    Field("checksum", "I", at=0x0C, note="crc32c of the sequence and the block"),
    byte_order=">",
    size=16,
    source="Linux include/linux/jbd2.h struct journal_block_tag3_s",
)
_tag = BLOCK_TAG.picker("block", "checksum", "flags").unpack_from
_tag_high = BLOCK_TAG.picker("block_high").unpack_from
_tag_3 = BLOCK_TAG_3.whole().unpack_from
_COMMIT_CHECKSUM_AT = COMMIT.offset("checksum")
_pick_commit = COMMIT.picker("checksum_type", "checksum_size", "checksum", "seconds").unpack_from

_TAG_ESCAPED = 0x1
_TAG_SAME_UUID = 0x2
_TAG_LAST = 0x8

_pick_header = HEADER.picker("magic", "block_type", "sequence").unpack_from


@dataclass(frozen=True)
class JournalSuperblock:
    """How the journal is laid out and where its live part starts."""

    first: int
    """Block of the journal after which the log wraps around to here."""
    end: int
    """Block after the log's last."""
    start: int
    """Block where the oldest transaction starts; 0: the journal is empty."""
    sequence: int
    """Of that transaction."""
    features: int
    checksum_seed: int
    data_checksums: bool
    """A commit has a CRC-32 of its transaction's blocks: the first form of checksums."""
    fast_commit_blocks: int
    """Blocks for fast commits, from block `end` + 1 on."""

    @property
    def checksums(self) -> bool:
        """Blocks have a CRC-32C."""
        return bool(self.features & (JournalFeature.CSUM_V2 | JournalFeature.CSUM_V3))


class Tag(NamedTuple):
    """One of the blocks that follow a descriptor: what it is a new version of."""

    block: int
    """Of the volume."""
    escaped: bool
    """Its first four bytes are MAGIC, and zero in the journal."""
    checksum: int


def decode_journal_superblock(data: bytes, where: int, blocks: int) -> JournalSuperblock:
    """Decode block 0 of a journal of `blocks` blocks, each as large as `data`.

    Raises Corrupt, and Unsupported for features that cannot be read.
    """
    raw = JOURNAL_SUPERBLOCK.parse(data)
    if raw.magic != MAGIC or raw.block_type not in (
        BlockType.SUPERBLOCK_V1,
        BlockType.SUPERBLOCK_V2,
    ):
        raise Corrupt(Damage.JOURNAL_SUPERBLOCK_MAGIC, where, expected=MAGIC, actual=raw.magic)
    version_2 = raw.block_type == BlockType.SUPERBLOCK_V2
    features = raw.feature_incompat if version_2 else 0
    data_checksums = bool(raw.feature_compat & _COMPAT_CHECKSUM) and version_2
    if features & ~_KNOWN_FEATURES:
        raise Unsupported(f"journal feature {features & ~_KNOWN_FEATURES:#x}")
    with_checksums = features & (JournalFeature.CSUM_V2 | JournalFeature.CSUM_V3)
    if with_checksums:
        if raw.checksum_type != _CHECKSUM_TYPE_CRC32C:
            raise Unsupported(f"journal checksum type {raw.checksum_type}")
        at = JOURNAL_SUPERBLOCK.offset("checksum")
        covered = data[:at] + bytes(4) + data[at + 4 : JOURNAL_SUPERBLOCK.size]
        computed = crc32c(CRC32C_START, covered)
        if computed != raw.checksum:
            raise Corrupt(
                Damage.JOURNAL_SUPERBLOCK_CHECKSUM, where, expected=computed, actual=raw.checksum
            )
    elif features & JournalFeature.ASYNC_COMMIT and not data_checksums:
        raise Unsupported("journal with asynchronous commits and without checksums of blocks")
    end = raw.blocks
    fast_commit_blocks = 0
    if features & JournalFeature.FAST_COMMIT:
        fast_commit_blocks = raw.fast_commit_blocks or DEFAULT_FAST_COMMIT_BLOCKS
        if end - fast_commit_blocks < MIN_BLOCKS:
            fast_commit_blocks = 0
        end -= fast_commit_blocks
    valid = raw.block_size == len(data) and raw.blocks <= blocks and 0 < raw.first < end
    if not valid or not (raw.start == 0 or raw.first <= raw.start < end):
        raise Corrupt(Damage.JOURNAL_SUPERBLOCK_GEOMETRY, where)
    seed = crc32c(CRC32C_START, raw.uuid)
    return JournalSuperblock(
        raw.first,
        end,
        raw.start,
        raw.sequence,
        features,
        seed,
        data_checksums,
        max(0, fast_commit_blocks - 1),
    )


def decode_header(data: bytes) -> tuple[int, int] | None:
    """Return (type, sequence) of a block of the log, None if it is not one of the journal's own."""
    magic, block_type, sequence = _pick_header(data)
    return (block_type, sequence) if magic == MAGIC else None


def decode_tags(superblock: JournalSuperblock, data: bytes) -> list[Tag]:
    """Decode a descriptor."""
    wide = bool(superblock.features & JournalFeature.BITS_64)
    version_3 = bool(superblock.features & JournalFeature.CSUM_V3)
    if version_3:
        size = BLOCK_TAG_3.size
    else:
        size = (BLOCK_TAG.size if wide else 8) + (
            2 if superblock.features & JournalFeature.CSUM_V2 else 0
        )
    position, end = HEADER.size, len(data) - (4 if superblock.checksums else 0)
    tags = []
    while position + size <= end:
        high = 0
        if version_3:
            block, flags, high, checksum = _tag_3(data, position)
        else:
            block, checksum, flags = _tag(data, position)
            if wide:
                (high,) = _tag_high(data, position)
        tags.append(Tag(block | (high << 32 if wide else 0), bool(flags & _TAG_ESCAPED), checksum))
        position += size
        if not flags & _TAG_SAME_UUID:
            position += 16
        if flags & _TAG_LAST:
            break
    return tags


def decode_revoked(superblock: JournalSuperblock, data: bytes, where: int) -> list[int]:
    """Return the blocks of the volume that a revocation names. Raises Corrupt."""
    (used,) = struct.unpack_from(">I", data, HEADER.size)
    start = HEADER.size + 4
    code, size = ("Q", 8) if superblock.features & JournalFeature.BITS_64 else ("I", 4)
    if not start <= used <= len(data):
        raise Corrupt(
            Damage.JOURNAL_REVOCATION_LENGTH, where, expected=f"at most {len(data)}", actual=used
        )
    return list(struct.unpack_from(f">{(used - start) // size}{code}", data, start))


def commit_seconds(data: bytes) -> int:
    """Return when a transaction was committed, in seconds since 1970."""
    seconds: int = _pick_commit(data)[3]
    return seconds


def commit_is_whole(superblock: JournalSuperblock, data: bytes, blocks_crc: int) -> bool:
    """Tell whether the checksum of a commit is right; without checksums it is taken to be.

    `blocks_crc` is that of the transaction's blocks by `add_to_crc`, where there are data checksums.
    """
    checksum_type, checksum_size, stored, _ = _pick_commit(data)
    if superblock.data_checksums:
        if (checksum_type, checksum_size, stored) == (0, 0, 0):
            return True
        reversed_bits = int(f"{stored:032b}"[::-1], 2)
        return (checksum_type, checksum_size) == (_CHECKSUM_TYPE_CRC32, 4) and (
            reversed_bits ^ 0xFFFFFFFF == blocks_crc
        )
    if not superblock.checksums:
        return True
    covered = data[:_COMMIT_CHECKSUM_AT] + bytes(4) + data[_COMMIT_CHECKSUM_AT + 4 :]
    expected: int = stored
    return crc32c(superblock.checksum_seed, covered) == expected


def block_is_whole(superblock: JournalSuperblock, tag: Tag, sequence: int, data: bytes) -> bool:
    """Tell whether the checksum of a block of transaction `sequence` is right."""
    if not superblock.checksums:
        return True
    computed = crc32c(superblock.checksum_seed, struct.pack(">I", sequence) + data)
    if not superblock.features & JournalFeature.CSUM_V3:
        computed &= 0xFFFF
    return computed == tag.checksum


_REVERSED_BYTES = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def add_to_crc(crc: int, data: bytes) -> int:
    """Go on with the CRC-32 of a transaction's blocks, which starts with 0.

    The journal's takes the highest bit of a byte first, zlib's the lowest: this is its mirror image.
    """
    return zlib.crc32(data.translate(_REVERSED_BYTES), crc)


def block_damage(superblock: JournalSuperblock, data: bytes, where: int) -> Corrupt | None:
    """Return what is wrong with the checksum at the end of a descriptor or revocation."""
    if not superblock.checksums:
        return None
    (stored,) = struct.unpack_from(">I", data, len(data) - 4)
    computed = crc32c(superblock.checksum_seed, data[:-4] + bytes(4))
    if stored == computed:
        return None
    return Corrupt(Damage.JOURNAL_BLOCK_CHECKSUM, where, expected=computed, actual=stored)
