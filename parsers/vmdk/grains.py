"""Extents that are stored in grains: a directory of tables whose entries say where each grain is.

Strategy: all sparse formats differ in their headers and in how an entry is encoded, not in how they are
walked. A format gives the tables' geometry and two decoders, `_table_at` for a directory entry and
`_starts` for the entries of a table; this walk reads them, checks what they point at and joins grains
that lie one after the other in the file.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass

from vmount.parsers.errors import Corrupt, ParseError
from vmount.parsers.reader import Buffer
from vmount.parsers.vmdk.pieces import ZEROS, DiskPiece, Refused, append
from vmount.parsers.vmdk.tablefile import TableFile

UNALLOCATED = -1
"""A grain that the parent has."""
ZEROED = -2
"""A grain that reads as zeros."""
UNKNOWN = -3
"""From here down: an entry that cannot be decoded; its value is UNKNOWN minus this."""

REGION_GRAINS = 4096
"""Grains resolved at a time at most: some ten thousand integers in the worst case."""
REGION_LIMIT = 32 << 20
"""Bytes resolved at a time at most: what one hosted grain table maps."""


@dataclass(frozen=True)
class GrainGeometry:
    """How an extent is divided. All in bytes but `entries`."""

    size: int
    """Bytes of the disk that the extent covers."""
    grain: int
    entries: int
    """Entries in a table."""
    entry_size: int
    """Bytes in an entry of a table or directory."""
    first_data: int
    """No grain lies before this offset of the file."""

    @property
    def coverage(self) -> int:
        """Bytes that one table maps."""
        return self.grain * self.entries

    @property
    def tables(self) -> int:
        """Tables that the extent needs."""
        return -(-self.size // self.coverage)


class GrainExtent(ABC):
    """An extent stored in grains."""

    def __init__(self, file: TableFile, geometry: GrainGeometry, directory: int) -> None:
        """`directory` is the offset of the grain directory in the file."""
        self.size = geometry.size
        self.region = min(REGION_LIMIT, geometry.grain * REGION_GRAINS)
        self._file = file
        self._geometry = geometry
        self._directory = directory
        self._entry_code = {4: "I", 8: "Q"}[geometry.entry_size]

    @abstractmethod
    def _table_at(self, entry: int, where: int) -> int | None:
        """Decode a directory entry found at `where`: offset of its table, None if there is none.

        Raises Corrupt for an entry that cannot be.
        """

    @abstractmethod
    def _starts(self, entries: tuple[int, ...]) -> list[int]:
        """Decode entries of a table: offsets in the file, or UNALLOCATED, ZEROED, UNKNOWN - entry."""

    async def pieces(self, start: int, end: int) -> list[DiskPiece]:
        """Resolve a range of this extent, reading the tables that it takes."""
        grain, entries, coverage = (
            self._geometry.grain,
            self._geometry.entries,
            self._geometry.coverage,
        )
        found: list[DiskPiece] = []
        for index in range(start // coverage, -(-end // coverage)):
            base = index * coverage
            first = max(start - base, 0) // grain
            last = min(-(-(end - base) // grain), entries)
            try:
                starts = await self._table(index, first, last)
            except ParseError as error:
                refusal = Refused(error.named(self._file.name))
                append(found, DiskPiece(base + first * grain, base + last * grain, refusal, 0))
                continue
            if starts is None:
                append(found, DiskPiece(base + first * grain, base + last * grain, None, 0))
            else:
                self._grains(found, base + first * grain, starts)
        found[0] = found[0]._replace(start=start)
        found[-1] = found[-1]._replace(end=end)
        return found

    async def load_directory(self, start: int, end: int) -> None:
        """Have the directory entries for a range at hand."""
        await self._file.read(*self._directory_span(self._directory, start, end))

    def hint(self, start: int, end: int) -> None:
        """Prefetch the directory entries for a range, or the tables if those are at hand."""
        geometry = self._geometry
        where, length = self._directory_span(self._directory, start, end)
        raw = self._file.peek(where, length)
        if raw is None:
            self._file.hint(where, length)
            return
        table_size = geometry.entries * geometry.entry_size
        for number, entry in enumerate(self._unpack(raw)):
            try:
                table = self._table_at(entry, where + number * geometry.entry_size)
            except Corrupt:
                continue
            if table is not None:
                self._file.hint(table, table_size)

    async def _table(self, index: int, first: int, last: int) -> list[int] | None:
        """Return where the grains [first, last) of a table are, None if none of them is allocated."""
        return await self._read_table(self._directory, index, first, last)

    async def _read_table(
        self, directory: int, index: int, first: int, last: int
    ) -> list[int] | None:
        size = self._geometry.entry_size
        where = directory + index * size
        entry = int.from_bytes(await self._file.read(where, size), "little")
        table = self._table_at(entry, where)
        if table is None:
            return None
        if table + self._geometry.entries * size > self._file.size:
            raise Corrupt(
                "grain directory entry points beyond the end of the file",
                where,
                expected=f"at most {self._file.size} bytes",
                actual=f"a table at {table:#x}",
            )
        raw = await self._file.read(table + first * size, (last - first) * size)
        if bytes(raw) == bytes(len(raw)):
            return None
        return self._starts(self._unpack(raw))

    def _grains(self, found: list[DiskPiece], position: int, starts: list[int]) -> None:
        """Turn grains from `position` of the extent on into pieces."""
        grain, count, i = self._geometry.grain, len(starts), 0
        while i < count:
            start, j = starts[i], i + 1
            at = position + i * grain
            if start >= 0:
                while j < count and starts[j] >= 0:
                    j += 1
                self._allocated(found, at, starts[i:j])
            else:
                while j < count and starts[j] == start:
                    j += 1
                end = position + j * grain
                if start == UNALLOCATED:
                    append(found, DiskPiece(at, end, None, 0))
                elif start == ZEROED:
                    append(found, DiskPiece(at, end, ZEROS, 0))
                else:
                    error = Corrupt(
                        f"grain table entry of unknown kind for {at:#x} of the extent",
                        actual=UNKNOWN - start,
                    )
                    append(found, DiskPiece(at, end, Refused(error.named(self._file.name)), 0))
            i = j

    def _allocated(self, found: list[DiskPiece], position: int, starts: list[int]) -> None:
        """Turn grains that are all allocated into pieces."""
        grain, count, i = self._geometry.grain, len(starts), 0
        while i < count:
            start, j = starts[i], i + 1
            at = position + i * grain
            if self._is_misplaced(start, at):
                append(found, DiskPiece(at, at + grain, self._misplaced(start, at), 0))
                i = j
                continue
            expected = start + grain
            while (
                j < count
                and starts[j] == expected
                and not self._is_misplaced(expected, position + j * grain)
            ):
                expected += grain
                j += 1
            append(found, DiskPiece(at, position + j * grain, self._file.source, start - at))
            i = j

    def _is_misplaced(self, start: int, at: int) -> bool:
        """Tell whether a grain for `at` of the extent cannot lie at `start` of the file."""
        geometry = self._geometry
        end = start + geometry.grain
        if end > self._file.size:  # The last grain may be a part of one.
            end = start + min(geometry.grain, self.size - at)
        return start < geometry.first_data or end > self._file.size

    def _misplaced(self, start: int, at: int) -> Refused:
        error = Corrupt(
            f"grain for {at:#x} of the extent outside the data of its file",
            expected=f"from {self._geometry.first_data:#x} to {self._file.size:#x}",
            actual=start,
        )
        return Refused(error.named(self._file.name))

    def _directory_span(self, directory: int, start: int, end: int) -> tuple[int, int]:
        size, coverage = self._geometry.entry_size, self._geometry.coverage
        first = start // coverage
        return directory + first * size, (-(-end // coverage) - first) * size

    def _unpack(self, raw: Buffer) -> tuple[int, ...]:
        return struct.unpack(f"<{len(raw) // self._geometry.entry_size}{self._entry_code}", raw)


def check_grain_size(sectors: int, limit: int) -> None:
    """Raise Corrupt unless `sectors` is a power of two of at most `limit`."""
    if not 0 < sectors <= limit or sectors & (sectors - 1):
        raise Corrupt(
            "grain size", expected=f"a power of two up to {limit} sectors", actual=sectors
        )


def check_capacity(capacity: int, wanted: int) -> None:
    """Raise Corrupt if a header's capacity is less than its line in the descriptor says, in sectors.

    It may be more: some writers round it up to whole grains.
    """
    if capacity < wanted:
        raise Corrupt(
            f"extent smaller than its descriptor says: expected {wanted} sectors, found {capacity}"
        )


def check_directory(geometry: GrainGeometry, directory: int, size: int) -> None:
    """Raise Corrupt unless the grain directory at an offset lies in a file of `size` bytes."""
    length = geometry.tables * geometry.entry_size
    if directory < geometry.entry_size or directory + length > size:
        raise Corrupt(
            "grain directory outside the file",
            directory,
            expected=f"{length} bytes within {size}",
        )
