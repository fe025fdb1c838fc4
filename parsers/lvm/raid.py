"""The superblock that dm-raid keeps in each image's metadata volume, and which images it tells to trust.

Source: Linux kernel, drivers/md/dm-raid.c. Little-endian.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.layout import Field, Layout
from vmount.parsers.volume_map import ParityLayout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.reader import Buffer

SUPERBLOCK_SIZE = 512
NEVER = 0xFFFFFFFFFFFFFFFF
"""As a position of recovery or resynchronisation: there is none, all is done."""
_MAGIC = 0x64526D44  # "DmRd"
_HAS_V190 = 1
_RESHAPE_ACTIVE = 1

SUPERBLOCK = Layout(
    "dm-raid superblock",
    Field("magic", "I", at=0x00, note="0x64526D44"),
    Field("compat_features", "I", at=0x04, note="1: the fields from flags on are valid"),
    Field("num_devices", "I", at=0x08, note="of the array"),
    Field("array_position", "I", at=0x0C, note="of this device"),
    Field("events", "Q", at=0x10, note="the largest of the array's is current"),
    Field("failed_devices", "Q", at=0x18, note="a bit for each device"),
    Field("disk_recovery_offset", "Q", at=0x20, note="sectors that are in sync on this device"),
    Field("array_resync_offset", "Q", at=0x28, note="sectors that are in sync in the array"),
    Field("level", "i", at=0x30),
    Field("layout", "i", at=0x34),
    Field("stripe_sectors", "i", at=0x38),
    Field("flags", "I", at=0x3C, note="1: a reshape is going on; 2: backwards"),
    Field("array_sectors", "Q", at=0x40, note="sectors of the array"),
    Field("reshape_position", "Q", at=0x48),
    Field("new_level", "i", at=0x50),
    Field("delta_disks", "i", at=0x54),
    Field("new_layout", "i", at=0x58),
    Field("new_stripe_sectors", "i", at=0x5C),
    Field("data_offset", "Q", at=0x60, note="sectors, as new_data_offset and sectors"),
    Field("new_data_offset", "Q", at=0x68),
    Field("sectors", "Q", at=0x70),
    Field("extended_failed_devices", "3Q", at=0x78, note="of more than 64 devices"),
    Field("incompat_features", "I", at=0x90),
    size=148,
    source="Linux drivers/md/dm-raid.c struct dm_raid_superblock",
)

PARITY_LAYOUTS: dict[str, tuple[ParityLayout, int]] = {
    # Unlike MD's own level 4, dm-raid's has its parity first.
    "raid4": (ParityLayout.PARITY_FIRST, 1),
    "raid5_n": (ParityLayout.PARITY_LAST, 1),
    "raid5": (ParityLayout.LEFT_SYMMETRIC, 1),
    "raid5_ls": (ParityLayout.LEFT_SYMMETRIC, 1),
    "raid5_la": (ParityLayout.LEFT_ASYMMETRIC, 1),
    "raid5_rs": (ParityLayout.RIGHT_SYMMETRIC, 1),
    "raid5_ra": (ParityLayout.RIGHT_ASYMMETRIC, 1),
    "raid6": (ParityLayout.ROTATING_ZERO_RESTART, 2),
    "raid6_zr": (ParityLayout.ROTATING_ZERO_RESTART, 2),
    "raid6_nr": (ParityLayout.ROTATING_N_RESTART, 2),
    "raid6_nc": (ParityLayout.ROTATING_N_CONTINUE, 2),
    "raid6_n_6": (ParityLayout.PARITY_LAST, 2),
    "raid6_ls_6": (ParityLayout.LEFT_SYMMETRIC_6, 2),
    "raid6_la_6": (ParityLayout.LEFT_ASYMMETRIC_6, 2),
    "raid6_rs_6": (ParityLayout.RIGHT_SYMMETRIC_6, 2),
    "raid6_ra_6": (ParityLayout.RIGHT_ASYMMETRIC_6, 2),
}
"""By segment type: the layout (lvmraid(7)) and the number of parities."""


@dataclass(frozen=True, slots=True)
class RaidSuperblock:
    """What one image's metadata says of the array."""

    position: int
    """Of this image in the array."""
    events: int
    failed: int
    """Bit n: image n has failed."""
    recovered: bool
    """This image has all that it should have."""
    in_sync: bool
    """Redundancy was computed for all of the array."""
    data_offset: int
    """Bytes from the image's start to its data."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Which images of an array hold what they should."""

    stale: frozenset[int]
    in_sync: bool
    data_offsets: tuple[int, ...]


def decode_superblock(data: Buffer) -> RaidSuperblock | None:
    """Decode an image's superblock; None where the kernel has not written one yet.

    Raises Unsupported for an array during a reshape.
    """
    raw = SUPERBLOCK.parse(data)
    if raw.magic != _MAGIC:
        if any(data[: SUPERBLOCK.size]):
            raise Corrupt("dm-raid superblock: magic", 0, expected=_MAGIC, actual=raw.magic)
        return None
    failed = raw.failed_devices
    data_offset = 0
    if raw.incompat_features:
        raise Unsupported(f"dm-raid features {raw.incompat_features:#x}")
    if raw.compat_features & _HAS_V190:
        if raw.flags & _RESHAPE_ACTIVE or raw.delta_disks:
            raise Unsupported("a RAID volume during a reshape")
        for number, bits in enumerate(raw.extended_failed_devices):
            failed |= bits << 64 * (number + 1)
        data_offset = raw.data_offset * 512
    return RaidSuperblock(
        raw.array_position,
        raw.events,
        failed,
        raw.disk_recovery_offset == NEVER,
        raw.array_resync_offset == NEVER,
        data_offset,
    )


def judge(superblocks: Sequence[RaidSuperblock | None]) -> Trust:
    """Compare the superblocks of an array's images, in order; None is an absent one.

    An image is stale if the freshest superblock calls it failed, if its rebuild was not finished, or if
    it missed more than one change (a crash between two writes explains one, as MD has it).
    """
    present = [superblock for superblock in superblocks if superblock is not None]
    offsets = tuple(0 if block is None else block.data_offset for block in superblocks)
    if not present:
        return Trust(frozenset(), False, offsets)
    freshest = max(present, key=lambda superblock: superblock.events)
    stale = {
        index
        for index, superblock in enumerate(superblocks)
        if superblock is None
        or superblock.position != index
        or freshest.failed >> index & 1
        or not superblock.recovered
        or superblock.events + 1 < freshest.events
    }
    return Trust(frozenset(stale), freshest.in_sync, offsets)
