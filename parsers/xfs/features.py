"""Feature flags of XFS.

Source: "XFS Algorithms & Data Structures", "Superblocks" (sb_versionnum, sb_features2,
sb_features_incompat).
"""

from __future__ import annotations

from enum import IntFlag


class VersionFlag(IntFlag):
    """Features beside the version's number, in versions 4 and 5."""

    SHARED = 0x200
    LOG_V2 = 0x400
    DIRECTORIES_V2 = 0x2000
    ASCII_CI = 0x4000
    MORE = 0x8000


VERSION_MASK = 0xF


class Features2(IntFlag):
    """Further features of version 4."""

    PROJID32 = 0x80
    CRC = 0x100
    FTYPE = 0x200


class Incompat(IntFlag):
    """Features of version 5 without whose knowledge a volume cannot be read."""

    FTYPE = 0x1
    SPINODES = 0x2
    META_UUID = 0x4
    BIGTIME = 0x8
    NEEDSREPAIR = 0x10
    NREXT64 = 0x20
    EXCHRANGE = 0x40
    PARENT = 0x80
    METADIR = 0x100
    ZONED = 0x200
    ZONE_GAPS = 0x400


READABLE = (
    Incompat.FTYPE
    | Incompat.SPINODES
    | Incompat.META_UUID
    | Incompat.BIGTIME
    | Incompat.NEEDSREPAIR
    | Incompat.NREXT64
    | Incompat.EXCHRANGE
    | Incompat.PARENT
)
"""What the modules of this package read."""


def unreadable(incompat: int) -> list[str]:
    """Return the names of the incompatible features that this package does not read."""
    unknown = incompat & ~int(READABLE)
    return [
        Incompat(bit).name or f"incompatible feature {bit:#x}"
        for bit in (1 << shift for shift in range(32))
        if unknown & bit
    ]
