"""Files with blocks that the journal has in another form: where a block starts with the journal's magic,
the journal has zeros in its place.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Sequence

from vmount.parsers.ext.journal_blocks import MAGIC
from vmount.parsers.model import Chunk, Run
from vmount.parsers.reader import Buffer, Span
from vmount.parsers.runs import RunList

_MAGIC = MAGIC.to_bytes(4, "big")
_UNIT = 1 << 16


class EscapedBlocks:
    """A ChunkTable that puts the magic back."""

    unit = _UNIT
    """The largest block there is."""

    def __init__(self, runs: RunList, escaped: Collection[int]) -> None:
        """Take the runs of a file from its beginning to its end, and the offsets in the file of such blocks."""
        self._runs = runs
        self._escaped = array("q", sorted(escaped))
        self.cost = runs.cost + 8 * len(escaped)

    async def chunk(self, index: int) -> Chunk:
        """Return the chunk that decodes to the bytes from index * unit on."""
        offset = index * self.unit
        end = offset + self.unit
        first, after = bisect_left(self._escaped, offset), bisect_left(self._escaped, end)
        places = [at - offset for at in self._escaped[first:after]]

        def decode(stored: Buffer, length: int) -> bytes:
            data = bytearray(stored[:length])
            for place in places:
                data[place : place + 4] = _MAGIC[: length - place]
            return bytes(data)

        pieces = self._runs.pieces(offset, min(end, self._runs.end) - offset)
        runs = tuple(Run(at - offset, size, start) for at, size, start in pieces)
        return Chunk(runs, decode if places else None)

    def where(self, offset: int, length: int) -> Sequence[Span]:
        """Return where a range of the file is stored."""
        return self._runs.spans(offset, min(length, self._runs.end - offset))
