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
    Field("magic", "I"),
    Field("major_version", "I"),
    Field("feature_map", "I"),
    Field("padding0", "4x"),
    Field("set_uuid", "16s"),
    Field("set_name", "32s"),
    Field("created", "Q"),
    Field("level", "i"),
    Field("layout", "i"),
    Field("size", "Q"),
    Field("chunk_sectors", "I"),
    Field("raid_disks", "I"),
    Field("bitmap_offset", "i"),
    Field("new_level", "i"),
    Field("reshape_position", "Q"),
    Field("delta_disks", "i"),
    Field("new_layout", "i"),
    Field("new_chunk", "I"),
    Field("new_offset", "i"),
    Field("data_offset", "Q"),
    Field("data_size", "Q"),
    Field("super_offset", "Q"),
    Field("recovery_offset", "Q"),
    Field("device_number", "I"),
    Field("corrected_reads", "I"),
    Field("device_uuid", "16s"),
    Field("device_flags", "B"),
    Field("bad_block_shift", "B"),
    Field("bad_block_log_size", "H"),
    Field("bad_block_log_offset", "i"),
    Field("updated", "Q"),
    Field("events", "Q"),
    Field("resync_offset", "Q"),
    Field("checksum", "I"),
    Field("role_count", "I"),
    Field("padding1", "32x"),
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
