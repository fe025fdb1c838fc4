"""Feature flags of ext2, ext3 and ext4.

Source: Linux kernel documentation, filesystems/ext4 ("Super Block": s_feature_compat,
s_feature_incompat, s_feature_ro_compat).
"""

from __future__ import annotations

from enum import IntFlag


class Compat(IntFlag):
    """Features that a reader or writer may ignore."""

    DIR_PREALLOC = 0x1
    IMAGIC_INODES = 0x2
    HAS_JOURNAL = 0x4
    EXT_ATTR = 0x8
    RESIZE_INODE = 0x10
    DIR_INDEX = 0x20
    SPARSE_SUPER2 = 0x200
    FAST_COMMIT = 0x400
    STABLE_INODES = 0x800
    ORPHAN_FILE = 0x1000


class Incompat(IntFlag):
    """Features without whose knowledge a volume cannot be read."""

    COMPRESSION = 0x1
    FILETYPE = 0x2
    RECOVER = 0x4
    JOURNAL_DEV = 0x8
    META_BG = 0x10
    EXTENTS = 0x40
    BITS_64 = 0x80
    MMP = 0x100
    FLEX_BG = 0x200
    EA_INODE = 0x400
    DIRDATA = 0x1000
    CSUM_SEED = 0x2000
    LARGEDIR = 0x4000
    INLINE_DATA = 0x8000
    ENCRYPT = 0x10000
    CASEFOLD = 0x20000


class RoCompat(IntFlag):
    """Features without whose knowledge a volume can be read, not written."""

    SPARSE_SUPER = 0x1
    LARGE_FILE = 0x2
    BTREE_DIR = 0x4
    HUGE_FILE = 0x8
    GDT_CSUM = 0x10
    DIR_NLINK = 0x20
    EXTRA_ISIZE = 0x40
    QUOTA = 0x100
    BIGALLOC = 0x200
    METADATA_CSUM = 0x400
    READONLY = 0x1000
    PROJECT = 0x2000
    SHARED_BLOCKS = 0x4000
    VERITY = 0x8000
    ORPHAN_PRESENT = 0x10000


READABLE = (
    Incompat.FILETYPE
    | Incompat.RECOVER
    | Incompat.META_BG
    | Incompat.EXTENTS
    | Incompat.BITS_64
    | Incompat.MMP
    | Incompat.FLEX_BG
    | Incompat.EA_INODE
    | Incompat.CSUM_SEED
    | Incompat.LARGEDIR
    | Incompat.INLINE_DATA
    | Incompat.ENCRYPT
    | Incompat.CASEFOLD
)
"""What the modules of this package read; ENCRYPT only as far as files are not encrypted."""

_EXT2_INCOMPAT = Incompat.FILETYPE | Incompat.META_BG
_EXT3_INCOMPAT = _EXT2_INCOMPAT | Incompat.RECOVER
_EXT3_RO_COMPAT = RoCompat.SPARSE_SUPER | RoCompat.LARGE_FILE | RoCompat.BTREE_DIR


def unreadable(incompat: int) -> list[str]:
    """Return the names of the incompatible features that this package does not read."""
    unknown = incompat & ~int(READABLE)
    return [
        Incompat(bit).name or f"incompatible feature {bit:#x}"
        for bit in (1 << shift for shift in range(32))
        if unknown & bit
    ]


def filesystem_type(compat: int, incompat: int, ro_compat: int) -> str:
    """Return "ext2", "ext3" or "ext4", decided as libblkid does: the oldest that has all of the features."""
    journal = compat & Compat.HAS_JOURNAL
    old_ro_compat = not ro_compat & ~int(_EXT3_RO_COMPAT)
    if old_ro_compat and not journal and not incompat & ~int(_EXT2_INCOMPAT):
        return "ext2"
    if old_ro_compat and journal and not incompat & ~int(_EXT3_INCOMPAT):
        return "ext3"
    return "ext4"
