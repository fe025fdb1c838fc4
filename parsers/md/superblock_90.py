"""MD superblocks of version 0.90: 32-bit words in the byte order of the machine that made the array.

Source: Linux kernel, include/uapi/linux/raid/md_p.h, drivers/md/md.c.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, NotRecognised
from vmount.parsers.layout import Field, Layout
from vmount.parsers.md.member import FAULTY, SPARE, MdMember

if TYPE_CHECKING:
    from vmount.parsers.reader import Buffer

MAGIC = 0xA92B4EFC
SIZE = 4096
RESERVED = 65536
"""Bytes at the end of a device: the superblock is at their start."""
MAX_DISKS = 27

_FIELDS = (
    Field("magic", "I", at=0x00, note="md_magic: 0xA92B4EFC, in the byte order of the machine"),
    Field("major_version", "I", at=0x04),
    Field("minor_version", "I", at=0x08),
    Field("patch_version", "I", at=0x0C),
    Field("valid_words", "I", at=0x10, note="gvalid_words"),
    Field("uuid0", "I", at=0x14, note="set_uuid0"),
    Field("created", "I", at=0x18, note="ctime: seconds since 1970"),
    Field("level", "i", at=0x1C),
    Field("size", "I", at=0x20, note="KiB of each device that are used"),
    Field("disk_count", "I", at=0x24, note="nr_disks"),
    Field("raid_disks", "I", at=0x28),
    Field("md_minor", "I", at=0x2C),
    Field("not_persistent", "I", at=0x30),
    Field("uuid1", "I", at=0x34),
    Field("uuid2", "I", at=0x38),
    Field("uuid3", "I", at=0x3C),
    Field("reserved0", "64x", at=0x40),
    Field("updated", "I", at=0x80, note="utime: seconds since 1970"),
    Field("state", "I", at=0x84, note="1: clean"),
    Field("active_disks", "I", at=0x88),
    Field("working_disks", "I", at=0x8C),
    Field("failed_disks", "I", at=0x90),
    Field("spare_disks", "I", at=0x94),
    Field("checksum", "I", at=0x98, note="sb_csum"),
    Field("events", "Q", at=0x9C, note="events_lo and events_hi"),
    Field("checkpoint_events", "Q", at=0xA4, note="cp_events_lo and cp_events_hi"),
    Field("resync_position", "I", at=0xAC, note="recovery_cp: sectors"),
    Field("reserved1", "80x", at=0xB0, note="reshape_position to gstate_sreserved"),
    Field("layout", "i", at=0x100),
    Field("chunk", "I", at=0x104, note="chunk_size: bytes"),
    Field("reserved2", "248x", at=0x108, note="root_pv to pstate_reserved"),
    Field(
        "disks",
        f"{32 * MAX_DISKS}I",
        at=0x200,
        note="27 of mdp_disk_t, 32 words each: number, major, minor, raid_disk, state",
    ),
    Field("this_disk", "32I", at=0xF80, note="mdp_disk_t"),
)
SUPERBLOCKS = {
    order: Layout(
        "MD superblock 0.90",
        *_FIELDS,
        byte_order=order,
        size=SIZE,
        source="Linux include/uapi/linux/raid/md_p.h mdp_super_t",
    )
    for order in ("<", ">")
}

_CLEAN = 1
_DISK_FAULTY, _DISK_ACTIVE, _DISK_SYNC = 1, 2, 4
_MD_LEVEL_RAID0 = 0


def place(size: int) -> int | None:
    """Return where a device of that size has its superblock, in bytes."""
    start = size // RESERVED * RESERVED - RESERVED
    return start if start >= 0 else None


def decode(data: Buffer, where: int) -> MdMember:
    """Decode the superblock at `where`. Raises NotRecognised, Corrupt."""
    order = next((order for order in "<>" if struct.unpack_from(f"{order}I", data)[0] == MAGIC), "")
    if not order:
        raise NotRecognised("not an MD superblock of version 0.90")
    raw = SUPERBLOCKS[order].parse(data)
    if raw.major_version != 0 or raw.minor_version not in (90, 91):
        raise NotRecognised("not an MD superblock of version 0.90")
    words = list(struct.unpack(f"{order}{SIZE // 4}I", data))
    words[SUPERBLOCKS[order].offset("checksum") // 4] = 0
    total = sum(words)
    actual = ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF
    if actual != raw.checksum:
        raise Corrupt("MD superblock: checksum", where, expected=raw.checksum, actual=actual)
    roles = tuple(_role(raw.disks[32 * number : 32 * number + 32]) for number in range(MAX_DISKS))
    number = raw.this_disk[0]
    parts = (raw.uuid0, raw.uuid1, raw.uuid2, raw.uuid3)
    uuid = b"".join(part.to_bytes(4, "big") for part in parts).hex(":", 4)
    unsupported = None
    if raw.minor_version == 91:
        unsupported = "an array during a reshape"
    return MdMember(
        "0.90",
        uuid,
        str(raw.md_minor),
        raw.level,
        -1 if raw.level == _MD_LEVEL_RAID0 else raw.layout,
        raw.chunk,
        raw.raid_disks,
        raw.size * 1024,
        0,
        where,
        number,
        f"{uuid}/{number}",
        raw.events,
        raw.updated,
        roles,
        bool(raw.state & _CLEAN),
        True,
        unsupported,
    )


def _role(disk: list[int]) -> int:
    _, _, _, raid_disk, state = disk[:5]
    if state & _DISK_FAULTY:
        return FAULTY
    if state & _DISK_ACTIVE and state & _DISK_SYNC:
        return raid_disk
    return SPARE
