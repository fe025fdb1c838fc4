"""Reading a range whose pieces are in several sources, some of them nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vmount.parsers.reader import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vmount.parsers.reader import BlockSource, Buffer

LARGEST_READ = 1 << 20
"""Bytes in one read of a source."""


class SourcePiece(NamedTuple):
    """A part of a range: `length` bytes at `offset` of a source, or zeros if `source` is None."""

    source: int | None
    offset: int
    length: int


def joined(pieces: Iterable[SourcePiece]) -> list[SourcePiece]:
    """Join the pieces that follow each other in one source too, and cut the large ones."""
    found: list[SourcePiece] = []
    for piece in pieces:
        last = found[-1] if found else None
        if (
            last is not None
            and last.source == piece.source
            and (piece.source is None or last.offset + last.length == piece.offset)
            and (piece.source is None or last.length + piece.length <= LARGEST_READ)
        ):
            found[-1] = last._replace(length=last.length + piece.length)
        else:
            found.append(piece)
    return found


def announce(sources: Sequence[BlockSource], pieces: Sequence[SourcePiece]) -> None:
    """Tell the sources what will be read."""
    for index, source in enumerate(sources):
        spans = [Span(piece.offset, piece.length) for piece in pieces if piece.source == index]
        if spans:
            source.prefetch(spans)


def try_gather(sources: Sequence[BlockSource], pieces: Sequence[SourcePiece]) -> Buffer | None:
    """Return the bytes of the pieces if all sources have theirs at hand."""
    if len(pieces) == 1 and pieces[0].source is not None:
        return sources[pieces[0].source].try_read(pieces[0].offset, pieces[0].length)
    answer = bytearray(sum(piece.length for piece in pieces))
    position = 0
    for source, offset, length in pieces:
        if source is not None:
            data = sources[source].try_read(offset, length)
            if data is None:
                return None
            answer[position : position + length] = data
        position += length
    return answer


async def gather(sources: Sequence[BlockSource], pieces: Sequence[SourcePiece]) -> Buffer:
    """Return the bytes of the pieces."""
    if len(pieces) == 1 and pieces[0].source is not None:
        return await sources[pieces[0].source].read(pieces[0].offset, pieces[0].length)
    announce(sources, pieces)
    answer = bytearray(sum(piece.length for piece in pieces))
    position = 0
    for source, offset, length in pieces:
        if source is not None:
            answer[position : position + length] = await sources[source].read(offset, length)
        position += length
    return answer
