"""The master boot record and its chain of extended boot records.

The layout is that of MS-DOS 3.3. Which number a partition gets, and which entries count, follows
what Linux does, because that is what /dev/sda5 means in a guest's fstab.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.partition.model import Partition, PartitionTable, checked
from vmount.parsers.partition.type_names import mbr_type_name

if TYPE_CHECKING:
    from vmount.parsers.reader import Buffer, Reader

SIZE = 512
"""Bytes of a boot record; it has the start of its sector where sectors are larger."""

ENTRY_COUNT = 4
PROTECTIVE = 0xEE
EXTENDED = frozenset({0x05, 0x0F, 0x85})

MAX_NUMBER = 255
"""Linux gives a disk 256 minor numbers, so no guest has seen a partition beyond this."""

MAX_RECORDS = 1024
"""Extended boot records followed on a disk: four for every number that can be given, as a record
may be left empty when its partition is deleted."""

ENTRY = Layout(
    "MBR partition entry",
    Field("boot", "B", at=0x00, note="BootIndicator: 0x80: active"),
    Field("chs_first", "3x", at=0x01),
    Field("type", "B", at=0x04, note="OSType"),
    Field("chs_last", "3x", at=0x05),
    Field(
        "first_lba",
        "I",
        at=0x08,
        note="StartingLBA: in a logical one from its own table or the extended partition",
    ),
    Field("sectors", "I", at=0x0C, note="SizeInLBA"),
    size=16,
    source="UEFI 2.10, 5.2.1 (Legacy MBR Partition Record)",
)
BOOT_RECORD = Layout(
    "boot record",
    Field("code", "440x", at=0x00),
    Field(
        "disk_signature", "I", at=0x1B8, note="UniqueMBRDiskSignature: Windows knows the disk by it"
    ),
    Field("reserved", "2x", at=0x1BC),
    Field("entries", f"{ENTRY_COUNT * ENTRY.size}s", at=0x1BE, note="four ENTRY"),
    Field("magic", "H", at=0x1FE, note="0xAA55"),
    size=512,
    source="UEFI 2.10, 5.2.1 (Legacy MBR)",
)
MAGIC = 0xAA55
_PICK_ENTRY = ENTRY.picker("boot", "type", "first_lba", "sectors")


class PartitionEntry(NamedTuple):
    """A partition entry; positions in sectors, relative to what its record says."""

    boot: int
    type: int
    first_lba: int
    sectors: int

    @property
    def used(self) -> bool:
        """Linux takes any entry with a length for a partition, whatever its type."""
        return self.sectors != 0

    @property
    def extended(self) -> bool:
        """It holds logical partitions."""
        return self.used and self.type in EXTENDED


@dataclass(frozen=True, slots=True)
class BootRecord:
    """A master or an extended boot record."""

    disk_signature: int
    entries: tuple[PartitionEntry, ...]

    @property
    def used(self) -> tuple[PartitionEntry, ...]:
        """The entries that say something."""
        return tuple(entry for entry in self.entries if entry.used)

    @property
    def protective(self) -> bool:
        """The disk has a GPT: an entry of type 0xEE starts at sector 1."""
        return any(e.type == PROTECTIVE and e.first_lba == 1 for e in self.used)

    @property
    def flags_valid(self) -> bool:
        """Every boot indicator is one that exists; code or text in its place rarely passes."""
        return all(entry.boot in (0x00, 0x80) for entry in self.entries)

    def well_formed(self, disk_sectors: int) -> bool:
        """Whether nothing but a partition table could look like this.

        There is a partition, all of them lie on the disk and behind its first sector, none overlap.
        """
        reached = 1
        for entry in sorted(self.used, key=lambda each: each.first_lba):
            if entry.type == 0 or entry.first_lba < reached:
                return False
            reached = entry.first_lba + entry.sectors
        return self.flags_valid and 1 < reached <= disk_sectors


def decode_boot_record(sector: Buffer) -> BootRecord | None:
    """Decode a boot record; None if the 0x55AA at its end is missing."""
    record = BOOT_RECORD.parse(sector)
    if record.magic != MAGIC:
        return None
    entries = tuple(PartitionEntry(*fields) for fields in _PICK_ENTRY.iter_unpack(record.entries))
    return BootRecord(record.disk_signature, entries)


async def read_mbr_partitions(
    reader: Reader, record: BootRecord, sector_size: int
) -> PartitionTable:
    """Follow the boot record of a disk to all of its partitions.

    A damaged chain of logical partitions costs those behind the damage, and gives a warning.
    """
    partitions: list[Partition] = []
    warnings: list[str] = []
    walk = _LogicalWalk(reader, sector_size, warnings)
    for number, entry in enumerate(record.entries, 1):
        if entry.extended:
            partitions += await walk.follow(entry)
        elif entry.used:
            partitions.append(_partition(number, entry, 0, sector_size))
    return PartitionTable(
        scheme="mbr",
        sector_size=sector_size,
        disk_id=f"{record.disk_signature:08x}",
        partitions=checked(partitions, reader.size),
        warnings=tuple(warnings),
        incomplete=warnings[0] if warnings else None,
    )


class _LogicalWalk:
    """Numbers the logical partitions of a disk; some disks have more than one extended partition."""

    def __init__(self, reader: Reader, sector_size: int, warnings: list[str]) -> None:
        self._reader = reader
        self._sector_size = sector_size
        self._warnings = warnings
        self._number = ENTRY_COUNT
        self._visited = {0}
        """Sectors of the records read: the MBR, to begin with."""

    async def follow(self, extended: PartitionEntry) -> list[Partition]:
        """Return the logical partitions of one extended partition."""
        found: list[Partition] = []
        try:
            await self._chain(extended, found)
        except Corrupt as damage:
            self._warnings.append(f"the list of logical partitions is damaged: {damage}")
        return found

    async def _chain(self, extended: PartitionEntry, found: list[Partition]) -> None:
        record_lba, sectors = extended.first_lba, extended.sectors
        while True:
            record = await self._record(record_lba)
            for index, entry in enumerate(record.entries):
                if not entry.used or entry.extended:
                    continue
                # The last two entries are unused by most tools; Linux believes them only in bounds.
                if index >= 2 and not _inside(entry, record_lba, sectors, extended):
                    continue
                if self._number == MAX_NUMBER:
                    raise Corrupt("more logical partitions than Linux can number")
                self._number += 1
                found.append(_partition(self._number, entry, record_lba, self._sector_size))
            link = next((entry for entry in record.entries if entry.extended), None)
            if link is None:
                return
            record_lba, sectors = extended.first_lba + link.first_lba, link.sectors

    async def _record(self, lba: int) -> BootRecord:
        offset = lba * self._sector_size
        if lba in self._visited:
            raise Corrupt("chain of extended boot records has a cycle", offset)
        if len(self._visited) == MAX_RECORDS:
            raise Corrupt("chain of extended boot records is too long", offset)
        self._visited.add(lba)
        record = decode_boot_record(await self._reader.read(offset, SIZE))
        if record is None:
            raise Corrupt("extended boot record without 0x55AA", offset)
        return record


def _inside(entry: PartitionEntry, record_lba: int, sectors: int, extended: PartitionEntry) -> bool:
    start = record_lba + entry.first_lba
    return (
        entry.first_lba + entry.sectors <= sectors
        and start >= extended.first_lba
        and start + entry.sectors <= extended.first_lba + extended.sectors
    )


def _partition(number: int, entry: PartitionEntry, base_lba: int, sector_size: int) -> Partition:
    return Partition(
        number=number,
        offset=(base_lba + entry.first_lba) * sector_size,
        length=entry.sectors * sector_size,
        type=f"0x{entry.type:02x}",
        type_name=mbr_type_name(entry.type),
        name="",
        guid=None,
        bootable=entry.boot == 0x80,
        problem=None,
    )
