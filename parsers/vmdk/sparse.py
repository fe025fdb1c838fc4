"""Hosted sparse extents (magic KDMV), as monolithicSparse and twoGbMaxExtentSparse have them.

Source: VMware, "Virtual Disk Format 5.0", section "Hosted Sparse Extents".

Strategy: the second grain directory and its tables are asked where the first copy cannot be right: it
points outside the file, or a table of it is empty. An empty table is what a wiped sector looks like too,
and telling the two apart costs one read for some 32 neighbouring tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.layout import Field, Layout
from vmount.parsers.reader import Buffer
from vmount.parsers.vmdk.descriptor import SECTOR
from vmount.parsers.vmdk.grains import (
    UNALLOCATED,
    ZEROED,
    GrainExtent,
    GrainGeometry,
    check_capacity,
    check_directory,
    check_grain_size,
)
from vmount.parsers.vmdk.tablefile import TableFile

MAGIC = b"KDMV"

MAX_VERSION = 3
"""1: the plain format; 2: zeroed grains; 3: written for streams, or change-tracked."""

MAX_GRAIN = 1 << 15
"""Sectors, 16 MiB: two hundred times what is ever written, and a decoded grain must fit in memory."""

MAX_TABLE_ENTRIES = 512
"""Entries in a grain table: the only number that is ever written."""

AT_END = 0xFFFFFFFFFFFFFFFF
"""As the place of the grain directory: the footer has it."""

FLAG_NEWLINES = 1 << 0
FLAG_REDUNDANT = 1 << 1
FLAG_ZEROED = 1 << 2
FLAG_COMPRESSED = 1 << 16
FLAG_MARKERS = 1 << 17

NEWLINES = b"\n \r\n"
"""A transfer in text mode changes them."""

HEADER = Layout(
    "SparseExtentHeader",
    Field("magic", "4s", at=0x00, note="magicNumber: KDMV"),
    Field("version", "I", at=0x04),
    Field(
        "flags",
        "I",
        at=0x08,
        note="1: newlines are valid; 2: redundant table; 4: zeroed grains; 0x10000: compressed; 0x20000: markers",
    ),
    Field("capacity", "Q", at=0x0C, note="sectors, as all places and sizes"),
    Field("grain_size", "Q", at=0x14),
    Field("descriptor_offset", "Q", at=0x1C, note="0: no descriptor inside"),
    Field("descriptor_size", "Q", at=0x24),
    Field("table_entries", "I", at=0x2C, note="numGTEsPerGT: 512"),
    Field("redundant_directory", "Q", at=0x30, note="rgdOffset"),
    Field("directory", "Q", at=0x38, note="gdOffset; all bits set: at the end of the stream"),
    Field("overhead", "Q", at=0x40, note="overHead: of metadata, before the first grain"),
    Field("unclean", "B", at=0x48, note="uncleanShutdown"),
    Field("newlines", "4s", at=0x49, note="four bytes that a transfer as text would change"),
    Field("compression", "H", at=0x4D, note="compressAlgorithm: 1: deflate"),
    Field("padding", "433x", at=0x4F),
    size=512,
    source=(
        "VMware Virtual Disk Format 5.0 technote, Hosted Sparse Extent Header (SparseExtentHeader)"
    ),
)


@dataclass(frozen=True)
class SparseHeader:
    """A hosted sparse extent's header. Offsets and sizes are in sectors."""

    version: int
    flags: int
    capacity: int
    grain_size: int
    descriptor_offset: int
    """0: the descriptor is in a file of its own."""
    descriptor_size: int
    table_entries: int
    redundant_directory: int | None
    directory: int
    """AT_END in a stream's header."""
    unclean: bool
    """The writer has not closed it."""

    @property
    def is_compressed(self) -> bool:
        """The grains are compressed."""
        return bool(self.flags & FLAG_COMPRESSED)


def parse_header(raw: Buffer, offset: int = 0) -> SparseHeader:
    """Decode a header, or the footer that has the same form.

    Raises Corrupt if it is cut off or contradicts itself, Unsupported for what is newer than this code.
    """
    fields = HEADER.parse(raw, offset)
    if fields.magic != MAGIC:
        raise Corrupt("magic of a sparse extent", offset, expected=MAGIC, actual=fields.magic)
    if not 1 <= fields.version <= MAX_VERSION:
        raise Unsupported(f"sparse extent of version {fields.version}")
    if fields.flags & FLAG_NEWLINES and fields.newlines != NEWLINES:
        raise Corrupt(
            "line ends in the header changed by a text-mode transfer",
            offset + HEADER.offset("newlines"),
            expected=NEWLINES,
            actual=fields.newlines,
        )
    if fields.compression > 1:
        raise Unsupported(f"grain compression {fields.compression}")
    compressed = bool(fields.flags & FLAG_COMPRESSED)
    if compressed != bool(fields.compression):
        raise Corrupt(
            "compression flag and algorithm contradict each other",
            offset,
            expected=int(compressed),
            actual=fields.compression,
        )
    if compressed and not fields.flags & FLAG_MARKERS:
        raise Unsupported("compressed grains without markers")
    return SparseHeader(
        version=fields.version,
        flags=fields.flags,
        capacity=fields.capacity,
        grain_size=fields.grain_size,
        descriptor_offset=fields.descriptor_offset,
        descriptor_size=fields.descriptor_size,
        table_entries=fields.table_entries,
        redundant_directory=fields.redundant_directory if fields.flags & FLAG_REDUNDANT else None,
        directory=fields.directory,
        unclean=bool(fields.unclean),
    )


