"""Runs of a file or an attribute over its volume: kept in little memory, and asked for ranges.

Strategy: runs follow each other without gaps, so each needs the place where it begins in the file and the
place in the volume: two integers in flat arrays, 16 bytes. As tuples of integers they take over ten times as
much.
"""

from __future__ import annotations

import operator
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, overload

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.reader import Buffer, Reader, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_RUNS = 1 << 21
"""Pieces of one file: 32 MiB in memory. NTFS ends a file at some 1.5 million, for the size of its attribute
list; a file of ext4 or XFS with as many could not be written in reasonable time."""
RUN_COST = 16
"""Bytes of memory that a run takes."""
LIST_COST = 300
"""Bytes that a list takes without its runs."""
MAX_END = (1 << 63) - 1
"""Bytes: no file ends and no volume reaches beyond it."""
HOLE = -1
"""Start of a run that reads as zeros."""


class Run(NamedTuple):
    """A part of a file that lies in one piece on its volume."""

    offset: int
    """In the file."""
    length: int
    start: int | None
    """In the volume; None: a hole, which reads as zeros."""


_new = tuple.__new__


class RunList(Sequence[Run]):
    """Runs that follow each other from offset 0 on, as RunBuilder made them.

    The fields are for hot paths, which may look at them and not change them.
    """

    __slots__ = ("_within", "offsets", "starts")

    def __init__(self, offsets: array[int], starts: array[int]) -> None:
        self.offsets = offsets
        """Where each run begins in the file, and where the last one ends."""
        self.starts = starts
        """Where each run begins in the volume, or HOLE."""
        self._within: int | None = None

    @classmethod
    def of(cls, runs: Sequence[Run]) -> RunList:
        """Return the same runs. Raises Corrupt unless they follow each other from 0 on."""
        if isinstance(runs, cls):
            return runs
        offsets, starts = array("q", (0,)), array("q")
        position = 0
        for offset, length, start in runs:
            if offset != position or length <= 0:
                raise Corrupt(f"run out of order, for file offset {offset:#x}", expected=position)
            position += length
            _check_place(position, start)
            offsets.append(position)
            starts.append(HOLE if start is None else start)
        return cls(offsets, starts)

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> list[Run]: ...

    def __getitem__(self, index: int | slice) -> Run | list[Run]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self.starts)))]
        start = self.starts[index]
        if index < 0:
            index += len(self.starts)
        offset = self.offsets[index]
        return Run(offset, self.offsets[index + 1] - offset, None if start < 0 else start)

    def __iter__(self) -> Iterator[Run]:
        offset = 0
        for end, start in zip(self.offsets[1:], self.starts, strict=True):
            yield _new(Run, (offset, end - offset, None if start < 0 else start))
            offset = end

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash((len(self), self.end))

    @property
    def end(self) -> int:
        """Bytes that the runs cover."""
        return self.offsets[-1]

    @property
    def cost(self) -> int:
        """Bytes of memory that the list takes, roughly."""
        return LIST_COST + RUN_COST * len(self.starts)

    def check_within(self, size: int) -> None:
        """Raise Corrupt for a run beyond the end of a volume of `size` bytes. What was found good is kept."""
        if self._within is not None and self._within <= size:
            return
        lengths = map(operator.sub, self.offsets[1:], self.offsets)
        # A hole may only seem to lie outside, and it is looked at below.
        if max(map(operator.add, self.starts, lengths), default=0) > size:
            for _, length, start in self:
                if start is not None and start + length > size:
                    raise Corrupt(
                        "run beyond the end of the volume",
                        start,
                        expected=f"at most {size} bytes",
                        actual=f"a run of {length} bytes there",
                    )
        self._within = size

    def which(self, offset: int) -> int:
        """Return which run has the byte at `offset` of the file. Raises Corrupt if none has."""
        index = bisect_right(self.offsets, offset) - 1
        if not 0 <= index < len(self.starts):
            raise Corrupt("attribute has no clusters for a part of its datas data", expected=offset)
        return index

    def pieces(self, offset: int, length: int) -> list[Run]:
        """Return the parts of the runs that make up a range of the file, in order.

        Raises Corrupt where the runs do not cover it.
        """
        found: list[Run] = []
        end = offset + length
        if offset >= end:
            return found
        offsets, starts = self.offsets, self.starts
        if offset < 0 or end > offsets[-1]:
            missing = offset if offset < 0 else max(offset, offsets[-1])
            raise Corrupt(
                "attribute has no clusters for a part of its datas data", expected=missing
            )
        index = bisect_right(offsets, offset) - 1
        while offset < end:
            start = starts[index]
            stop = min(offsets[index + 1], end)
            place = None if start < 0 else start + offset - offsets[index]
            found.append(_new(Run, (offset, stop - offset, place)))
            offset = stop
            index += 1
        return found

    def place(self, offset: int, length: int) -> int | None:
        """Return where a range of the file is on the volume; None if it is not there in one piece."""
        index = bisect_right(self.offsets, offset) - 1
        if not 0 <= index < len(self.starts) or self.starts[index] < 0:
            return None
        if offset + length > self.offsets[index + 1]:
            return None
        return self.starts[index] + offset - self.offsets[index]

    def spans(self, offset: int, length: int) -> list[Span]:
        """Return where a range of the file is on the volume, holes left out."""
        return [
            Span(start, size) for _, size, start in self.pieces(offset, length) if start is not None
        ]

    async def read(self, reader: Reader, offset: int, length: int) -> Buffer:
        """Return a range of the file; holes are zeros."""
        pieces = self.pieces(offset, length)
        if len(pieces) == 1 and pieces[0].start is not None:
            return await reader.read(pieces[0].start, length)
        data = bytearray()
        for _, size, start in pieces:
            data += bytes(size) if start is None else await reader.read(start, size)
        return data

    def cut(self, size: int) -> RunList:
        """Return the runs without what lies behind `size`."""
        if self.end <= size:
            return self
        count = bisect_right(self.offsets, size - 1) if size else 0
        offsets = self.offsets[: count + 1]
        offsets[-1] = size
        return RunList(offsets, self.starts[:count])


