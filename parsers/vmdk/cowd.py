"""Sparse extents of ESX (magic COWD): the deltas of vmfsSparse snapshots.

Source: VMware, "Virtual Disk Format 5.0", section "ESXi Host Sparse Extents".
"""

from __future__ import annotations

from dataclasses import dataclass

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.layout import Field, Layout
from vmount.parsers.reader import Buffer
from vmount.parsers.vmdk.descriptor import SECTOR
from vmount.parsers.vmdk.grains import (
    UNALLOCATED,
    GrainExtent,
    GrainGeometry,
    check_capacity,
    check_directory,
    check_grain_size,
)
from vmount.parsers.vmdk.tablefile import TableFile

MAGIC = b"COWD"

TABLE_ENTRIES = 4096
"""Entries in a grain table, by the specification."""

MAX_GRAIN = 1 << 11
"""Sectors, 1 MiB: ESX writes grains of one sector."""

HEADER_SECTORS = 4
"""The header's length."""

HEADER = Layout(
    "COWDisk_Header",
    Field("magic", "4s", at=0x00, note="COWD"),
    Field("version", "I", at=0x04),
    Field("flags", "I", at=0x08, note="3"),
    Field("capacity", "I", at=0x0C, note="numSectors"),
    Field("grain_size", "I", at=0x10, note="sectors"),
    Field("directory", "I", at=0x14, note="gdOffset: sectors"),
    Field("directory_entries", "I", at=0x18, note="numGDEntries"),
    Field("free_sector", "I", at=0x1C, note="freeSector: behind the last grain"),
    Field(
        "parent_name", "1024s", at=0x20, note="parentFileName; a base disk has its geometry here"
    ),
    Field("parent_generation", "I", at=0x420, note="0 in a base disk"),
    Field("generation", "I", at=0x424),
    Field("name", "60s", at=0x428),
    Field("description", "512s", at=0x464),
    Field("saved_generation", "I", at=0x664),
    Field("reserved", "8x", at=0x668),
    Field("unclean", "I", at=0x670, note="uncleanShutdown"),
    Field("padding", "396x", at=0x674),
    size=2048,
    source="VMware Virtual Disk Format 5.0 technote, ESX Server Sparse Extent (COWDisk_Header)",
)


@dataclass(frozen=True)
class CowdHeader:
    """An ESX sparse extent's header. Offsets and sizes are in sectors."""

    capacity: int
    grain_size: int
    directory: int
    directory_entries: int


def parse_header(raw: Buffer) -> CowdHeader:
    """Decode a header.

    Raises Corrupt if it is cut off, Unsupported for a version that is not the specification's.
    """
    fields = HEADER.parse(raw)
    if fields.magic != MAGIC:
        raise Corrupt("magic of an ESX sparse extent", 0, expected=MAGIC, actual=fields.magic)
    # Workstation 3 wrote version 3 under the same magic, with tables of another size.
    if fields.version != 1:
        raise Unsupported(f"COWD extent of version {fields.version}")
    return CowdHeader(
        fields.capacity, fields.grain_size, fields.directory, fields.directory_entries
    )


class CowdExtent(GrainExtent):
    """An ESX sparse extent."""

    def __init__(self, file: TableFile, header: CowdHeader, sectors: int) -> None:
        """`sectors` is the length in the descriptor.

        Raises Corrupt if header, descriptor and file do not fit together.
        """
        check_grain_size(header.grain_size, MAX_GRAIN)
        check_capacity(header.capacity, sectors)
        directory = header.directory * SECTOR
        geometry = GrainGeometry(
            size=sectors * SECTOR,
            grain=header.grain_size * SECTOR,
            entries=TABLE_ENTRIES,
            entry_size=4,
            first_data=HEADER_SECTORS * SECTOR,
        )
        check_directory(geometry, directory, file.size)
        if header.directory_entries < geometry.tables:
            raise Corrupt(
                "entries in the grain directory",
                expected=f"at least {geometry.tables}",
                actual=header.directory_entries,
            )
        super().__init__(file, geometry, directory)

    def _table_at(self, entry: int, where: int) -> int | None:
        if 0 < entry < HEADER_SECTORS:
            raise Corrupt("grain directory entry points into the header", where, actual=entry)
        return entry * SECTOR or None

    def _starts(self, entries: tuple[int, ...]) -> list[int]:
        return [entry * SECTOR if entry else UNALLOCATED for entry in entries]
