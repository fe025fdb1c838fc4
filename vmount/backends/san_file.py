"""A file of a datastore, read straight from the datastore's LUNs.

Strategy: where the file's bytes are was worked out when it was opened; a read is a bisect and reads of the
LUNs, with no file system in between. The runs must not move meanwhile: a disk's files do not while a
snapshot stands on them, or their machine is off.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import trio

from vmount.backends.base import (
    Backend,
    BackendClosed,
    BackendError,
    BackendStats,
    Extent,
)
from vmount.backends.requests import Counters, run_together
from vmount.parsers.reader import Buffer, check_bounds

SECTOR = 512
"""Bytes that are read of each LUN when a file is opened."""
MOST_TOGETHER = 32
"""Pieces of one read that are read at the same time: a file may lie in very many."""


class LunRun(NamedTuple):
    """A part of a file that lies in one piece on a LUN, or a hole, which reads as zeros."""

    offset: int
    """In the file. Bytes, as all here."""
    length: int
    lun: int | None
    """Index of the LUN; None: a hole."""
    start: int
    """On the LUN; of no meaning for a hole."""


async def open_san_file(
    name: str, size: int, runs: Sequence[LunRun], luns: Sequence[Backend]
) -> SanFile:
    """Open a file of `size` bytes. Its runs are in order, without gaps, and cover the size.

    Raises BackendError if a LUN has not all of a run or cannot be read at its lowest or highest one.
    """
    runs = _joined(runs)
    ends: dict[int, tuple[int, int]] = {}
    for run in runs:
        if run.lun is not None:
            low, high = ends.get(run.lun, (run.start, 0))
            ends[run.lun] = min(low, run.start), max(high, run.start + run.length)
    for index, (low, high) in ends.items():
        lun = luns[index]
        if high > lun.size:
            raise BackendError(
                f"{name} reaches to byte {high} of LUN {index + 1} of its datastore, which ends at"
                f" {lun.size}: offline in part, or shrunk"
            )
        for start in (low, max(low, high - SECTOR)):
            await lun.read(start, min(SECTOR, high - start))
    return SanFile(name, size, runs, luns)


class SanFile:
    """A Backend; see open_san_file. The caller closes the LUNs."""

    def __init__(
        self, name: str, size: int, runs: Sequence[LunRun], luns: Sequence[Backend]
    ) -> None:
        self.size = size
        self.max_read = min(lun.max_read for lun in luns)
        self._name = name
        self._runs = runs
        self._offsets = [run.offset for run in runs]
        self._luns = luns
        self._closed = False
        self._counters = Counters()

    async def read(self, offset: int, length: int) -> Buffer:
        """Return exactly `length` bytes. Raises OutOfBounds, BackendError."""
        check_bounds(offset, length, self.size)
        if self._closed:
            raise BackendClosed(f"{self._name}: closed")
        began = trio.current_time()
        self._counters.in_flight += 1
        try:
            pieces = self._pieces(offset, length)
            if len(pieces) == 1:
                data = await self._piece(pieces[0])
            else:
                data = await self._gather(pieces, length)
        finally:
            self._counters.in_flight -= 1
        self._counters.answered(began, length)
        return data

    async def allocated(self, offset: int, length: int) -> Sequence[Extent]:
        """Return what the file has on its LUNs as data, the rest as zeros."""
        check_bounds(offset, length, self.size)
        await trio.lowlevel.checkpoint()
        extents: list[Extent] = []
        for piece in self._pieces(offset, length):
            zero = piece.lun is None
            if extents and extents[-1].zero == zero:
                extents[-1] = extents[-1]._replace(length=extents[-1].length + piece.length)
            else:
                extents.append(Extent(piece.offset, piece.length, zero))
        return extents

    def describe(self) -> Mapping[str, object]:
        """Return what a user may want to know."""
        used = sorted({run.lun for run in self._runs if run.lun is not None})
        return {
            "file": self._name,
            "runs": len(self._runs),
            "luns": [dict(self._luns[index].describe()) for index in used],
        }

    def stats(self) -> BackendStats:
        """Return the counters as they are now."""
        return self._counters.stats()

    async def aclose(self) -> None:
        """Take no more reads."""
        self._closed = True
        await trio.lowlevel.checkpoint()

    def _pieces(self, offset: int, length: int) -> list[LunRun]:
        """Return the parts of runs that a range is made of."""
        found = []
        end = offset + length
        index = bisect_right(self._offsets, offset) - 1
        while offset < end:
            run = self._runs[index]
            count = min(end, run.offset + run.length) - offset
            found.append(LunRun(offset, count, run.lun, run.start + offset - run.offset))
            offset += count
            index += 1
        return found

    async def _piece(self, piece: LunRun) -> Buffer:
        if piece.lun is None:
            await trio.lowlevel.checkpoint()
            return bytes(piece.length)
        return await self._luns[piece.lun].read(piece.start, piece.length)

    async def _gather(self, pieces: Sequence[LunRun], length: int) -> Buffer:
        """Read several pieces at the same time."""
        data = bytearray(length)

        async def fetch(piece: LunRun) -> None:
            at = piece.offset - pieces[0].offset
            data[at : at + piece.length] = await self._piece(piece)

        stored = [piece for piece in pieces if piece.lun is not None]
        await run_together(stored, fetch, min(MOST_TOGETHER, len(stored)))
        return data


def _joined(runs: Sequence[LunRun]) -> tuple[LunRun, ...]:
    """Join the runs that go on where the one before ends, in the file and on the LUN."""
    joined: list[LunRun] = []
    position = 0
    for run in runs:
        assert run.offset == position, "the runs are consecutive"
        position += run.length
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.lun == run.lun
            and (run.lun is None or last.start + last.length == run.start)
        ):
            joined[-1] = last._replace(length=last.length + run.length)
        elif run.length:
            joined.append(run)
    return tuple(joined)
