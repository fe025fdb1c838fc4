"""Where the copies of PRIVHEAD are.

On an MBR disk the first is in sector 6 and the database fills the last MiB of the disk; on a GPT disk it
has a partition of its own. The other copies are 1856 sectors into the database and in its last sector.
Source: Linux-NTFS project, "LDM Documentation" (flatcap.github.io/linux-ntfs/ldm).
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from vmount.parsers.errors import NotRecognised
from vmount.parsers.ldm.structures import SECTOR
from vmount.parsers.partition import gpt

if TYPE_CHECKING:
    from vmount.parsers.reader import Reader

DYNAMIC = 0x42
PROTECTIVE = 0xEE
METADATA = uuid.UUID("5808c8aa-7e8f-42e0-85d2-e1e90434cfb3").bytes_le
FIRST_COPY = 6 * SECTOR
DATABASE_SIZE = 2048 * SECTOR
MIDDLE_COPY = 1856 * SECTOR
"""From the start of the database."""

MOST_GPT_ENTRIES = 1024
"""Windows makes 128."""

_GPT_TABLE = gpt.HEADER.picker("signature", "array_lba", "entry_count", "entry_size")
_GPT_ENTRY = gpt.ENTRY.picker("type_guid", "first_lba", "last_lba")


async def privhead_offsets(reader: Reader) -> list[int]:
    """Return the offsets where a PRIVHEAD may be, the best first.

    Raises NotRecognised if the partition table names no dynamic disk, OSError where it cannot be read.
    """
    if reader.size < DATABASE_SIZE:
        raise NotRecognised("too small for an LDM database")
    sector = bytes(await reader.read(0, SECTOR))
    if sector[510:] != b"\x55\xaa":
        raise NotRecognised("no partition table")
    types = {sector[446 + 16 * index + 4] for index in range(4)}
    if PROTECTIVE in types:
        start, size = await _metadata_partition(reader)
    elif DYNAMIC in types:
        size = DATABASE_SIZE
        start = reader.size // SECTOR * SECTOR - size
    else:
        raise NotRecognised("no partition of a dynamic disk")
    offsets = [start + size - SECTOR, start + MIDDLE_COPY]
    if PROTECTIVE not in types:
        offsets.insert(0, FIRST_COPY)
    return [offset for offset in offsets if 0 <= offset <= reader.size - SECTOR]


async def _metadata_partition(reader: Reader) -> tuple[int, int]:
    last = reader.size // SECTOR * SECTOR - SECTOR
    for header_offset in (SECTOR, last):
        header = await reader.read(header_offset, SECTOR)
        magic, table_lba, count, entry_size = _GPT_TABLE.unpack_from(header)
        table = table_lba * SECTOR
        length = count * entry_size
        if magic != b"EFI PART" or not 0 < count <= MOST_GPT_ENTRIES:
            continue
        if not _GPT_ENTRY.size <= entry_size <= SECTOR or table + length > reader.size:
            continue
        entries = await reader.read(table, length)
        for position in range(0, length, entry_size):
            kind, first, final = _GPT_ENTRY.unpack_from(entries, position)
            if kind == METADATA and first <= final and (final + 1) * SECTOR <= reader.size:
                return first * SECTOR, (final + 1 - first) * SECTOR
    raise NotRecognised("no partition with an LDM database")
