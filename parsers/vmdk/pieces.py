"""Where the bytes of a range are: the one word that extents and disks exchange.

A range of an extent or disk is resolved into pieces; each names the source that has its bytes, so that
reading takes a bisection and a sum, whatever the format was. What reads as zeros and what cannot be read
are sources too.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from vmount.parsers.errors import ParseError
from vmount.parsers.reader import BlockSource, Buffer, Span

MAX_READ = 1 << 20
"""Bytes asked of a file at a time where several reads are made one."""

_ZEROS = memoryview(bytes(MAX_READ))


class DiskPiece(NamedTuple):
    """The bytes [start, end) of an extent or disk."""

    start: int
    end: int
    source: BlockSource | None
    """None: not allocated here, the parent has them."""
    delta: int
    """Add it to an offset of the extent or disk to get the one in `source`."""


class DiskExtent(Protocol):
    """An open extent."""

    @property
    def size(self) -> int:
        """Bytes of the disk that it covers."""
        ...

    @property
    def region(self) -> int | None:
        """Bytes that are best resolved at a time, a power of two; None: any number, without I/O."""
        ...

    async def pieces(self, start: int, end: int) -> list[DiskPiece]:
        """Resolve a range of this extent into pieces that cover it in order.

        Damage makes pieces that refuse to be read. Raises OSError where the tables cannot be read.
        """
        ...

    async def load_directory(self, start: int, end: int) -> None:
        """Have the directory entries for a range at hand. Raises as `pieces` does."""
        ...

    def hint(self, start: int, end: int) -> None:
        """Prefetch the directory entries for a range, or the tables if those are at hand."""
        ...


class Zeros:
    """Zeros at every offset."""

    size = 1 << 63

    def try_read(self, offset: int, length: int) -> Buffer:  # noqa: ARG002
        """Return zeros."""
        return _ZEROS[:length] if length <= MAX_READ else bytes(length)

    async def read(self, offset: int, length: int) -> Buffer:
        """Return zeros."""
        return self.try_read(offset, length)

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Do nothing: they are here."""


ZEROS = Zeros()


class Refused:
    """Bytes that cannot be had for a reason that is known: every read raises it."""

    size = 1 << 63

    def __init__(self, error: ParseError) -> None:
        self.error = error

    def try_read(self, offset: int, length: int) -> Buffer:  # noqa: ARG002
        """Raise the error."""
        raise copy.copy(self.error)

    async def read(self, offset: int, length: int) -> Buffer:
        """Raise the error."""
        return self.try_read(offset, length)

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Do nothing."""


def append(pieces: list[DiskPiece], piece: DiskPiece) -> None:
    """Add a piece, or lengthen the last one if this goes on where it ends, in its source too."""
    if pieces:
        last = pieces[-1]
        if last.end == piece.start and last.source is piece.source and last.delta == piece.delta:
            pieces[-1] = last._replace(end=piece.end)
            return
    pieces.append(piece)