NO_RUNS = RunList.of(())


class RunBuilder:
    """Gathers runs in the order of the file. Neighbours that are neighbours on the volume become one."""

    __slots__ = ("_end", "_offsets", "_starts", "position")

    def __init__(self) -> None:
        self.position = 0
        """Where the next run begins in the file."""
        self._end = HOLE
        """Where the last run ends in the volume, or HOLE."""
        self._offsets = array("q", (0,))
        self._starts = array("q")

    def add(self, length: int, start: int | None) -> None:
        """Add bytes of the file; None: a hole. Raises Unsupported for more than MAX_RUNS runs."""
        if length <= 0:
            return
        starts = self._starts
        self.position += length
        _check_place(self.position, start)
        if starts and (self._end == HOLE if start is None else start == self._end):
            self._offsets[-1] = self.position
        else:
            if len(starts) == MAX_RUNS:
                raise Unsupported(f"a file of more than {MAX_RUNS} pieces")
            starts.append(HOLE if start is None else start)
            self._offsets.append(self.position)
        self._end = HOLE if start is None else start + length

    def extend(self, runs: Iterable[Run]) -> None:
        """Add runs, one after the other, whatever their offsets."""
        for _, length, start in runs:
            self.add(length, start)

    def so_far(self) -> RunList:
        """Return the runs added up to now. What is added later comes to it too."""
        return RunList(self._offsets, self._starts)

    def finish(self) -> RunList:
        """Return the runs. The builder must not be used after it."""
        return RunList(self._offsets, self._starts)


def _check_place(end: int, start: int | None) -> None:
    if end > MAX_END or (start is not None and not 0 <= start <= MAX_END):
        raise Corrupt("run beyond the limit of a file or volume", start, actual=end)
