"""Find a disk's partition table, of whichever kind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, NotRecognised
from vmount.parsers.partition import gpt, mbr
from vmount.parsers.partition.model import Partition, PartitionTable
from vmount.parsers.reader import Span
from vmount.parsers.signatures import identify, identify_boot_sector

if TYPE_CHECKING:
    from vmount.parsers.reader import Buffer, Reader

__all__ = ["Partition", "PartitionTable", "read_partition_table"]

_HEAD = 6 * 4096
"""MBR, GPT header and an array of 128 entries, with sectors of 512 or 4096 bytes."""


async def read_partition_table(reader: Reader, *, sector_size: int = mbr.SIZE) -> PartitionTable:
    """Read the partition table of a whole disk.

    `sector_size` is the unit, in bytes, in which an MBR counts, which it does not say; a GPT tells its own.
    A partition that cannot be right is listed with its `problem`, a table read in spite of damage has
    `warnings`.
    Raises NotRecognised if the disk has no partition table: it is empty, or one file system or
    member of a volume group fills it. Raises Corrupt if it has one of which no copy can be used.
    """
    if reader.size < mbr.SIZE:
        raise NotRecognised("too small for a partition table")
    reader.prefetch([Span(0, min(_HEAD, reader.size))])
    sector = await reader.read(0, mbr.SIZE)
    record = mbr.decode_boot_record(sector)
    if record is None:
        return await _gpt_without_mbr(reader)
    if record.protective:
        return await _gpt_behind_mbr(reader, record)
    await _refuse_file_system(reader, sector, record, sector_size)
    return await mbr.read_mbr_partitions(reader, record, sector_size)


async def _gpt_without_mbr(reader: Reader) -> PartitionTable:
    """Take a whole primary GPT even where sector 0 was overwritten.

    Linux would want the protective MBR. A backup alone does not count: nothing that is written to a
    disk later need touch it.
    """
    try:
        table = await gpt.read_primary(reader)
    except Corrupt as damage:
        raise NotRecognised(f"no MBR, and a damaged GPT: {damage}") from damage
    return replace(table, warnings=(*table.warnings, "the protective MBR is missing"))


async def _gpt_behind_mbr(reader: Reader, record: mbr.BootRecord) -> PartitionTable:
    sectors = next(entry.sectors for entry in record.used if entry.type == mbr.PROTECTIVE)
    try:
        table = await gpt.read_gpt(reader, protective_sectors=sectors)
    except NotRecognised as nothing:
        raise Corrupt("the MBR announces a GPT, but the disk has none") from nothing
    if len(record.used) > 1:
        ignored = len(record.used) - 1
        hybrid = (
            f"hybrid MBR: the GPT is used, and the MBR's own {ignored} partition(s) are ignored"
        )
        table = replace(table, warnings=(*table.warnings, hybrid))
    return table


async def _refuse_file_system(
    reader: Reader, sector: Buffer, record: mbr.BootRecord, sector_size: int
) -> None:
    """Raise NotRecognised if the 0x55AA belongs to something else than a partition table.

    The boot sectors of FAT, exFAT and NTFS end with it, and boot code installed in front of an ext
    file system does. Where code or text is, four well-formed entries do not appear by chance; on the
    other hand a disk that was partitioned after it was formatted keeps the old boot sector's fields.
    """
    if record.well_formed(reader.size // sector_size):
        return
    found = identify_boot_sector(sector)
    if found is None and not (record.used and record.flags_valid):
        found = await identify(reader)
    if found is not None:
        raise NotRecognised(f"no partition table: the whole disk is {found.name}")
    if not record.flags_valid:
        raise NotRecognised("no partition table: 0x55AA belongs to another structure")
