"""MD superblocks of version 1.0, 1.1 and 1.2, which differ in their place only.

Source: Linux kernel, include/uapi/linux/raid/md_p.h, drivers/md/md.c. Little-endian.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, NotRecognised
from vmount.parsers.layout import Field, Layout
from vmount.parsers.md.member import NEVER, SECTOR, MdMember
from vmount.parsers.reader import Span

if TYPE_CHECKING:
    from vmount.parsers.reader import Buffer

MAGIC = 0xA92B4EFC
SIZE = 4096
"""With the roles, at most."""
BAD_BLOCK_LOG_SECTORS = 8
"""MD takes no longer one."""

_BAD_BLOCKS = 0x8
_RECOVERY_OFFSET = 0x2
_RESHAPE_ACTIVE = 0x4
_REPLACEMENT = 0x10
_JOURNAL = 0x200
_RAID0_LAYOUT = 0x1000
_KNOWN_FEATURES = 0x1FFF

SUPERBLOCK = Layout(
    "MD superblock",
    Field("magic", "I", at=0x00, note="0xA92B4EFC"),
    Field("major_version", "I", at=0x04, note="1"),
    Field("feature_map", "I", at=0x08, note="MD_FEATURE_..."),
    Field("padding0", "4x", at=0x0C),
    Field("set_uuid", "16s", at=0x10),
    Field("set_name", "32s", at=0x20),
    Field("created", "Q", at=0x40, note="ctime: seconds in the low 40 bits, then microseconds"),
    Field("level", "i", at=0x48, note="-4: multipath; -1: linear"),
    Field("layout", "i", at=0x4C),
    Field("size", "Q", at=0x50, note="sectors of each device that are used"),
    Field("chunk_sectors", "I", at=0x58, note="chunksize"),
    Field("raid_disks", "I", at=0x5C),
    Field("bitmap_offset", "i", at=0x60, note="sectors from the superblock, signed"),
    Field("new_level", "i", at=0x64),
    Field("reshape_position", "Q", at=0x68, note="sectors of the array"),
    Field("delta_disks", "i", at=0x70),
    Field("new_layout", "i", at=0x74),
    Field("new_chunk", "I", at=0x78, note="sectors"),
    Field("new_offset", "i", at=0x7C, note="sectors"),
    Field("data_offset", "Q", at=0x80, note="sectors"),
    Field("data_size", "Q", at=0x88, note="sectors"),
    Field("super_offset", "Q", at=0x90, note="sectors: where this superblock is"),
    Field(
        "recovery_offset",
        "Q",
        at=0x98,
        note="sectors that are recovered; journal_tail in a journal",
    ),
    Field("device_number", "I", at=0xA0, note="dev_number: index in the roles"),
    Field("corrected_reads", "I", at=0xA4, note="cnt_corrected_read"),
    Field("device_uuid", "16s", at=0xA8),
    Field("device_flags", "B", at=0xB8, note="devflags"),
    Field("bad_block_shift", "B", at=0xB9, note="bblog_shift"),
    Field("bad_block_log_size", "H", at=0xBA, note="bblog_size: sectors"),
    Field("bad_block_log_offset", "i", at=0xBC, note="bblog_offset: sectors from the superblock"),
    Field("updated", "Q", at=0xC0, note="utime"),
    Field("events", "Q", at=0xC8, note="the largest of the array's is current"),
    Field("resync_offset", "Q", at=0xD0, note="sectors in sync; all bits set: all"),
    Field("checksum", "I", at=0xD8, note="sb_csum"),
    Field("role_count", "I", at=0xDC, note="max_dev: roles, of 16 bits each, that follow"),
    Field("padding1", "32x", at=0xE0),
    size=256,
    source="Linux include/uapi/linux/raid/md_p.h struct mdp_superblock_1",
)
MAX_ROLES = (SIZE - SUPERBLOCK.size) // 2


def places(size: int) -> dict[str, int]:
    """Return where a device of that size may have its superblock: by version, in bytes."""
    sectors = size // SECTOR
    found = {"1.2": 8 * SECTOR, "1.1": 0}
    if sectors >= 16:
        found["1.0"] = (sectors - 16) // 8 * 8 * SECTOR
    return found


def decode(data: Buffer, version: str, where: int) -> tuple[MdMember, Span | None]:
    """Decode the superblock at `where`; also return where its log of bad blocks is, if it has one in use.

    Raises NotRecognised, Corrupt.
    """
    raw = SUPERBLOCK.parse(data)
    if raw.magic != MAGIC or raw.major_version != 1:
        raise NotRecognised("not an MD superblock of version 1")
    if raw.super_offset * SECTOR != where:
        raise NotRecognised("an MD superblock of another device")
    if raw.role_count > MAX_ROLES:
        raise Corrupt("MD superblock: number of devices", where, actual=raw.role_count)
    _check_sum(data, raw.role_count, raw.checksum, where)
    roles = struct.unpack_from(f"<{raw.role_count}H", data, SUPERBLOCK.size)
    features = raw.feature_map
    name = raw.set_name.rstrip(b"\0").decode("utf-8", "backslashreplace")
    member = MdMember(
        version,
        format_uuid(raw.set_uuid),
        name.rpartition(":")[2],
        raw.level,
        raw.layout if raw.level or features & _RAID0_LAYOUT else -1,
        raw.chunk_sectors * SECTOR,
        raw.raid_disks,
        raw.size * SECTOR,
        raw.data_offset * SECTOR,
        raw.data_size * SECTOR,
        raw.device_number,
        format_uuid(raw.device_uuid),
        raw.events,
        raw.updated & 0xFFFFFFFFFF,
        roles,
        raw.resync_offset == NEVER,
        not (features & _REPLACEMENT)
        and not (features & _RECOVERY_OFFSET and raw.recovery_offset != NEVER),
        _unsupported(features),
    )
    log = None
    if features & _BAD_BLOCKS and raw.bad_block_log_size:
        if raw.bad_block_log_size > BAD_BLOCK_LOG_SECTORS:
            raise Corrupt("MD superblock: bad block log", where, actual=raw.bad_block_log_size)
        start = where + raw.bad_block_log_offset * SECTOR
        log = Span(start, raw.bad_block_log_size * SECTOR)
    return member, log


def decode_bad_blocks(data: Buffer, shift: int) -> tuple[Span, ...]:
    """Decode the log of bad blocks: ranges of the device, in bytes."""
    found = []
    for (entry,) in struct.iter_unpack("<Q", data):
        if entry == NEVER:
            break
        count = entry & 0x3FF
        if count:
            found.append(Span((entry >> 10 << shift) * SECTOR, (count << shift) * SECTOR))
    return tuple(sorted(found))


def bad_block_shift(data: Buffer) -> int:
    """Return the shift of numbers in the log of bad blocks."""
    shift: int = SUPERBLOCK.picker("bad_block_shift").unpack_from(data)[0]
    if shift > 16:
        raise Corrupt("MD superblock: unit of bad blocks", actual=shift)
    return shift


def format_uuid(raw: bytes) -> str:
    """Return a UUID as mdadm writes it."""
    text = raw.hex()
    return ":".join(text[start : start + 8] for start in range(0, 32, 8))


def _check_sum(data: Buffer, roles: int, expected: int, where: int) -> None:
    size = SUPERBLOCK.size + 2 * roles
    covered = bytearray(data[: size + size % 4])
    # An odd role at the end is added as it is.
    covered[size:] = bytes(size % 4)
    position = SUPERBLOCK.offset("checksum")
    covered[position : position + 4] = bytes(4)
    total = sum(struct.unpack(f"<{len(covered) // 4}I", covered))
    actual = ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF
    if actual != expected:
        raise Corrupt("MD superblock: checksum", where, expected=expected, actual=actual)


def _unsupported(features: int) -> str | None:
    if features & ~_KNOWN_FEATURES:
        return f"MD features {features & ~_KNOWN_FEATURES:#x}"
    if features & _RESHAPE_ACTIVE:
        return "an array during a reshape"
    if features & _JOURNAL:
        return "an array with a write journal"
    return None
