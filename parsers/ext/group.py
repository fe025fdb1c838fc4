"""Block group descriptors: where each group's part of the inode table is.

Source: Linux kernel documentation, filesystems/ext4, "Block Group Descriptors" and "Meta Block Groups".
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.ext.checksum import CRC16_START, crc16, crc32c
from vmount.parsers.ext.errors import Damage
from vmount.parsers.ext.features import Incompat, RoCompat
from vmount.parsers.ext.superblock import Superblock
from vmount.parsers.layout import Field, Layout

GROUP_DESCRIPTOR = Layout(
    "ext4 group descriptor",
    Field("block_bitmap_low", "I", at=0x00, note="block of the bitmap"),
    Field("inode_bitmap_low", "I", at=0x04),
    Field("inode_table_low", "I", at=0x08, note="first block of the table"),
    Field("free_blocks_low", "H", at=0x0C),
    Field("free_inodes_low", "H", at=0x0E),
    Field("directories_low", "H", at=0x10, note="bg_used_dirs_count_lo"),
    Field(
        "flags",
        "H",
        at=0x12,
        note="EXT4_BG_...: 1: no inodes are initialised, 2: no blocks, 4: the table is zeroed",
    ),
    Field("exclude_bitmap_low", "I", at=0x14, note="of the snapshots that were never merged"),
    Field("block_bitmap_checksum_low", "H", at=0x18),
    Field("inode_bitmap_checksum_low", "H", at=0x1A),
    Field(
        "unused_inodes_low",
        "H",
        at=0x1C,
        note="bg_itable_unused_lo: at the table's end, never written",
    ),
    Field("checksum", "H", at=0x1E, note="crc16, or the low half of a crc32c"),
    Field(
        "block_bitmap_high",
        "I",
        at=0x20,
        note="from here on only where the superblock's descriptor_size is 64",
    ),
    Field("inode_bitmap_high", "I", at=0x24),
    Field("inode_table_high", "I", at=0x28),
    Field("free_blocks_high", "H", at=0x2C),
    Field("free_inodes_high", "H", at=0x2E),
    Field("directories_high", "H", at=0x30),
    Field("unused_inodes_high", "H", at=0x32),
    Field("exclude_bitmap_high", "I", at=0x34),
    Field("block_bitmap_checksum_high", "H", at=0x38),
    Field("inode_bitmap_checksum_high", "H", at=0x3A),
    Field("reserved", "4x", at=0x3C),
    size=64,
    source="Linux fs/ext4/ext4.h struct ext4_group_desc",
)
"""The 64 bytes of a volume with 64BIT; without it only the first 32 are there."""

_pick_narrow = GROUP_DESCRIPTOR.picker("inode_table_low", "checksum").unpack_from
_pick_wide = GROUP_DESCRIPTOR.picker("inode_table_low", "checksum", "inode_table_high").unpack_from
_CHECKSUM_AT = GROUP_DESCRIPTOR.offset("checksum")
_CHECKSUM_END = _CHECKSUM_AT + 2
_NARROW_SIZE = GROUP_DESCRIPTOR.offset("block_bitmap_high")


class GroupDescriptor(NamedTuple):
    """What a reader needs of a group."""

    inode_table: int
    """Block where the group's inodes start."""


def decode_group_descriptor(
    superblock: Superblock, data: bytes, group: int, where: int
) -> GroupDescriptor:
    """Decode the descriptor of `group` from exactly its bytes, which lie at `where` in the volume.

    Raises Corrupt if its checksum is wrong or its inode table is not in the volume.
    """
    if superblock.descriptor_size > _NARROW_SIZE:
        low, checksum, high = _pick_wide(data)
        inode_table = low | high << 32
    else:
        inode_table, checksum = _pick_narrow(data)
    expected = _checksum(superblock, data, group)
    if expected is not None and expected != checksum:
        raise Corrupt(
            Damage.CHECKSUM_OF_GROUP_DESCRIPTOR, where, of=group, expected=expected, actual=checksum
        )
    table_blocks = -(-superblock.inodes_per_group * superblock.inode_size // superblock.block_size)
    last = superblock.blocks_count - table_blocks
    if not superblock.first_data_block < inode_table <= last:
        raise Corrupt(
            Damage.GROUP_INODE_TABLE_OUTSIDE_VOLUME,
            where + GROUP_DESCRIPTOR.offset("inode_table_low"),
            of=group,
            expected=f"a block from {superblock.first_data_block + 1:#x} to {last:#x}",
            actual=inode_table,
        )
    return GroupDescriptor(inode_table)


def descriptor_blocks(superblock: Superblock, index: int) -> list[int]:
    """Return the blocks where block `index` of the descriptors may be read, the main copy first.

    At most three: more copies exist, and two that are damaged say enough of the volume.
    """
    per_block = superblock.block_size // superblock.descriptor_size
    first_group = index * per_block
    if superblock.has_incompat(Incompat.META_BG) and index >= superblock.first_meta_group:
        groups = [first_group, first_group + 1, first_group + per_block - 1]
        return [
            _group_start(superblock, group) + _superblock_blocks(superblock, group)
            for group in groups
            if group < superblock.groups_count
        ]
    backups = (group for group in _backup_groups(superblock) if group < superblock.groups_count)
    return [
        _group_start(superblock, group) + _superblock_blocks(superblock, group) + index
        for group in (superblock.block_group, *backups)
    ][:3]


def _backup_groups(superblock: Superblock) -> list[int]:
    candidates = {1, 3, 5, 7, 9, *superblock.backup_groups} - {0, superblock.block_group}
    return sorted(group for group in candidates if superblock.group_has_superblock(group))


def _group_start(superblock: Superblock, group: int) -> int:
    return superblock.first_data_block + group * superblock.blocks_per_group


def _superblock_blocks(superblock: Superblock, group: int) -> int:
    """Return how many blocks at the start of a group its copy of the superblock takes."""
    if not superblock.group_has_superblock(group):
        return 0
    # Blocks of 1 KiB with first data block 0 (bigalloc): the superblock is block 1 of group 0.
    boot_block = group == 0 and superblock.block_size == 1024 and superblock.first_data_block == 0
    return 2 if boot_block else 1


def _checksum(superblock: Superblock, data: bytes, group: int) -> int | None:
    number = struct.pack("<I", group)
    if superblock.metadata_checksums:
        covered = number + data[:_CHECKSUM_AT] + b"\0\0" + data[_CHECKSUM_END:]
        return crc32c(superblock.checksum_seed, covered) & 0xFFFF
    if superblock.ro_compat & RoCompat.GDT_CSUM:
        covered = superblock.uuid + number + data[:_CHECKSUM_AT] + data[_CHECKSUM_END:]
        return crc16(CRC16_START, covered)
    return None
