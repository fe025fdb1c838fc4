"""The superblock of ext2, ext3 and ext4.

Source: Linux kernel documentation, filesystems/ext4, "Super Block".
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vmount.parsers.errors import Corrupt, NotRecognised, Unsupported
from vmount.parsers.ext.checksum import CRC32C_START, crc32c
from vmount.parsers.ext.errors import Damage
from vmount.parsers.ext.features import Compat, Incompat, RoCompat, filesystem_type, unreadable
from vmount.parsers.layout import Field, Layout
from vmount.parsers.reader import Buffer

SUPERBLOCK_OFFSET = 1024
MAGIC = 0xEF53
MAX_LOG_BLOCK_SIZE = 6
"""Blocks of 64 KiB are the largest that directory entries can span."""
MAX_LOG_CLUSTER_SIZE = 20
"""Clusters of 1 GiB."""
GOOD_OLD_INODE_SIZE = 128
GOOD_OLD_FIRST_INODE = 11
GOOD_OLD_DESCRIPTOR_SIZE = 32
CRC32C_TYPE = 1

SUPERBLOCK = Layout(
    "ext superblock",
    Field("inodes_count", "I", at=0x00),
    Field("blocks_count_low", "I", at=0x04, note="of the volume"),
    Field("reserved_blocks_low", "I", at=0x08, note="s_r_blocks_count_lo: that only root may fill"),
    Field("free_blocks_low", "I", at=0x0C),
    Field("free_inodes", "I", at=0x10),
    Field("first_data_block", "I", at=0x14, note="1 where blocks have 1 KiB, else 0"),
    Field("log_block_size", "I", at=0x18, note="log2 of KiB"),
    Field(
        "log_cluster_size",
        "I",
        at=0x1C,
        note="log2 of KiB; equal to log_block_size without bigalloc",
    ),
    Field("blocks_per_group", "I", at=0x20),
    Field("clusters_per_group", "I", at=0x24),
    Field("inodes_per_group", "I", at=0x28),
    Field("mount_time", "I", at=0x2C, note="s_mtime: seconds since 1970, as all times here"),
    Field("write_time", "I", at=0x30, note="s_wtime"),
    Field("mount_count", "H", at=0x34),
    Field("max_mount_count", "H", at=0x36),
    Field("magic", "H", at=0x38, note="0xEF53"),
    Field(
        "state", "H", at=0x3A, note="1: cleanly unmounted; 2: errors; 4: orphans being recovered"
    ),
    Field("errors", "H", at=0x3C, note="what the kernel does when it finds one"),
    Field("minor_revision", "H", at=0x3E),
    Field("last_check", "I", at=0x40, note="s_lastcheck"),
    Field("check_interval", "I", at=0x44),
    Field("creator_os", "I", at=0x48, note="0: Linux"),
    Field(
        "revision", "I", at=0x4C, note="s_rev_level: 0: fields from first_inode on are not valid"
    ),
    Field("default_uid", "H", at=0x50, note="s_def_resuid: may use reserved blocks"),
    Field("default_gid", "H", at=0x52, note="s_def_resgid"),
    Field("first_inode", "I", at=0x54, note="s_first_ino: that is not reserved"),
    Field("inode_size", "H", at=0x58, note="bytes"),
    Field("block_group", "H", at=0x5A, note="s_block_group_nr: where this copy is"),
    Field("feature_compat", "I", at=0x5C),
    Field("feature_incompat", "I", at=0x60),
    Field("feature_ro_compat", "I", at=0x64),
    Field("uuid", "16s", at=0x68),
    Field("label", "16s", at=0x78, note="s_volume_name"),
    Field("last_mounted", "64s", at=0x88),
    Field("algorithm_usage", "I", at=0xC8, note="s_algorithm_usage_bitmap: not used"),
    Field("preallocate_blocks", "B", at=0xCC),
    Field("preallocate_directory_blocks", "B", at=0xCD),
    Field(
        "reserved_descriptor_blocks",
        "H",
        at=0xCE,
        note="s_reserved_gdt_blocks: room for the table to grow",
    ),
    Field("journal_uuid", "16s", at=0xD0),
    Field("journal_inode", "I", at=0xE0, note="s_journal_inum"),
    Field(
        "journal_device",
        "I",
        at=0xE4,
        note="s_journal_dev: number of the device of an external journal",
    ),
    Field(
        "last_orphan", "I", at=0xE8, note="first inode of the list of deleted ones that are open"
    ),
    Field("hash_seed", "16s", at=0xEC, note="four 32-bit words"),
    Field("default_hash_version", "B", at=0xFC, note="DX_HASH_...: of new directories"),
    Field("journal_backup_type", "B", at=0xFD, note="1: journal_blocks is set"),
    Field("descriptor_size", "H", at=0xFE, note="s_desc_size: bytes of a group descriptor; 0: 32"),
    Field("default_mount_options", "I", at=0x100),
    Field("first_meta_group", "I", at=0x104, note="s_first_meta_bg"),
    Field("creation_time", "I", at=0x108, note="s_mkfs_time"),
    Field("journal_blocks", "17I", at=0x10C, note="copy of the journal inode's i_block and i_size"),
    Field("blocks_count_high", "I", at=0x150),
    Field("reserved_blocks_high", "I", at=0x154),
    Field("free_blocks_high", "I", at=0x158),
    Field("min_extra_isize", "H", at=0x15C, note="bytes that all inodes have"),
    Field("want_extra_isize", "H", at=0x15E, note="bytes that new inodes get"),
    Field("flags", "I", at=0x160, note="EXT2_FLAGS_...: 1 and 2: signed or unsigned hash"),
    Field("raid_stride", "H", at=0x164, note="blocks"),
    Field("mmp_interval", "H", at=0x166, note="s_mmp_update_interval: seconds"),
    Field("mmp_block", "Q", at=0x168, note="of the multiple mount protection"),
    Field("raid_stripe_width", "I", at=0x170, note="blocks"),
    Field("log_groups_per_flex", "B", at=0x174, note="log2"),
    Field("checksum_type", "B", at=0x175, note="1: crc32c"),
    Field("reserved_padding", "2x", at=0x176, note="s_encryption_level and padding"),
    Field("kilobytes_written", "Q", at=0x178),
    Field(
        "snapshot_fields", "20s", at=0x180, note="s_snapshot_inum to s_snapshot_list: never merged"
    ),
    Field("error_fields", "108s", at=0x194, note="s_error_count to s_last_error_func"),
    Field("mount_options", "64s", at=0x200, note="s_mount_opts: text"),
    Field("user_quota_inode", "I", at=0x240),
    Field("group_quota_inode", "I", at=0x244),
    Field("overhead_clusters", "I", at=0x248, note="s_overhead_clusters"),
    Field("backup_groups", "2I", at=0x24C, note="s_backup_bgs: with sparse_super2"),
    Field("encryption_algorithms", "4s", at=0x254, note="s_encrypt_algos"),
    Field("encryption_salt", "16s", at=0x258, note="s_encrypt_pw_salt"),
    Field("lost_found_inode", "I", at=0x268, note="s_lpf_ino"),
    Field("project_quota_inode", "I", at=0x26C),
    Field("checksum_seed", "I", at=0x270, note="crc32c of the UUID at the time of mkfs"),
    Field("time_high_bytes", "8s", at=0x274, note="s_wtime_hi to s_last_error_errcode"),
    Field("encoding", "H", at=0x27C, note="of names that ignore case: 1: UTF-8 12.1"),
    Field("encoding_flags", "H", at=0x27E),
    Field("orphan_file_inode", "I", at=0x280, note="s_orphan_file_inum"),
    Field("reserved", "376x", at=0x284),
    Field("checksum", "I", at=0x3FC, note="crc32c of the bytes before it"),
    size=1024,
    source="Linux fs/ext4/ext4.h struct ext4_super_block",
)

_FLAG_SIGNED_HASH = 0x1
_FLAG_UNSIGNED_HASH = 0x2
_STATE_CLEAN = 0x1
_STATE_ERRORS = 0x2


@dataclass(frozen=True)
class Superblock:
    """What the superblock says of the volume, checked to be consistent in itself."""

    block_size: int
    """Bytes."""
    cluster_size: int
    """Bytes of the unit of allocation: with BIGALLOC several blocks, else one."""
    blocks_count: int
    free_blocks: int
    first_data_block: int
    """Block number where group 0 starts: 1 with blocks of 1 KiB, else 0."""
    blocks_per_group: int
    inodes_count: int
    inodes_per_group: int
    inode_size: int
    """Bytes."""
    first_inode: int
    """Inodes below are reserved; only the root directory (2) has a name among them."""
    descriptor_size: int
    """Bytes of a group descriptor."""
    first_meta_group: int
    """With META_BG, the first block of descriptors that is kept in its own groups."""
    backup_groups: tuple[int, int]
    """With SPARSE_SUPER2, the groups with backup superblocks; 0 for none."""
    block_group: int
    """Group where this copy of the superblock lies."""
    compat: int
    incompat: int
    ro_compat: int
    uuid: bytes
    label: bytes
    hash_seed: bytes
    default_hash_version: int
    """Of the names in directories without a hash tree, where Linux needs one."""
    hash_unsigned: bool | None
    """Hashes of names take their bytes as unsigned; None: as the machine's C did that made them."""
    encoding: int
    """Of names in case-insensitive directories."""
    journal_inode: int
    checksum_seed: int
    """Start of every metadata checksum but the superblock's own."""
    clean: bool
    """Unmounted cleanly and without errors found."""
    errors: bool

    @property
    def fstype(self) -> str:
        """The type as `mount -t` has it."""
        return filesystem_type(self.compat, self.incompat, self.ro_compat)

    @property
    def uuid_text(self) -> str:
        """The UUID as blkid prints it."""
        return str(uuid.UUID(bytes=self.uuid))

    @cached_property
    def groups_count(self) -> int:
        """Number of block groups."""
        return -(-(self.blocks_count - self.first_data_block) // self.blocks_per_group)

    @cached_property
    def metadata_checksums(self) -> bool:
        """Every metadata structure has a CRC-32C."""
        return bool(self.ro_compat & RoCompat.METADATA_CSUM)

    @property
    def size(self) -> int:
        """Bytes of the volume."""
        return self.blocks_count * self.block_size

    def has_incompat(self, feature: Incompat) -> bool:
        """Tell whether an incompatible feature is in use."""
        return bool(self.incompat & feature)

    def group_has_superblock(self, group: int) -> bool:
        """Tell whether a group starts with a copy of the superblock and of the descriptors."""
        if group == 0:
            return True
        if self.compat & Compat.SPARSE_SUPER2:
            return group in self.backup_groups
        if group == 1 or not self.ro_compat & RoCompat.SPARSE_SUPER:
            return True
        return any(_is_power(group, base) for base in (3, 5, 7))


def decode_superblock(data: Buffer, where: int = SUPERBLOCK_OFFSET) -> Superblock:
    """Decode and check the 1024 bytes of a superblock that lies at `where` in its volume.

    Raises NotRecognised if the magic is not there, Corrupt if the checksum is wrong or the numbers
    contradict each other, Unsupported for a feature that cannot be read.
    """
    raw = SUPERBLOCK.parse(data)
    if raw.magic != MAGIC:
        raise NotRecognised("not an ext superblock")
    dynamic = raw.revision > 0
    compat = raw.feature_compat if dynamic else 0
    incompat = raw.feature_incompat if dynamic else 0
    ro_compat = raw.feature_ro_compat if dynamic else 0
    _check_checksum(raw, bytes(data[: SUPERBLOCK.size]), ro_compat, where)
    unknown = unreadable(incompat)
    if unknown:
        raise Unsupported("ext feature " + ", ".join(unknown))

    wide = bool(incompat & Incompat.BITS_64)
    block_size = _block_size(raw, where)
    superblock = Superblock(
        block_size=block_size,
        cluster_size=_cluster_size(raw, where) if ro_compat & RoCompat.BIGALLOC else block_size,
        blocks_count=raw.blocks_count_low | (raw.blocks_count_high << 32 if wide else 0),
        free_blocks=raw.free_blocks_low | (raw.free_blocks_high << 32 if wide else 0),
        first_data_block=raw.first_data_block,
        blocks_per_group=raw.blocks_per_group,
        inodes_count=raw.inodes_count,
        inodes_per_group=raw.inodes_per_group,
        inode_size=raw.inode_size if dynamic else GOOD_OLD_INODE_SIZE,
        first_inode=raw.first_inode if dynamic else GOOD_OLD_FIRST_INODE,
        descriptor_size=raw.descriptor_size if wide else GOOD_OLD_DESCRIPTOR_SIZE,
        first_meta_group=raw.first_meta_group,
        backup_groups=tuple(raw.backup_groups),
        block_group=0 if where == SUPERBLOCK_OFFSET else raw.block_group,
        compat=compat,
        incompat=incompat,
        ro_compat=ro_compat,
        uuid=raw.uuid,
        label=raw.label.split(b"\0")[0],
        hash_seed=raw.hash_seed,
        default_hash_version=raw.default_hash_version,
        hash_unsigned=_hash_unsigned(raw.flags),
        encoding=raw.encoding,
        journal_inode=raw.journal_inode,
        checksum_seed=(
            raw.checksum_seed if incompat & Incompat.CSUM_SEED else crc32c(CRC32C_START, raw.uuid)
        ),
        clean=bool(raw.state & _STATE_CLEAN),
        errors=bool(raw.state & _STATE_ERRORS),
    )
    _check_geometry(superblock, raw, where)
    return superblock


def _check_checksum(raw: Any, data: bytes, ro_compat: int, where: int) -> None:
    if not ro_compat & RoCompat.METADATA_CSUM:
        return
    if raw.checksum_type != CRC32C_TYPE:
        raise Unsupported(f"ext metadata checksum type {raw.checksum_type}")
    computed = crc32c(CRC32C_START, data[: SUPERBLOCK.offset("checksum")])
    if computed != raw.checksum:
        raise Corrupt(Damage.SUPERBLOCK_CHECKSUM, where, expected=computed, actual=raw.checksum)


def _block_size(raw: Any, where: int) -> int:
    if raw.log_block_size > MAX_LOG_BLOCK_SIZE:
        raise Corrupt(
            Damage.SUPERBLOCK_BLOCK_SIZE,
            where + SUPERBLOCK.offset("log_block_size"),
            expected=f"a shift of at most {MAX_LOG_BLOCK_SIZE}",
            actual=raw.log_block_size,
        )
    size: int = 1024 << raw.log_block_size
    return size


def _cluster_size(raw: Any, where: int) -> int:
    if not raw.log_block_size <= raw.log_cluster_size <= MAX_LOG_CLUSTER_SIZE:
        raise Corrupt(
            Damage.SUPERBLOCK_CLUSTER_SIZE,
            where + SUPERBLOCK.offset("log_cluster_size"),
            expected=f"a shift from {raw.log_block_size} to {MAX_LOG_CLUSTER_SIZE}",
            actual=raw.log_cluster_size,
        )
    size: int = 1024 << raw.log_cluster_size
    return size


def _check_geometry(superblock: Superblock, raw: Any, where: int) -> None:
    """Check what all later sums rely on."""

    def require(condition: bool, field: str, expected: str) -> None:
        if not condition:
            raise Corrupt(
                Damage.SUPERBLOCK,
                where + SUPERBLOCK.offset(field),
                of=field,
                expected=expected,
                actual=getattr(raw, field),
            )

    block_size = superblock.block_size
    inode_size = superblock.inode_size
    require(
        GOOD_OLD_INODE_SIZE <= inode_size <= block_size and inode_size & (inode_size - 1) == 0,
        "inode_size",
        f"a power of two from {GOOD_OLD_INODE_SIZE} to {block_size}",
    )
    descriptor_size = superblock.descriptor_size
    require(
        GOOD_OLD_DESCRIPTOR_SIZE <= descriptor_size <= 1024
        and descriptor_size & (descriptor_size - 1) == 0,
        "descriptor_size",
        "a power of two from 32 to 1024",
    )
    cluster_blocks = superblock.cluster_size // block_size
    # One block of bitmap describes a group's clusters, another one its inodes.
    require(
        0 < superblock.blocks_per_group <= 8 * block_size * cluster_blocks,
        "blocks_per_group",
        f"1 to {8 * block_size * cluster_blocks}",
    )
    require(
        0 < superblock.inodes_per_group <= 8 * block_size,
        "inodes_per_group",
        f"1 to {8 * block_size}",
    )
    require(superblock.first_data_block <= 1, "first_data_block", "0 or 1")
    require(
        superblock.first_data_block < superblock.blocks_count,
        "blocks_count_low",
        "more blocks than the first",
    )
    require(
        superblock.inodes_count == superblock.groups_count * superblock.inodes_per_group,
        "inodes_count",
        f"{superblock.groups_count} groups of {superblock.inodes_per_group:#x}",
    )


def _hash_unsigned(flags: int) -> bool | None:
    if not flags & (_FLAG_SIGNED_HASH | _FLAG_UNSIGNED_HASH):
        return None
    return bool(flags & _FLAG_UNSIGNED_HASH)


def _is_power(number: int, base: int) -> bool:
    while number > 1 and number % base == 0:
        number //= base
    return number == 1
