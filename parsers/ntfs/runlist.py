"""Run lists (mapping pairs): where the clusters of an attribute are.

Each pair is a byte with two sizes, a length in clusters and the signed difference of its first cluster
to that of the run before; without a difference the run is a hole.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt
from vmount.parsers.model import Run
from vmount.parsers.reader import Buffer, Reader, Span

if TYPE_CHECKING:
    from collections.abc import Sequence

_new = tuple.__new__


def decode_runs(
    data: bytes, first_vcn: int, next_vcn: int, cluster_size: int, clusters: int
) -> list[Run]:
    """Decode the run list at the start of `data`, in bytes.

    It maps the clusters [first_vcn, next_vcn) of an attribute, all of them, onto a volume of `clusters`.
    Raises Corrupt.
    """
    runs: list[Run] = []
    from_bytes = int.from_bytes
    position, end = 0, len(data)
    vcn, lcn = first_vcn, 0
    while position < end and (sizes := data[position]):
        middle = position + 1 + (sizes & 15)
        after = middle + (sizes >> 4)
        if after > end:
            raise Corrupt("run list goes on past its attribute", actual=sizes)
        length = from_bytes(data[position + 1 : middle], "little", signed=True)
        if length <= 0 or length > next_vcn - vcn:
            raise Corrupt("run length", expected=f"1 to {next_vcn - vcn:#x}", actual=length)
        start = None
        if after > middle:
            lcn += from_bytes(data[middle:after], "little", signed=True)
            if lcn < 0 or lcn + length > clusters:
                raise Corrupt("run outside the volume", actual=f"clusters {lcn:#x} + {length:#x}")
            start = lcn * cluster_size
        runs.append(_new(Run, (vcn * cluster_size, length * cluster_size, start)))
        vcn += length
        position = after
    if vcn != next_vcn:
        raise Corrupt("run list ends early", expected=next_vcn, actual=vcn)
    return runs


class RunMap:
    """Runs that can be asked for a range."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        self._offsets = [run.offset for run in runs]

    def index(self, offset: int) -> int:
        """Return which run has the byte at `offset` of the attribute. Raises Corrupt if none has."""
        index = bisect_right(self._offsets, offset) - 1
        if index < 0 or offset >= self.runs[index].offset + self.runs[index].length:
            raise Corrupt("attribute has no clusters for a part of it", expected=offset)
        return index

    def pieces(self, offset: int, length: int) -> list[Run]:
        """Return the parts of the runs that make up a range of the attribute, in order.

        Raises Corrupt where the runs do not cover it.
        """
        found: list[Run] = []
        end = offset + length
        index = self.index(offset) if length else 0
        while offset < end:
            if index == len(self.runs):
                raise Corrupt("attribute has no clusters for a part of it", expected=offset)
            at, size, start = self.runs[index]
            skip = offset - at
            take = min(size - skip, end - offset)
            found.append(_new(Run, (offset, take, None if start is None else start + skip)))
            offset += take
            index += 1
        return found

    def spans(self, offset: int, length: int) -> list[Span]:
        """Return where a range of the attribute is on the volume, holes left out."""
        return [
            Span(run.start, run.length)
            for run in self.pieces(offset, length)
            if run.start is not None
        ]

    async def read(self, reader: Reader, offset: int, length: int) -> Buffer:
        """Read a range of the attribute."""
        pieces = self.pieces(offset, length)
        if len(pieces) == 1 and pieces[0].start is not None:
            return await reader.read(pieces[0].start, length)
        data = bytearray()
        for _, size, start in pieces:
            data += bytes(size) if start is None else await reader.read(start, size)
        return data
