"""The structures at fixed places of an LDM database. All numbers are big-endian.

Source: Linux-NTFS project, "LDM Documentation" (flatcap.github.io/linux-ntfs/ldm), "Technical". That the
field at 8 of PRIVHEAD and TOCBLOCK is the sum of the other bytes was found on disks that Windows wrote.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, NotRecognised, Unsupported
from vmount.parsers.layout import Field, Layout

if TYPE_CHECKING:
    from vmount.parsers.reader import Buffer

SECTOR = 512
"""Bytes in the sectors that LDM counts."""

CHECKSUM = slice(8, 12)

PRIVHEAD = Layout(
    "PRIVHEAD",
    Field("magic", "8s", at=0x00, note="PRIVHEAD"),
    Field(
        "checksum", "I", at=0x08, note="sum of the other bytes; found on disks that Windows wrote"
    ),
    Field("major", "H", at=0x0C, note="2"),
    Field("minor", "H", at=0x0E, note="11, 12: Vista and later"),
    Field("written", "Q", at=0x10, note="FILETIME: 100 ns since 1601"),
    Field("unknown", "24x", at=0x18, note="meaning unconfirmed"),
    Field("disk_guid", "64s", at=0x30, note="text, as the other GUIDs"),
    Field("host_guid", "64s", at=0x70),
    Field("group_guid", "64s", at=0xB0),
    Field("group_name", "32s", at=0xF0),
    Field("unknown_2", "11x", at=0x110, note="meaning unconfirmed"),
    Field(
        "data_start", "Q", at=0x11B, note="logical disk start, in sectors, as all places and sizes"
    ),
    Field("data_size", "Q", at=0x123),
    Field("database_start", "Q", at=0x12B, note="config start"),
    Field("database_size", "Q", at=0x133, note="config size"),
    Field("toc_count", "Q", at=0x13B, note="number of TOCBLOCKs"),
    Field("toc_size", "Q", at=0x143),
    Field("config_count", "I", at=0x14B, note="meaning of the last four fields unconfirmed"),
    Field("log_count", "I", at=0x14F),
    Field("config_size", "Q", at=0x153),
    Field("log_size", "Q", at=0x15B),
    byte_order=">",
    size=355,
    source="Linux-LDM documentation (reverse engineered), PRIVHEAD; Linux block/partitions/ldm.c",
)

TOCBLOCK = Layout(
    "TOCBLOCK",
    Field("magic", "8s", at=0x00, note="TOCBLOCK"),
    Field(
        "checksum", "I", at=0x08, note="sum of the other bytes; found on disks that Windows wrote"
    ),
    Field("unknown", "4x", at=0x0C, note="meaning unconfirmed"),
    Field("sequence", "I", at=0x10, note="update sequence; a guess"),
    Field("unknown_2", "16x", at=0x14, note="meaning unconfirmed"),
    Field("name_1", "8s", at=0x24, note="bitmap1_name: config"),
    Field("flags_1", "H", at=0x2C, note="meaning unconfirmed"),
    Field("start_1", "Q", at=0x2E, note="sectors from the database's start"),
    Field("size_1", "Q", at=0x36, note="sectors"),
    Field("more_flags_1", "Q", at=0x3E, note="meaning unconfirmed"),
    Field("name_2", "8s", at=0x46, note="bitmap2_name: log"),
    Field("flags_2", "H", at=0x4E, note="meaning unconfirmed"),
    Field("start_2", "Q", at=0x50),
    Field("size_2", "Q", at=0x58),
    Field("more_flags_2", "Q", at=0x60, note="meaning unconfirmed"),
    byte_order=">",
    size=104,
    source="Linux-LDM documentation (reverse engineered), TOCBLOCK; Linux block/partitions/ldm.c",
)

VMDB = Layout(
    "VMDB",
    Field("magic", "4s", at=0x00, note="VMDB"),
    Field("vblk_count", "I", at=0x04, note="places for VBLKs, those that are free too"),
    Field("vblk_size", "I", at=0x08, note="bytes"),
    Field("vblk_offset", "I", at=0x0C, note="bytes from here to the first VBLK"),
    Field("update_status", "H", at=0x10, note="1: consistent"),
    Field("major", "H", at=0x12),
    Field("minor", "H", at=0x14),
    Field("group_name", "31s", at=0x16),
    Field("group_guid", "64s", at=0x35),
    Field("committed_sequence", "Q", at=0x75),
    Field("pending_sequence", "Q", at=0x7D),
    Field("committed_volumes", "I", at=0x85, note="number of them, as the seven others"),
    Field("committed_components", "I", at=0x89),
    Field("committed_partitions", "I", at=0x8D),
    Field("committed_disks", "I", at=0x91),
    Field("unknown", "12x", at=0x95, note="meaning unconfirmed"),
    Field("pending_volumes", "I", at=0xA1),
    Field("pending_components", "I", at=0xA5),
    Field("pending_partitions", "I", at=0xA9),
    Field("pending_disks", "I", at=0xAD),
    Field("unknown_2", "12x", at=0xB1, note="meaning unconfirmed"),
    Field("written", "Q", at=0xBD, note="FILETIME: 100 ns since 1601"),
    byte_order=">",
    size=197,
    source="Linux-LDM documentation (reverse engineered), VMDB; Linux block/partitions/ldm.c",
)

LARGEST_DATABASE = 16 << 20
"""Bytes. Windows makes it 1 MiB."""
LARGEST_VBLK = 4096
"""Bytes. Windows makes them 128."""
SMALLEST_VBLK = 32
"""Bytes. The header of a record and its first fragment are 24."""
CONSISTENT = 1
"""`update_status` of a database in which no change is under way."""


@dataclass(frozen=True)
class PrivateHeader:
    """What a PRIVHEAD says of its disk. Offsets and sizes are in bytes from the start of the disk."""

    disk_guid: str
    group_guid: str
    group_name: str
    data_start: int
    data_size: int
    database_start: int
    database_size: int


@dataclass(frozen=True)
class ConfigArea:
    """What a TOCBLOCK says of the configuration. In bytes from the start of the database."""

    sequence: int
    start: int
    size: int


@dataclass(frozen=True)
class DatabaseHeader:
    """What a VMDB says of the records behind it."""

    group_guid: str
    group_name: str
    sequence: int
    """Of the last change that was committed."""
    consistent: bool
    vblk_size: int
    vblk_offset: int
    """From the start of the VMDB, in bytes."""
    vblk_count: int
    volumes: int
    components: int
    partitions: int
    disks: int


def parse_privhead(data: Buffer) -> PrivateHeader:
    """Decode a sector with a PRIVHEAD.

    Raises NotRecognised without its magic, Corrupt for a wrong checksum or absurd places, Unsupported for
    another version than 2.
    """
    header = PRIVHEAD.parse(data)
    if header.magic != b"PRIVHEAD":
        raise NotRecognised("no PRIVHEAD")
    _verify_checksum("PRIVHEAD", data, header.checksum)
    if header.major != 2:
        raise Unsupported(f"LDM version {header.major}.{header.minor}")
    size = header.database_size * SECTOR
    if not 4 * SECTOR <= size <= LARGEST_DATABASE:
        raise Corrupt("LDM database size", PRIVHEAD.offset("database_size"), actual=size)
    return PrivateHeader(
        text(header.disk_guid).lower(),
        text(header.group_guid).lower(),
        text(header.group_name),
        header.data_start * SECTOR,
        header.data_size * SECTOR,
        header.database_start * SECTOR,
        size,
    )


def parse_tocblock(data: Buffer, database_size: int) -> ConfigArea:
    """Decode a sector with a TOCBLOCK.

    Raises NotRecognised without its magic, Corrupt for a wrong checksum or a configuration outside the
    database.
    """
    toc = TOCBLOCK.parse(data)
    if toc.magic != b"TOCBLOCK":
        raise NotRecognised("no TOCBLOCK")
    _verify_checksum("TOCBLOCK", data, toc.checksum)
    areas = {
        text(toc.name_1): (toc.start_1 * SECTOR, toc.size_1 * SECTOR),
        text(toc.name_2): (toc.start_2 * SECTOR, toc.size_2 * SECTOR),
    }
    if "config" not in areas:
        raise Corrupt("TOCBLOCK without a configuration", TOCBLOCK.offset("name_1"))
    start, size = areas["config"]
    if size < SECTOR or start + size > database_size:
        raise Corrupt(
            "configuration outside the LDM database",
            TOCBLOCK.offset("start_1"),
            expected=database_size,
            actual=start + size,
        )
    return ConfigArea(toc.sequence, start, size)


def parse_vmdb(data: Buffer, size: int) -> DatabaseHeader:
    """Decode a VMDB; `size` is that of the configuration that it begins.

    Raises Corrupt where it is none, or its records cannot be there.
    """
    vmdb = VMDB.parse(data)
    if vmdb.magic != b"VMDB":
        raise Corrupt("VMDB signature", 0, expected=b"VMDB", actual=vmdb.magic)
    if vmdb.major != 4:
        raise Unsupported(f"LDM database version {vmdb.major}.{vmdb.minor}")
    if not SMALLEST_VBLK <= vmdb.vblk_size <= LARGEST_VBLK:
        raise Corrupt("VBLK size", VMDB.offset("vblk_size"), actual=vmdb.vblk_size)
    offset = vmdb.vblk_offset
    if not VMDB.size <= offset <= size or offset % vmdb.vblk_size:
        raise Corrupt("offset of the first VBLK", VMDB.offset("vblk_offset"), actual=offset)
    # The count includes the places that the VMDB itself takes.
    count = min(vmdb.vblk_count, size // vmdb.vblk_size) - offset // vmdb.vblk_size
    return DatabaseHeader(
        text(vmdb.group_guid).lower(),
        text(vmdb.group_name),
        vmdb.committed_sequence,
        vmdb.update_status == CONSISTENT and vmdb.committed_sequence == vmdb.pending_sequence,
        vmdb.vblk_size,
        offset,
        max(count, 0),
        vmdb.committed_volumes,
        vmdb.committed_components,
        vmdb.committed_partitions,
        vmdb.committed_disks,
    )


def text(field: bytes) -> str:
    """Return the text of a field that zeros fill up."""
    return field.split(b"\0", 1)[0].decode(errors="backslashreplace")


def checksum(data: Buffer) -> int:
    """Return the sum of the bytes of a PRIVHEAD or TOCBLOCK without its own field."""
    sector = bytes(data[:SECTOR])
    return sum(sector) - sum(sector[CHECKSUM])


def _verify_checksum(name: str, data: Buffer, stored: int) -> None:
    actual = checksum(data)
    if stored != actual:
        raise Corrupt(f"{name} checksum", CHECKSUM.start, expected=stored, actual=actual)
