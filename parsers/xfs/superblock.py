"""The superblock of XFS, versions 4 and 5. Its numbers are big-endian.

Source: "XFS Algorithms & Data Structures", "Superblocks".
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vmount.parsers.errors import Corrupt, NotRecognised, Unsupported
from vmount.parsers.layout import Field, Layout
from vmount.parsers.reader import Buffer
from vmount.parsers.xfs.checksum import check_crc
from vmount.parsers.xfs.errors import Damage
from vmount.parsers.xfs.features import VERSION_MASK, Features2, Incompat, VersionFlag, unreadable

MAGIC = 0x58465342
MAX_SECTOR = 32 << 10
"""Bytes: the largest sector, which is what the superblock's checksum covers."""
MAX_DIRECTORY_BLOCK = 64 << 10
MAX_INODE_BITS = 48
"""Of the numbers that the rest of the program can hold: inodes of 512 bytes in 128 PiB."""

SUPERBLOCK = Layout(
    "XFS superblock",
    Field("magic", "I", at=0x00, note="XFSB"),
    Field("block_size", "I", at=0x04, note="bytes"),
    Field("blocks_count", "Q", at=0x08, note="sb_dblocks"),
    Field("realtime_blocks", "Q", at=0x10, note="sb_rblocks"),
    Field("realtime_extents", "Q", at=0x18, note="sb_rextents"),
    Field("uuid", "16s", at=0x20),
    Field("log_start", "Q", at=0x30, note="block; 0: the log is on another device"),
    Field("root_inode", "Q", at=0x38, note="sb_rootino"),
    Field("realtime_bitmap_inode", "Q", at=0x40, note="sb_rbmino"),
    Field("realtime_summary_inode", "Q", at=0x48, note="sb_rsumino"),
    Field("realtime_extent_size", "I", at=0x50, note="sb_rextsize: blocks"),
    Field("group_blocks", "I", at=0x54, note="sb_agblocks: of an allocation group"),
    Field("groups_count", "I", at=0x58, note="sb_agcount"),
    Field("realtime_bitmap_blocks", "I", at=0x5C, note="sb_rbmblocks"),
    Field("log_blocks", "I", at=0x60, note="sb_logblocks"),
    Field("version", "H", at=0x64, note="sb_versionnum: version in the low 4 bits, then features"),
    Field("sector_size", "H", at=0x66, note="sb_sectsize: bytes"),
    Field("inode_size", "H", at=0x68),
    Field("inodes_per_block", "H", at=0x6A, note="sb_inopblock"),
    Field("label", "12s", at=0x6C, note="sb_fname"),
    Field("block_log", "B", at=0x78, note="log2 of block_size"),
    Field("sector_log", "B", at=0x79),
    Field("inode_log", "B", at=0x7A),
    Field("inodes_per_block_log", "B", at=0x7B, note="sb_inopblog"),
    Field("group_blocks_log", "B", at=0x7C, note="sb_agblklog: rounded up"),
    Field("realtime_extents_log", "B", at=0x7D, note="sb_rextslog"),
    Field("in_progress", "B", at=0x7E, note="mkfs has not finished"),
    Field("inode_percentage", "B", at=0x7F, note="sb_imax_pct: of space that inodes may take"),
    Field("inodes_count", "Q", at=0x80, note="sb_icount: allocated"),
    Field("free_inodes", "Q", at=0x88, note="sb_ifree"),
    Field("free_blocks", "Q", at=0x90, note="sb_fdblocks"),
    Field("free_realtime_extents", "Q", at=0x98, note="sb_frextents"),
    Field("user_quota_inode", "Q", at=0xA0, note="sb_uquotino"),
    Field("group_quota_inode", "Q", at=0xA8, note="sb_gquotino"),
    Field("quota_flags", "H", at=0xB0, note="sb_qflags"),
    Field("flags", "B", at=0xB2),
    Field("shared_version", "B", at=0xB3, note="sb_shared_vn: 0"),
    Field("inode_alignment", "I", at=0xB4, note="sb_inoalignmt: blocks"),
    Field("stripe_unit", "I", at=0xB8, note="sb_unit: blocks"),
    Field("stripe_width", "I", at=0xBC, note="sb_width: blocks"),
    Field(
        "directory_block_log",
        "B",
        at=0xC0,
        note="sb_dirblklog: log2 of blocks in a directory block",
    ),
    Field("log_sector_log", "B", at=0xC1, note="sb_logsectlog"),
    Field("log_sector_size", "H", at=0xC2, note="sb_logsectsize: bytes"),
    Field("log_stripe_unit", "I", at=0xC4, note="sb_logsunit: bytes"),
    Field("features2", "I", at=0xC8),
    Field("bad_features2", "I", at=0xCC, note="copy of features2 at an older place"),
    Field("feature_compat", "I", at=0xD0, note="sb_features_compat: from here on version 5 only"),
    Field("feature_ro_compat", "I", at=0xD4),
    Field("feature_incompat", "I", at=0xD8),
    Field("feature_log_incompat", "I", at=0xDC),
    Field("checksum", "I", at=0xE0, note="sb_crc: little-endian"),
    Field("sparse_inode_alignment", "I", at=0xE4, note="sb_spino_align"),
    Field("project_quota_inode", "Q", at=0xE8, note="sb_pquotino"),
    Field("lsn", "Q", at=0xF0, note="of the last change in the log"),
    Field(
        "metadata_uuid",
        "16s",
        at=0xF8,
        note="sb_meta_uuid: that metadata bears, where uuid was changed",
    ),
    byte_order=">",
    size=264,
    source="Linux fs/xfs/libxfs/xfs_format.h struct xfs_dsb",
)
"""From `features2` on, a field means something only if the version says so."""