def sparse_geometry(header: SparseHeader, sectors: int) -> GrainGeometry:
    """Check a header's numbers against what the descriptor says and return the extent's geometry.

    Raises Corrupt.
    """
    check_grain_size(header.grain_size, MAX_GRAIN)
    check_capacity(header.capacity, sectors)
    if not 1 <= header.table_entries <= MAX_TABLE_ENTRIES:
        raise Corrupt(
            "entries in a grain table",
            expected=f"1 to {MAX_TABLE_ENTRIES}",
            actual=header.table_entries,
        )
    return GrainGeometry(
        size=sectors * SECTOR,
        grain=header.grain_size * SECTOR,
        entries=header.table_entries,
        entry_size=4,
        first_data=max(1, header.descriptor_offset + header.descriptor_size) * SECTOR,
    )


class SparseExtent(GrainExtent):
    """A hosted sparse extent."""

    def __init__(
        self, file: TableFile, header: SparseHeader, sectors: int, warn: Callable[[str], None]
    ) -> None:
        """`sectors` is the length in the descriptor, `warn` takes a sentence about this extent.

        Raises Corrupt if header, descriptor and file do not fit together.
        """
        geometry = sparse_geometry(header, sectors)
        directory, spare = header.directory * SECTOR, (header.redundant_directory or 0) * SECTOR
        self._warn_once: Callable[[str], None] | None = warn
        if spare:
            try:
                check_directory(geometry, spare, file.size)
            except Corrupt:
                self._warn("the redundant grain directory lies outside the file")
                spare = 0
        try:
            check_directory(geometry, directory, file.size)
        except Corrupt as error:
            if not spare:
                raise
            self._warn(f"the grain directory is damaged, the redundant one is used ({error})")
            directory, spare = spare, 0
        if header.unclean:
            warn("the disk was not closed properly: it may be in use, or its host crashed")
        super().__init__(file, geometry, directory)
        self._spare = spare
        self._one = ZEROED if header.flags & FLAG_ZEROED else SECTOR

    def _table_at(self, entry: int, where: int) -> int | None:  # noqa: ARG002
        return entry * SECTOR or None

    def _starts(self, entries: tuple[int, ...]) -> list[int]:
        one = self._one
        return [
            entry * SECTOR if entry > 1 else (one if entry else UNALLOCATED) for entry in entries
        ]

    async def _table(self, index: int, first: int, last: int) -> list[int] | None:
        if not self._spare:
            return await self._read_table(self._directory, index, first, last)
        error = None
        try:
            starts = await self._read_table(self._directory, index, first, last)
        except Corrupt as problem:
            starts, error = None, problem
        bad = self._misplaced_entries(index, first, starts)
        if starts is not None and not bad:
            return starts
        try:
            spare = await self._read_table(self._spare, index, first, last)
        except Corrupt:
            spare = None
        if spare is None:
            # An empty copy proves nothing: it may be wiped where the first copy is damaged.
            if error is not None:
                raise error
            return starts
        if starts is None:
            self._warn("a grain table is damaged, its redundant copy is used")
            return spare
        self._warn("a grain table is damaged, entries of its redundant copy are used")
        for number in bad:
            if spare[number] >= 0:
                starts[number] = spare[number]
        return starts

    def _misplaced_entries(self, index: int, first: int, starts: list[int] | None) -> list[int]:
        """Return which of the grains from `first` of a table on cannot be where its entries say."""
        placed = [start for start in starts or () if start >= 0]
        geometry = self._geometry
        if starts is None or not placed:
            return []
        lowest, highest = min(placed), max(placed)
        if lowest >= geometry.first_data and highest + geometry.grain <= self._file.size:
            return []
        position = index * geometry.coverage + first * geometry.grain
        return [
            number
            for number, start in enumerate(starts)
            if start >= 0 and self._is_misplaced(start, position + number * geometry.grain)
        ]

    def _warn(self, message: str) -> None:
        """Say the first thing that is wrong with this extent's tables; the others follow from it."""
        if self._warn_once is not None:
            self._warn_once(message)
            self._warn_once = None
