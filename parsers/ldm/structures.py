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
    Field("magic", "8s"),
    Field("checksum", "I"),
    Field("major", "H"),
    Field("minor", "H"),
    Field("written", "Q"),
    Field("unknown", "24x"),
    Field("disk_guid", "64s"),
    Field("host_guid", "64s"),
    Field("group_guid", "64s"),
    Field("group_name", "32s"),
    Field("unknown_2", "11x"),
    Field("data_start", "Q"),
    Field("data_size", "Q"),
    Field("database_start", "Q"),
    Field("database_size", "Q"),
    Field("toc_count", "Q"),
    Field("toc_size", "Q"),
    Field("config_count", "I"),
    Field("log_count", "I"),
    Field("config_size", "Q"),
    Field("log_size", "Q"),
    byte_order=">",
)

TOCBLOCK = Layout(
    "TOCBLOCK",
    Field("magic", "8s"),
    Field("checksum", "I"),
    Field("unknown", "4x"),
    Field("sequence", "I"),
    Field("unknown_2", "16x"),
    Field("name_1", "8s"),
    Field("flags_1", "H"),
    Field("start_1", "Q"),
    Field("size_1", "Q"),
    Field("more_flags_1", "Q"),
    Field("name_2", "8s"),
    Field("flags_2", "H"),
    Field("start_2", "Q"),
    Field("size_2", "Q"),
    Field("more_flags_2", "Q"),
    byte_order=">",
)

VMDB = Layout(
    "VMDB",
    Field("magic", "4s"),
    Field("vblk_count", "I"),
    Field("vblk_size", "I"),
    Field("vblk_offset", "I"),
    Field("update_status", "H"),
    Field("major", "H"),
    Field("minor", "H"),
    Field("group_name", "31s"),
    Field("group_guid", "64s"),
    Field("committed_sequence", "Q"),
    Field("pending_sequence", "Q"),
    Field("committed_volumes", "I"),
    Field("committed_components", "I"),
    Field("committed_partitions", "I"),
    Field("committed_disks", "I"),
    Field("unknown", "12x"),
    Field("pending_volumes", "I"),
    Field("pending_components", "I"),
    Field("pending_partitions", "I"),
    Field("pending_disks", "I"),
    Field("unknown_2", "12x"),
    Field("written", "Q"),
    byte_order=">",
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