@dataclass(frozen=True)
class Superblock:
    """What the superblock says of the volume, checked to be consistent in itself."""

    block_size: int
    """Bytes."""
    sector_size: int
    """Bytes."""
    inode_size: int
    """Bytes."""
    directory_block_size: int
    """Bytes: one block of the file system or several."""
    blocks_count: int
    free_blocks: int
    group_blocks: int
    """Blocks in every allocation group but the last, which may be shorter."""
    groups_count: int
    group_blocks_log: int
    """Bits of a block number in its group, the lower part of a block's number."""
    inodes_per_block_log: int
    """Bits of an inode's index in its block, the lowest part of its number."""
    root_inode: int
    log_start: int
    """Block where the log is; 0: on another device."""
    log_blocks: int
    realtime_blocks: int
    version: int
    """4 or 5. From 5 on, metadata has checksums and knows its place."""
    incompat: int
    file_types: bool
    """Directories' entries have the type of the file."""
    ascii_ci: bool
    """Names that differ in the case of ASCII letters only have the same hash."""
    uuid: bytes
    metadata_uuid: bytes
    """What metadata has for the UUID, which the administrator can change."""
    label: bytes
    in_progress: bool
    """mkfs has not finished, or a copy of the volume."""

    @property
    def uuid_text(self) -> str:
        """The UUID as blkid prints it."""
        return str(uuid.UUID(bytes=self.uuid))

    @property
    def size(self) -> int:
        """Bytes of the volume."""
        return self.blocks_count * self.block_size

    @cached_property
    def checksums(self) -> bool:
        """Metadata has checksums and describes itself."""
        return self.version >= 5

    @cached_property
    def inode_bits(self) -> int:
        """Bits of an inode's number in its group."""
        return self.group_blocks_log + self.inodes_per_block_log

    def has_incompat(self, feature: Incompat) -> bool:
        """Tell whether an incompatible feature is in use."""
        return bool(self.incompat & feature)

    def blocks_in_group(self, group: int) -> int:
        """Return the number of blocks in an allocation group."""
        return min(self.group_blocks, self.blocks_count - group * self.group_blocks)


def decode_superblock(data: Buffer, *, checksum: bool = True) -> Superblock:
    """Decode and check a superblock: all of its sector, or as much of the volume's start as holds it.

    Without `checksum` that is not checked: a superblock out of the log has none of its own.
    Raises NotRecognised if the magic is not there, Corrupt if the checksum is wrong or the numbers
    contradict each other, Unsupported for a feature or version that cannot be read.
    """
    if len(data) < SUPERBLOCK.size:
        raise NotRecognised("not an XFS superblock")
    raw = SUPERBLOCK.parse(data)
    if raw.magic != MAGIC:
        raise NotRecognised("not an XFS superblock")
    version = raw.version & VERSION_MASK
    if version not in (4, 5):
        raise Unsupported(f"XFS version {version}")
    if version == 5:
        _require_power(raw, "sector_size", 512, MAX_SECTOR)
        if len(data) < raw.sector_size:
            raise Corrupt(Damage.SUPERBLOCK_CUT_OFF, 0, expected=raw.sector_size, actual=len(data))
        if checksum:
            at = SUPERBLOCK.offset("checksum")
            check_crc(bytes(data[: raw.sector_size]), at, "superblock", 0)
        unknown = unreadable(raw.feature_incompat)
        if unknown:
            raise Unsupported("XFS feature " + ", ".join(unknown))
    _check_version_flags(raw, version)
    _check_geometry(raw)
    return _superblock(raw, version)


