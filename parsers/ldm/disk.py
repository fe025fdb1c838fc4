"""The LDM database on one disk.

Strategy: every structure that has copies is taken from the first copy that is intact; what was wrong with
the others is a warning. A disk whose database is damaged is still a member of its group: the other members
have the same database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from vmount.parsers.errors import Corrupt, NotRecognised, ParseError
from vmount.parsers.ldm.locate import privhead_offsets
from vmount.parsers.ldm.structures import (
    SECTOR,
    VMDB,
    ConfigArea,
    DatabaseHeader,
    PrivateHeader,
    parse_privhead,
    parse_tocblock,
    parse_vmdb,
)
from vmount.parsers.ldm.vblk import (
    ComponentRecord,
    DiskRecord,
    Fragments,
    PartitionRecord,
    Record,
    VolumeRecord,
    parse_record,
)
from vmount.parsers.reader import Reader, Span

T = TypeVar("T", VolumeRecord, ComponentRecord, PartitionRecord, DiskRecord)

READ_AT_ONCE = 64 * 1024
"""Bytes of records; those in use are mostly at the front of 740 KiB."""

MOST_DAMAGE = 64
"""Records that may be damaged before the whole database counts as such."""


@dataclass(frozen=True)
class Database:
    """The records that are in force, by object id."""

    header: DatabaseHeader
    volumes: dict[int, VolumeRecord]
    components: dict[int, ComponentRecord]
    partitions: dict[int, PartitionRecord]
    disks: dict[int, DiskRecord]
    damage: tuple[str, ...]
    """What could not be decoded, one sentence each."""

    @property
    def complete(self) -> bool:
        """Whether there are as many records as the header says."""
        header = self.header
        return (
            len(self.volumes) == header.volumes
            and len(self.components) == header.components
            and len(self.partitions) == header.partitions
            and len(self.disks) == header.disks
        )


@dataclass(frozen=True)
class LdmDisk:
    """A member of a disk group."""

    header: PrivateHeader
    size: int
    """Of the disk, in bytes."""
    database: Database | None
    """None if no part of it can be used; `warnings` says why."""
    warnings: tuple[str, ...]


async def read_ldm_disk(reader: Reader) -> LdmDisk:
    """Read the LDM database of a disk.

    Raises NotRecognised if this is no dynamic disk, Corrupt or Unsupported if it is one and no copy of
    its PRIVHEAD can be used, OSError where the disk cannot be read.
    """
    warnings: list[str] = []
    header = await _read_privhead(reader, warnings)
    database = None
    try:
        config = await _read_toc(reader, header, warnings)
        database = await _read_database(reader, header, config)
    except ParseError as error:
        warnings.append(f"the LDM database is unusable: {error}")
    return LdmDisk(header, reader.size, database, tuple(warnings))


async def _read_privhead(reader: Reader, warnings: list[str]) -> PrivateHeader:
    first: ParseError | None = None
    for offset in await privhead_offsets(reader):
        try:
            header = parse_privhead(await reader.read(offset, SECTOR))
            _verify_places(header, reader.size)
        except ParseError as error:
            first = first or error
            warnings.append(f"PRIVHEAD at {offset:#x}: {error}")
            continue
        return header
    if first is None or isinstance(first, NotRecognised):
        raise Corrupt("a dynamic disk without a copy of PRIVHEAD")
    raise first


def _verify_places(header: PrivateHeader, size: int) -> None:
    """Raise Corrupt if the data or the database is not on the disk."""
    database_end = header.database_start + header.database_size
    if database_end > size:
        raise Corrupt(
            "LDM database beyond the end of the disk",
            header.database_start,
            expected=size,
            actual=database_end,
        )
    if header.data_start + header.data_size > size:
        raise Corrupt(
            "data of a dynamic disk beyond its end",
            header.data_start,
            expected=size,
            actual=header.data_start + header.data_size,
        )


async def _read_toc(reader: Reader, header: PrivateHeader, warnings: list[str]) -> ConfigArea:
    sectors = header.database_size // SECTOR
    offsets = [
        header.database_start + sector * SECTOR for sector in (1, 2, sectors - 3, sectors - 2)
    ]
    reader.prefetch([Span(offset, SECTOR) for offset in offsets])
    found: list[ConfigArea] = []
    first: ParseError | None = None
    for offset in offsets:
        try:
            found.append(parse_tocblock(await reader.read(offset, SECTOR), header.database_size))
        except ParseError as error:
            first = first or error
            warnings.append(f"TOCBLOCK at {offset:#x}: {error}")
    if not found:
        assert first is not None
        raise first
    return max(found, key=lambda config: config.sequence)


async def _read_database(reader: Reader, header: PrivateHeader, config: ConfigArea) -> Database:
    start = header.database_start + config.start
    vmdb = parse_vmdb(await reader.read(start, max(SECTOR, VMDB.size)), config.size)
    if vmdb.group_guid != header.group_guid:
        raise Corrupt(
            "group of the VMDB", start, expected=header.group_guid, actual=vmdb.group_guid
        )
    collected = _Collector(vmdb)
    first = start + vmdb.vblk_offset
    end = first + vmdb.vblk_count * vmdb.vblk_size
    step = READ_AT_ONCE // vmdb.vblk_size * vmdb.vblk_size
    for offset in range(first, end, step):
        data = memoryview(await reader.read(offset, min(step, end - offset)))
        for position in range(0, len(data), vmdb.vblk_size):
            collected.add(data[position : position + vmdb.vblk_size], offset + position)
        if collected.finished:
            break
    return collected.database()


class _Collector:
    """Sorts the records of a database."""

    def __init__(self, header: DatabaseHeader) -> None:
        self._header = header
        self._fragments = Fragments()
        self._volumes: dict[int, VolumeRecord] = {}
        self._components: dict[int, ComponentRecord] = {}
        self._partitions: dict[int, PartitionRecord] = {}
        self._disks: dict[int, DiskRecord] = {}
        self._ambiguous: set[int] = set()
        self._damage: list[str] = []

    @property
    def finished(self) -> bool:
        """Whether no more records are to come: only said of a database without a change under way."""
        return (
            self._header.consistent
            and not self._damage
            and not self._fragments.unfinished
            and self.database().complete
        )

    def add(self, vblk: memoryview, offset: int) -> None:
        """Take the VBLK at an offset of the disk.

        Raises Corrupt when too many have been damaged.
        """
        try:
            data = self._fragments.add(vblk)
            record = None if data is None else parse_record(data)
            if record is not None:
                self._keep(record)
        except ParseError as error:
            self._damage.append(f"VBLK at {offset:#x}: {error}")
            if len(self._damage) > MOST_DAMAGE:
                raise Corrupt("most records of the LDM database are damaged", offset) from error

    def database(self) -> Database:
        """Return what has been collected."""
        return Database(
            self._header,
            self._volumes,
            self._components,
            self._partitions,
            self._disks,
            tuple(self._damage),
        )

    def _keep(self, record: Record) -> None:
        match record:
            case VolumeRecord():
                self._insert(self._volumes, record)
            case ComponentRecord():
                self._insert(self._components, record)
            case PartitionRecord():
                self._insert(self._partitions, record)
            case DiskRecord():
                self._insert(self._disks, record)

    def _insert(self, records: dict[int, T], record: T) -> None:
        """Keep a record. Of two with one id neither is kept: which one is right cannot be known."""
        if record.id in self._ambiguous or records.pop(record.id, record) != record:
            self._ambiguous.add(record.id)
            raise Corrupt(f"two records of the LDM database have the id {record.id:#x}")
        records[record.id] = record
