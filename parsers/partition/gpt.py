"""The GUID partition table. Source: UEFI Specification 2.10, chapter 5."""

from __future__ import annotations

import uuid
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, NotRecognised, OutOfBounds, ParseError
from vmount.parsers.layout import Field, Layout
from vmount.parsers.partition.model import Partition, PartitionTable, checked
from vmount.parsers.partition.type_names import gpt_type_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vmount.parsers.reader import Buffer, Reader

SECTOR_SIZES = (512, 4096)
"""Logical sector sizes that disks have; the header tells it by where it is."""

MAX_ARRAY_BYTES = 1 << 20
"""The partition array that is read: 64 times the 16 KiB that every known tool makes."""

MIN_ENTRY_SIZE = 128
HEADER = Layout(
    "GPT header",
    Field("signature", "8s", at=0x00, note="EFI PART"),
    Field("revision", "I", at=0x08, note="1.0 in halves of 16 bits"),
    Field("header_size", "I", at=0x0C, note="bytes that header_crc covers"),
    Field("header_crc", "I", at=0x10, note="HeaderCRC32: with this field 0"),
    Field("reserved", "4x", at=0x14),
    Field("my_lba", "Q", at=0x18, note="of this header"),
    Field("alternate_lba", "Q", at=0x20, note="of the other one"),
    Field("first_usable_lba", "Q", at=0x28),
    Field("last_usable_lba", "Q", at=0x30),
    Field("disk_guid", "16s", at=0x38),
    Field("array_lba", "Q", at=0x48, note="PartitionEntryLBA"),
    Field("entry_count", "I", at=0x50, note="NumberOfPartitionEntries"),
    Field("entry_size", "I", at=0x54, note="SizeOfPartitionEntry: bytes"),
    Field("array_crc", "I", at=0x58, note="PartitionEntryArrayCRC32"),
    size=92,
    source="UEFI 2.10, 5.3.2 (GPT Header)",
)
ENTRY = Layout(
    "GPT partition entry",
    Field("type_guid", "16s", at=0x00, note="all zero: the entry is free"),
    Field("guid", "16s", at=0x10, note="UniquePartitionGUID"),
    Field("first_lba", "Q", at=0x20),
    Field("last_lba", "Q", at=0x28, note="EndingLBA: inclusive"),
    Field("attributes", "Q", at=0x30),
    Field("name", "72s", at=0x38, note="36 UTF-16 code units"),
    size=128,
    source="UEFI 2.10, 5.3.3 (GPT Partition Entry Array)",
)
SIGNATURE = b"EFI PART"
LEGACY_BIOS_BOOTABLE = 1 << 2
_UNUSED = bytes(16)
_PICK_ENTRY = ENTRY.picker("type_guid", "guid", "first_lba", "last_lba", "attributes", "name")


@dataclass(frozen=True, slots=True)
class Header:
    """A header whose checksum is right. Positions in sectors."""

    alternate_lba: int
    """Where the other header is."""
    disk_guid: str
    array_lba: int
    entry_count: int
    entry_size: int
    """Bytes of an entry, of which the first 128 are known."""
    array_crc: int

    @property
    def array_bytes(self) -> int:
        """Bytes of the partition array."""
        return self.entry_count * self.entry_size


def decode_header(sector: Buffer, lba: int) -> Header:
    """Decode the header in one sector.

    `lba` is where it was read from: a header that says it is elsewhere is a stray copy.
    Raises NotRecognised if there is no header, Corrupt if it is damaged.
    """
    where = lba * len(sector)
    raw = HEADER.parse(sector)
    if raw.signature != SIGNATURE:
        raise NotRecognised(f"not a GPT header at {where:#x}")
    if not HEADER.size <= raw.header_size <= len(sector):
        raise Corrupt(
            "GPT header size",
            where,
            expected=f"{HEADER.size} to {len(sector)} bytes",
            actual=raw.header_size,
        )
    covered = bytearray(sector[: raw.header_size])
    crc_at = HEADER.offset("header_crc")
    covered[crc_at : crc_at + 4] = bytes(4)
    if (actual := zlib.crc32(covered)) != raw.header_crc:
        raise Corrupt("GPT header checksum", where, expected=raw.header_crc, actual=actual)
    if raw.my_lba != lba:
        raise Corrupt("GPT header's own position", where, expected=lba, actual=raw.my_lba)
    if raw.entry_size < MIN_ENTRY_SIZE or raw.entry_size % 8:
        raise Corrupt(
            "GPT entry size", where, expected="a multiple of 8, at least 128", actual=raw.entry_size
        )
    if raw.entry_count * raw.entry_size > MAX_ARRAY_BYTES:
        raise Corrupt(
            "GPT array size",
            where,
            expected=f"at most {MAX_ARRAY_BYTES} bytes",
            actual=raw.entry_count * raw.entry_size,
        )
    return Header(
        alternate_lba=raw.alternate_lba,
        disk_guid=_guid(raw.disk_guid),
        array_lba=raw.array_lba,
        entry_count=raw.entry_count,
        entry_size=raw.entry_size,
        array_crc=raw.array_crc,
    )