def _superblock(raw: Any, version: int) -> Superblock:
    newest = version >= 5
    incompat = raw.feature_incompat if newest else 0
    features2 = raw.features2 if raw.version & VersionFlag.MORE else 0
    return Superblock(
        block_size=raw.block_size,
        sector_size=raw.sector_size,
        inode_size=raw.inode_size,
        directory_block_size=raw.block_size << raw.directory_block_log,
        blocks_count=raw.blocks_count,
        free_blocks=raw.free_blocks,
        group_blocks=raw.group_blocks,
        groups_count=raw.groups_count,
        group_blocks_log=raw.group_blocks_log,
        inodes_per_block_log=raw.inodes_per_block_log,
        root_inode=raw.root_inode,
        log_start=raw.log_start,
        log_blocks=raw.log_blocks,
        realtime_blocks=raw.realtime_blocks,
        version=version,
        incompat=incompat,
        file_types=bool(incompat & Incompat.FTYPE if newest else features2 & Features2.FTYPE),
        ascii_ci=bool(raw.version & VersionFlag.ASCII_CI),
        uuid=raw.uuid,
        metadata_uuid=raw.metadata_uuid if incompat & Incompat.META_UUID else raw.uuid,
        label=raw.label.split(b"\0")[0],
        in_progress=bool(raw.in_progress),
    )


def _check_version_flags(raw: Any, version: int) -> None:
    if raw.version & VersionFlag.SHARED:
        raise Unsupported("XFS feature shared read-only volumes")
    if version == 4 and not raw.version & VersionFlag.DIRECTORIES_V2:
        raise Unsupported("XFS directories of version 1")


def _check_geometry(raw: Any) -> None:
    """Check what all later sums rely on."""
    _require_power(raw, "sector_size", 512, MAX_SECTOR)
    _require_power(raw, "block_size", 512, 64 << 10)
    _require_power(raw, "inode_size", 256, min(2048, raw.block_size))
    _require(raw, "block_log", 1 << raw.block_log == raw.block_size, "the block size's logarithm")
    per_block = raw.block_size // raw.inode_size
    _require(raw, "inodes_per_block", raw.inodes_per_block == per_block, f"{per_block:#x}")
    _require(
        raw,
        "inodes_per_block_log",
        1 << raw.inodes_per_block_log == per_block,
        "its logarithm",
    )
    _require(
        raw,
        "directory_block_log",
        raw.block_size << min(raw.directory_block_log, 8) <= MAX_DIRECTORY_BLOCK,
        "directory blocks of 64 KiB at most",
    )
    _require(raw, "group_blocks", raw.group_blocks > 0, "some")
    fitting = (raw.group_blocks - 1).bit_length()
    _require(
        raw,
        "group_blocks_log",
        raw.group_blocks_log == fitting,
        f"{fitting} bits for {raw.group_blocks:#x} blocks",
    )
    _require(
        raw,
        "groups_count",
        raw.groups_count > 0
        and (raw.groups_count - 1) * raw.group_blocks
        < raw.blocks_count
        <= raw.groups_count * raw.group_blocks,
        f"as many as for {raw.blocks_count:#x} blocks",
    )
    bits = raw.group_blocks_log + raw.inodes_per_block_log
    if (raw.groups_count << bits).bit_length() > MAX_INODE_BITS:
        raise Unsupported(f"an XFS volume whose inodes have numbers of over {MAX_INODE_BITS} bits")


def _require_power(raw: Any, field: str, least: int, most: int) -> None:
    value = getattr(raw, field)
    _require(
        raw,
        field,
        least <= value <= most and value & (value - 1) == 0,
        f"a power of two from {least} to {most}",
    )


def _require(raw: Any, field: str, condition: bool, expected: str) -> None:
    if not condition:
        raise Corrupt(
            Damage.SUPERBLOCK,
            SUPERBLOCK.offset(field),
            of=field,
            expected=expected,
            actual=getattr(raw, field),
        )
