"""Space-efficient sparse extents (seSparse): the snapshots of VMFS 6 and of disks above 2 TiB.

VMware has published no specification. Source of the structures: the description with which support for
them came into QEMU (qemu-devel, April 2019). As nobody outside knows what other values would mean, a header
is accepted only with those that are known: anything else is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.layout import Field, Layout
from vmount.parsers.reader import Buffer
from vmount.parsers.vmdk.descriptor import SECTOR
from vmount.parsers.vmdk.grains import (
    UNALLOCATED,
    UNKNOWN,
    ZEROED,
    GrainExtent,
    GrainGeometry,
    check_capacity,
    check_directory,
)
from vmount.parsers.vmdk.tablefile import TableFile

MAGIC = 0x00000000CAFEBABE
VOLATILE_MAGIC = 0x00000000CAFECAFE
VERSION = 0x0000000200000001
"""2.1"""
GRAIN_SECTORS = 8
TABLE_SECTORS = 64

HEADER = Layout(
    "SESparseConstHeader",
    Field("magic", "Q", at=0x00, note="0xCAFEBABE"),
    Field("version", "Q", at=0x08, note="2.1, in halves of 32 bits"),
    Field("capacity", "Q", at=0x10, note="sectors, as all places and sizes"),
    Field("grain_size", "Q", at=0x18),
    Field("table_size", "Q", at=0x20, note="grain_table_size: sectors"),
    Field("flags", "Q", at=0x28, note="meaning unconfirmed: 0"),
    Field("reserved", "4Q", at=0x30),
    Field("volatile_offset", "Q", at=0x50, note="volatile_header_offset"),
    Field("volatile_size", "Q", at=0x58),
    Field("journal_header_offset", "Q", at=0x60),
    Field("journal_header_size", "Q", at=0x68),
    Field("journal_offset", "Q", at=0x70),
    Field("journal_size", "Q", at=0x78),
    Field("directory_offset", "Q", at=0x80, note="grain_dir_offset"),
    Field("directory_size", "Q", at=0x88),
    Field("tables_offset", "Q", at=0x90, note="grain_tables_offset"),
    Field("tables_size", "Q", at=0x98),
    Field("free_bitmap_offset", "Q", at=0xA0),
    Field("free_bitmap_size", "Q", at=0xA8),
    Field("backmap_offset", "Q", at=0xB0, note="not read"),
    Field("backmap_size", "Q", at=0xB8),
    Field("grains_offset", "Q", at=0xC0),
    Field("grains_size", "Q", at=0xC8),
    Field("padding", "304s", at=0xD0),
    size=512,
    source="reverse engineered: QEMU block/vmdk.c VMDKSESparseConstHeader",
)

VOLATILE = Layout(
    "SESparseVolatileHeader",
    Field("magic", "Q", at=0x00, note="0xCAFECAFE"),
    Field("free_table", "Q", at=0x08, note="free_gt_number"),
    Field("next_transaction", "Q", at=0x10, note="next_txn_seq_number"),
    Field("replay_journal", "Q", at=0x18, note="not 0: the journal is to be replayed"),
    Field("padding", "480s", at=0x20),
    size=512,
    source="reverse engineered: QEMU block/vmdk.c VMDKSESparseVolatileHeader",
)

_TYPE_SHIFT = 60
_ALLOCATED_TABLE = 0x1 << 28
"""Upper half of a directory entry whose lower half is the number of a table."""
_UNMAPPED, _ZERO, _ALLOCATED = 0x1, 0x2, 0x3
"""Upper four bits of a table entry. Unmapped: the guest gave it back (SCSI UNMAP), it reads as zeros."""


@dataclass(frozen=True)
class SeSparseHeader:
    """A seSparse extent's header. Offsets and sizes are in sectors."""

    capacity: int
    volatile_offset: int
    directory_offset: int
    directory_size: int
    tables_offset: int
    tables_size: int
    grains_offset: int
    grains_size: int


def is_sesparse(head: Buffer) -> bool:
    """Tell from the first bytes of a file whether it is a seSparse extent."""
    return bytes(head[:8]) == MAGIC.to_bytes(8, "little")


