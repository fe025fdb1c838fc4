"""The BlockSource of RAID-4, RAID-5 and RAID-6.

Strategy: data is read where it is. Only when a column is missing or fails is the same range read from the
other columns, once for the whole request, and the chunks of the failed ones are computed from it.
Layouts and the order of the syndrome are those of MD (md(4); H. P. Anvin, "The mathematics of RAID-6").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vmount.blocks.galois import add, inverse, power, times
from vmount.blocks.raid import ColumnError, column_size
from vmount.blocks.slices import MissingDevice, Piece, Scattered, spans_within
from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.reader import BlockSource, Buffer, Span, check_bounds
from vmount.parsers.volume_map import ParityLayout

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_COLUMNS = 255
"""Q tells no more data columns apart; MD has no more than 253."""

_DDF = (
    ParityLayout.ROTATING_ZERO_RESTART,
    ParityLayout.ROTATING_N_RESTART,
    ParityLayout.ROTATING_N_CONTINUE,
)
"""Layouts of the Common RAID Disk Data Format: Q counts columns by place, MD's own count from after Q."""

_Q_LAST = {
    ParityLayout.LEFT_ASYMMETRIC_6: ParityLayout.LEFT_ASYMMETRIC,
    ParityLayout.LEFT_SYMMETRIC_6: ParityLayout.LEFT_SYMMETRIC,
    ParityLayout.RIGHT_ASYMMETRIC_6: ParityLayout.RIGHT_ASYMMETRIC,
    ParityLayout.RIGHT_SYMMETRIC_6: ParityLayout.RIGHT_SYMMETRIC,
    ParityLayout.PARITY_FIRST_6: ParityLayout.PARITY_FIRST,
}

_LEFT = (ParityLayout.LEFT_ASYMMETRIC, ParityLayout.LEFT_SYMMETRIC)
_RIGHT = (
    ParityLayout.RIGHT_ASYMMETRIC,
    ParityLayout.RIGHT_SYMMETRIC,
    ParityLayout.ROTATING_ZERO_RESTART,
)
_SYMMETRIC = (
    ParityLayout.LEFT_SYMMETRIC,
    ParityLayout.RIGHT_SYMMETRIC,
    ParityLayout.ROTATING_N_CONTINUE,
)


class Row(NamedTuple):
    """What each column holds in a row of chunks."""

    data: tuple[int, ...]
    """The columns with data, in the order of the volume."""
    p: int
    q: int | None
    exponents: dict[int, int]
    """By data column: the power of the generator it has in Q."""


def row_of(layout: ParityLayout, columns: int, parities: int, row: int) -> Row:
    """Say what the columns hold in a row.

    Raises Unsupported for a layout that does not exist with this number of parities.
    """
    if layout in _Q_LAST and parities == 2:
        inner = row_of(_Q_LAST[layout], columns - 1, 1, row)
        return inner._replace(
            q=columns - 1, exponents=_exponents(layout, columns, inner.p, columns - 1)
        )
    if layout in _Q_LAST or (layout in _DDF and parities == 1):
        raise Unsupported(f"parity layout {layout.value} with {parities} parities")
    if layout is ParityLayout.PARITY_FIRST:
        p = 0
    elif layout is ParityLayout.PARITY_LAST:
        p = columns - parities
    elif layout in _RIGHT:
        p = row % columns
    elif layout is ParityLayout.ROTATING_N_RESTART:
        p = columns - 1 - (row + 1) % columns
    else:
        p = columns - 1 - row % columns
    q = None
    if parities == 2:
        q = (p - 1 if layout is ParityLayout.ROTATING_N_CONTINUE else p + 1) % columns
    first = 0
    if layout in _SYMMETRIC:
        first = (p if q is None or layout is ParityLayout.ROTATING_N_CONTINUE else q) + 1
    order = [(first + index) % columns for index in range(columns)]
    data = tuple(column for column in order if column not in (p, q))
    return Row(data, p, q, _exponents(layout, columns, p, q))


def _exponents(layout: ParityLayout, columns: int, p: int, q: int | None) -> dict[int, int]:
    if q is None:
        return {}
    if layout in _DDF:
        return {column: column for column in range(columns) if column not in (p, q)}
    order = [(q + 1 + index) % columns for index in range(columns)]
    data = [column for column in order if column not in (p, q)]
    return {column: exponent for exponent, column in enumerate(data)}