def decode_entries(array: Buffer, entry_size: int, sector_size: int) -> list[Partition]:
    """Decode the used entries of a partition array."""
    partitions = []
    for index, position in enumerate(range(0, len(array), entry_size)):
        kind, guid, first, last, attributes, name = _PICK_ENTRY.unpack_from(array, position)
        if kind == _UNUSED:
            continue
        partitions.append(
            Partition(
                number=index + 1,
                offset=first * sector_size,
                length=max(0, last + 1 - first) * sector_size,
                type=_guid(kind),
                type_name=gpt_type_name(_guid(kind)),
                name=name.decode("utf-16-le", "replace").partition("\0")[0],
                guid=_guid(guid),
                bootable=bool(attributes & LEGACY_BIOS_BOOTABLE),
                problem=None,
            )
        )
    return partitions


async def read_gpt(reader: Reader, protective_sectors: int = 0) -> PartitionTable:
    """Read a disk's GPT: the primary one, or the backup if the primary is damaged.

    `protective_sectors` is the length of the protective MBR's entry, 0 if not known. It finds the
    backup on a disk that has grown.
    Raises NotRecognised if there is no header, Corrupt if no copy can be used.
    """
    try:
        return await read_primary(reader)
    except NotRecognised as nothing:
        return await _read_backup(reader, protective_sectors, nothing)
    except Corrupt as damage:
        return await _read_backup(reader, protective_sectors, damage)


async def read_primary(reader: Reader) -> PartitionTable:
    """Read the GPT at the start of a disk.

    Raises NotRecognised if there is no header, Corrupt if it or its array is damaged.
    """
    damage: Corrupt | None = None
    for sector_size in SECTOR_SIZES:
        try:
            header = await _header(reader, 1, sector_size)
            warnings = _size_warnings(header, sector_size, reader.size)
            return await _table(reader, header, sector_size, warnings)
        except NotRecognised:
            continue
        except Corrupt as found:
            damage = damage or found
    raise damage or NotRecognised("not a GPT header")


async def _read_backup(
    reader: Reader, protective_sectors: int, primary: ParseError
) -> PartitionTable:
    warning = f"the primary GPT is unusable ({primary}); its backup is used"
    damages = [] if isinstance(primary, NotRecognised) else [str(primary)]
    for sector_size in SECTOR_SIZES:
        for lba in {reader.size // sector_size - 1, protective_sectors}:
            try:
                header = await _header(reader, lba, sector_size)
                return await _table(reader, header, sector_size, [warning])
            except NotRecognised:
                continue
            except Corrupt as damage:
                damages.append(str(damage))
    if damages:
        raise Corrupt("no copy of the GPT is usable: " + "; ".join(damages))
    raise NotRecognised("not a GPT header") from primary


async def _header(reader: Reader, lba: int, sector_size: int) -> Header:
    if lba < 1 or (lba + 1) * sector_size > reader.size:
        raise NotRecognised(f"the disk has no sector {lba}")
    return decode_header(await reader.read(lba * sector_size, sector_size), lba)


async def _table(
    reader: Reader, header: Header, sector_size: int, warnings: Iterable[str]
) -> PartitionTable:
    where = header.array_lba * sector_size
    if where + header.array_bytes > reader.size:
        raise OutOfBounds(where, header.array_bytes, reader.size)
    array = await reader.read(where, header.array_bytes)
    if (actual := zlib.crc32(array)) != header.array_crc:
        raise Corrupt("GPT array checksum", where, expected=header.array_crc, actual=actual)
    return PartitionTable(
        scheme="gpt",
        sector_size=sector_size,
        disk_id=header.disk_guid,
        partitions=checked(decode_entries(array, header.entry_size, sector_size), reader.size),
        warnings=tuple(warnings),
    )


def _size_warnings(header: Header, sector_size: int, disk_size: int) -> list[str]:
    """Compare where the backup header should be with where the disk ends."""
    expected = (header.alternate_lba + 1) * sector_size
    if expected > disk_size:
        return [f"the disk is {expected - disk_size} bytes shorter than its GPT says"]
    if expected + sector_size <= disk_size:
        return [f"the disk is {disk_size - expected} bytes longer than its GPT says"]
    return []


def _guid(raw: bytes) -> str:
    return str(uuid.UUID(bytes_le=raw))
