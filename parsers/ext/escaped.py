"""Files with blocks that the journal has in another form: where a block starts with the journal's magic,
the journal has zeros in its place.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence

from vmount.parsers.ext.journal_blocks import MAGIC
from vmount.parsers.model import Chunk, Run
from vmount.parsers.reader import Buffer, Span

_MAGIC = MAGIC.to_bytes(4, "big")
_UNIT = 1 << 16


class EscapedBlocks:
    """A ChunkTable that puts the magic back."""

    unit = _UNIT
    """The largest block there is."""

    def __init__(self, runs: Sequence[Run], escaped: Collection[int]) -> None:
        """Take the runs of a file from its beginning to its end, and the offsets in the file of such blocks."""
        self._runs = runs
        self._starts = [run.offset for run in runs]
        self._escaped = sorted(escaped)

    async def chunk(self, index: int) -> Chunk:
        """Return the chunk that decodes to the bytes from index * unit on."""
        offset = index * self.unit
        end = offset + self.unit
        places = [at - offset for at in self._escaped if offset <= at < end]

        def decode(stored: Buffer, length: int) -> bytes:
            data = bytearray(stored[:length])
            for place in places:
                data[place : place + 4] = _MAGIC[: length - place]
            return bytes(data)

        return Chunk(tuple(self._cut(offset, end)), decode if places else None)

    def where(self, offset: int, length: int) -> Sequence[Span]:
        """Return where a range of the file is stored."""
        runs = self._cut(offset, offset + length)
        return [Span(run.start, run.length) for run in runs if run.start is not None]

    def _cut(self, offset: int, end: int) -> list[Run]:
        """Return the runs of a range, with offsets from its start."""
        cut = []
        for run in self._runs[max(0, bisect_right(self._starts, offset) - 1) :]:
            first, last = max(run.offset, offset), min(run.offset + run.length, end)
            if run.offset >= end:
                break
            if first < last:
                start = None if run.start is None else run.start + first - run.offset
                cut.append(Run(first - offset, last - first, start))
        return cut