def parse_header(raw: Buffer) -> SeSparseHeader:
    """Decode the constant header. Raises Corrupt, or Unsupported where a value is not the known one."""
    fields = HEADER.parse(raw)
    if fields.magic != MAGIC:
        raise Corrupt("magic of a seSparse extent", 0, expected=MAGIC, actual=fields.magic)
    known = (
        ("version", fields.version, VERSION),
        ("grain size", fields.grain_size, GRAIN_SECTORS),
        ("grain table size", fields.table_size, TABLE_SECTORS),
        ("flags", fields.flags, 0),
    )
    for name, value, expected in known:
        if value != expected:
            raise Unsupported(f"seSparse extent with {name} {value:#x}")
    if any(fields.reserved) or any(fields.padding):
        raise Unsupported("seSparse extent with reserved fields in use")
    return SeSparseHeader(
        capacity=fields.capacity,
        volatile_offset=fields.volatile_offset,
        directory_offset=fields.directory_offset,
        directory_size=fields.directory_size,
        tables_offset=fields.tables_offset,
        tables_size=fields.tables_size,
        grains_offset=fields.grains_offset,
        grains_size=fields.grains_size,
    )


def check_volatile(raw: Buffer, offset: int) -> None:
    """Check the volatile header, found at `offset`.

    Raises Corrupt, or Unsupported if changes wait in the journal: the tables are not up to date then.
    """
    fields = VOLATILE.parse(raw)
    if fields.magic != VOLATILE_MAGIC:
        raise Corrupt(
            "magic of the seSparse volatile header",
            offset,
            expected=VOLATILE_MAGIC,
            actual=fields.magic,
        )
    if fields.replay_journal:
        raise Unsupported(
            "seSparse journal replay",
            remedy="the disk was not closed properly; let its host open and close it",
        )
    if any(fields.padding):
        raise Unsupported("seSparse volatile header with reserved fields in use")


class SeSparseExtent(GrainExtent):
    """A seSparse extent."""

    def __init__(self, file: TableFile, header: SeSparseHeader, sectors: int) -> None:
        """`sectors` is the length in the descriptor.

        Raises Corrupt if header, descriptor and file do not fit together.
        """
        check_capacity(header.capacity, sectors)
        geometry = GrainGeometry(
            size=sectors * SECTOR,
            grain=GRAIN_SECTORS * SECTOR,
            entries=TABLE_SECTORS * SECTOR // 8,
            entry_size=8,
            first_data=header.grains_offset * SECTOR,
        )
        directory = header.directory_offset * SECTOR
        check_directory(geometry, directory, file.size)
        if header.directory_size * SECTOR < geometry.tables * geometry.entry_size:
            raise Corrupt(
                "size of the grain directory",
                expected=f"at least {geometry.tables * geometry.entry_size} bytes",
                actual=header.directory_size * SECTOR,
            )
        super().__init__(file, geometry, directory)
        self._header = header
        self._tables = header.tables_size // TABLE_SECTORS

    def _table_at(self, entry: int, where: int) -> int | None:
        if entry == 0:
            return None
        number = entry & 0xFFFFFFFF
        if entry >> 32 != _ALLOCATED_TABLE or number >= self._tables:
            raise Corrupt(
                "grain directory entry",
                where,
                expected=f"one of {self._tables} tables",
                actual=entry,
            )
        return (self._header.tables_offset + number * TABLE_SECTORS) * SECTOR

    def _starts(self, entries: tuple[int, ...]) -> list[int]:
        grains = self._header.grains_offset * SECTOR
        count = self._header.grains_size // GRAIN_SECTORS
        starts = []
        for entry in entries:
            kind = entry >> _TYPE_SHIFT
            if kind == _ALLOCATED:
                # The number's low 12 bits come first, the other 48 after them.
                number = (entry >> 48 & 0xFFF) | (entry & 0xFFFFFFFFFFFF) << 12
                starts.append(
                    grains + number * GRAIN_SECTORS * SECTOR if number < count else UNKNOWN - entry
                )
            elif entry == 0:
                starts.append(UNALLOCATED)
            elif kind in (_UNMAPPED, _ZERO):
                starts.append(ZEROED)
            else:
                starts.append(UNKNOWN - entry)
        return starts