class Parity(Scattered):
    """Chunks dealt out to columns with parity among them.

    Nothing is computed from parity that is not `in_sync`.
    Raises Corrupt for columns that do not match, Unsupported for a layout that there is not.
    """

    def __init__(
        self,
        columns: Sequence[BlockSource],
        chunk: int,
        layout: ParityLayout,
        parities: int,
        in_sync: bool = True,
    ) -> None:
        size = column_size(columns, chunk)
        count = len(columns)
        if parities not in (1, 2):
            raise Unsupported(f"{parities} parities")
        if not parities < count <= MOST_COLUMNS:
            raise Corrupt("number of columns with parity", actual=count)
        super().__init__(columns, size * (count - parities))
        self._chunk = chunk
        self._in_sync = in_sync
        period = count - 1 if layout in _Q_LAST else count
        self._rows = [row_of(layout, count, parities, row) for row in range(period)]
        self._missing = {
            index: column.error
            for index, column in enumerate(columns)
            if isinstance(column, MissingDevice)
        }

    def pieces(self, offset: int, length: int) -> list[Piece]:
        """Say which chunks of data the range runs through."""
        rows, chunk = self._rows, self._chunk
        width = len(rows[0].data)
        found = []
        while length > 0:
            number, within = divmod(offset, chunk)
            row, index = divmod(number, width)
            part = min(length, chunk - within)
            found.append(Piece(rows[row % len(rows)].data[index], row * chunk + within, part))
            offset += part
            length -= part
        return found

    def try_read(self, offset: int, length: int) -> Buffer | None:
        """Return the bytes if they are at hand and none has to be computed."""
        try:
            return super().try_read(offset, length)
        except OSError:
            return None

    async def read(self, offset: int, length: int) -> Buffer:
        """Return the bytes; those of columns that fail, from the others.

        Raises the column's OSError where too many fail in one request. A shorter one may yet succeed.
        """
        check_bounds(offset, length, self.size)
        pieces = self.pieces(offset, length)
        if not self._in_sync:
            return await self._gather(pieces, length)
        failed: dict[int, OSError] = dict(self._missing)
        if not any(piece.source in failed for piece in pieces):
            try:
                return await self._gather(pieces, length)
            except ColumnError as error:
                failed[error.column] = error
        return await self._reconstruct(pieces, failed)

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Pass the hint on: to all columns where one is needed that is missing."""
        if not self._missing:
            super().prefetch(spans)
            return
        for offset, length in spans_within(spans, self.size):
            start, end = _window(self.pieces(offset, length))
            self._announce_window(start, end - start)

    async def _fetch(self, source: int, offset: int, length: int) -> Buffer:
        try:
            return await super()._fetch(source, offset, length)
        except OSError as error:
            raise ColumnError(source, error) from error

    def _announce_window(self, start: int, length: int) -> None:
        for index, column in enumerate(self._sources):
            if index not in self._missing:
                column.prefetch([Span(start, length)])

    async def _reconstruct(self, pieces: list[Piece], failed: dict[int, OSError]) -> bytes:
        start, end = _window(pieces)
        self._announce_window(start, end - start)
        held: dict[int, memoryview] = {}
        for index, column in enumerate(self._sources):
            if index not in failed:
                try:
                    held[index] = memoryview(await column.read(start, end - start))
                except OSError as error:
                    failed[index] = error
        answer = []
        for piece in pieces:
            low = piece.offset - start
            parts = {index: data[low : low + piece.length] for index, data in held.items()}
            part: Buffer | None = parts.get(piece.source)
            if part is None:
                row = self._rows[piece.offset // self._chunk % len(self._rows)]
                part = recover(row, piece.source, parts, piece.length)
            if part is None:
                raise failed[piece.source]
            answer.append(part)
        return b"".join(answer)


def recover(row: Row, wanted: int, parts: dict[int, memoryview], length: int) -> bytes | None:
    """Compute a data chunk from the parts that are there; None if they are too few."""
    data = {column: parts[column] for column in row.data if column in parts}
    lost = [column for column in row.data if column not in parts]
    p = parts.get(row.p)
    if len(lost) == 1 and p is not None:
        return add([p, *data.values()], length)
    q = None if row.q is None else parts.get(row.q)
    if q is None or len(lost) > 2:
        return None
    exponents = row.exponents
    weighted = [times(power(exponents[column]), part) for column, part in data.items()]
    q_sum = add([q, *weighted], length)
    if len(lost) == 1:
        return times(power(-exponents[wanted]), q_sum)
    if p is None:
        return None
    # Two unknowns, X + Y = p_sum and g^x X + g^y Y = q_sum.
    (other,) = (column for column in lost if column != wanted)
    p_sum = add([p, *data.values()], length)
    x, y = power(exponents[wanted]), power(exponents[other])
    return times(inverse(x ^ y), add([q_sum, times(y, p_sum)], length))


def _window(pieces: Sequence[Piece]) -> tuple[int, int]:
    """Return the range that holds the pieces, on whichever columns they are."""
    start = min(piece.offset for piece in pieces)
    return start, max(piece.offset + piece.length for piece in pieces)
