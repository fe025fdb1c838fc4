"""BlockSources over columns: stripes, and copies of which any one will do.

A column that fails with OSError is passed over where another place has its bytes. Any other error is one
of the program's or of the format's and goes up.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from vmount.blocks.slices import MissingDevice, Piece, Scattered
from vmount.parsers.errors import Corrupt
from vmount.parsers.reader import BlockSource, Buffer, Span, check_bounds

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def column_size(columns: Sequence[BlockSource], chunk: int) -> int:
    """Return the size of each column.

    Raises Corrupt if there are none, or they differ, or are not made of whole chunks.
    """
    if not columns or chunk <= 0:
        raise Corrupt("stripes without columns or chunks")
    size = columns[0].size
    for column in columns:
        if column.size != size:
            raise Corrupt("columns of a stripe differ", expected=size, actual=column.size)
    if size % chunk:
        raise Corrupt("a column ends within a chunk", size // chunk * chunk, expected=chunk)
    return size


class ColumnError(OSError):
    """Reading a column failed."""

    def __init__(self, column: int, error: OSError) -> None:
        super().__init__(error.errno or errno.EIO, error.strerror or str(error), error.filename)
        self.column = column


class Stripe(Scattered):
    """Chunks dealt out to columns in turn (RAID-0)."""

    def __init__(self, columns: Sequence[BlockSource], chunk: int) -> None:
        super().__init__(columns, column_size(columns, chunk) * len(columns))
        self._chunk = chunk

    def pieces(self, offset: int, length: int) -> list[Piece]:
        """Say which chunks the range runs through."""
        found = []
        while length > 0:
            number, within = divmod(offset, self._chunk)
            row, column = divmod(number, len(self._sources))
            part = min(length, self._chunk - within)
            found.append(Piece(column, row * self._chunk + within, part))
            offset += part
            length -= part
        return found


class Mirror:
    """Copies of the same (RAID-1): when one fails, the next is asked, and is the first from then on."""

    def __init__(self, copies: Sequence[BlockSource]) -> None:
        if not copies:
            raise Corrupt("a mirror without copies")
        self.size = copies[0].size
        for copy in copies:
            if copy.size != self.size:
                raise Corrupt("copies of a mirror differ", expected=self.size, actual=copy.size)
        self._copies = sorted(copies, key=lambda copy: isinstance(copy, MissingDevice))

    def try_read(self, offset: int, length: int) -> Buffer | None:
        """Return the bytes if the copy in use has them at hand."""
        try:
            return self._copies[0].try_read(offset, length)
        except OSError:
            if len(self._copies) == 1:
                raise
            return None

    async def read(self, offset: int, length: int) -> Buffer:
        """Return the bytes from the first copy that has them; its error if none has."""
        copies = self._copies
        first: OSError | None = None
        for index, copy in enumerate(copies):
            try:
                data = await copy.read(offset, length)
            except OSError as error:
                first = first or error
                continue
            if index:
                self._copies = [*copies[index:], *copies[:index]]
            return data
        assert first is not None
        raise first

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Pass the hint on to the copy in use."""
        self._copies[0].prefetch(spans)


class Raid10(Scattered):
    """Chunks with near and far copies, as MD lays them out: see `parsers.mapping.Raid10`."""

    def __init__(
        self,
        columns: Sequence[BlockSource],
        chunk: int,
        near_copies: int,
        far_copies: int,
        far_offset: bool,
        *,
        in_sync: bool = True,
    ) -> None:
        rows = column_size(columns, chunk) // chunk // far_copies
        if not 0 < near_copies * far_copies <= len(columns):
            raise Corrupt("more copies than columns", expected=len(columns))
        chunks = rows * len(columns) // near_copies
        super().__init__(columns, chunks * chunk)
        self._chunk = chunk
        self._near = near_copies
        self._far = far_copies
        self._far_offset = far_offset
        self._in_sync = in_sync
        used = -(-chunks * near_copies * far_copies // len(columns))
        self._far_rows = 1 if far_offset else used // far_copies
        """From one far copy to the next."""
        self._missing = {
            index: column.error
            for index, column in enumerate(columns)
            if isinstance(column, MissingDevice)
        }

    def places(self, number: int) -> list[tuple[int, int]]:
        """Return the column and row of every copy of a chunk."""
        columns = len(self._sources)
        row, column = divmod(number * self._near, columns)
        if self._far_offset:
            row *= self._far
        found = []
        for _ in range(self._near):
            found += [
                ((column + copy * self._near) % columns, row + copy * self._far_rows)
                for copy in range(self._far)
            ]
            column += 1
            if column == columns:
                column, row = 0, row + 1
        return found

    def pieces(self, offset: int, length: int, avoid: Collection[int] | None = None) -> list[Piece]:
        """Say where the first copies outside the columns to be avoided are."""
        avoid = self._missing if avoid is None else avoid
        found = []
        while length > 0:
            number, within = divmod(offset, self._chunk)
            places = self.places(number)
            column, row = next((place for place in places if place[0] not in avoid), places[0])
            part = min(length, self._chunk - within)
            found.append(Piece(column, row * self._chunk + within, part))
            offset += part
            length -= part
        return found

    def try_read(self, offset: int, length: int) -> Buffer | None:
        """Return the bytes if the first copies are at hand."""
        try:
            return super().try_read(offset, length)
        except OSError:
            return None

    async def read(self, offset: int, length: int) -> Buffer:
        """Return the bytes, from other copies where the first ones fail."""
        check_bounds(offset, length, self.size)
        failed = dict(self._missing)
        while True:
            pieces = self.pieces(offset, length, failed)
            for piece in pieces:
                if piece.source in failed:
                    raise failed[piece.source]
            try:
                return await self._gather(pieces, length)
            except ColumnError as error:
                if not self._in_sync:
                    raise
                failed[error.column] = error

    async def _fetch(self, source: int, offset: int, length: int) -> Buffer:
        try:
            return await super()._fetch(source, offset, length)
        except OSError as error:
            raise ColumnError(source, error) from error
