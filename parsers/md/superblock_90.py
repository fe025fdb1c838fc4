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
    Field("magic", "I"),
    Field("major_version", "I"),
    Field("minor_version", "I"),
    Field("patch_version", "I"),
    Field("valid_words", "I"),
    Field("uuid0", "I"),
    Field("created", "I"),
    Field("level", "i"),
    Field("size", "I"),
    Field("disk_count", "I"),
    Field("raid_disks", "I"),
    Field("md_minor", "I"),
    Field("not_persistent", "I"),
    Field("uuid1", "I"),
    Field("uuid2", "I"),
    Field("uuid3", "I"),
    Field("reserved0", "64x"),
    Field("updated", "I"),
    Field("state", "I"),
    Field("active_disks", "I"),
    Field("working_disks", "I"),
    Field("failed_disks", "I"),
    Field("spare_disks", "I"),
    Field("checksum", "I"),
    Field("events", "Q"),
    Field("checkpoint_events", "Q"),
    Field("resync_position", "I"),
    Field("reserved1", "80x"),
    Field("layout", "i"),
    Field("chunk", "I"),
    Field("reserved2", "248x"),
    Field("disks", f"{32 * MAX_DISKS}I"),
    Field("this_disk", "32I"),
)
SUPERBLOCKS = {
    order: Layout("MD superblock 0.90", *_FIELDS, byte_order=order) for order in ("<", ">")
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
