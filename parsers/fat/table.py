"""The file allocation table: for each cluster the one that follows it.

Strategy: the table is read in pages as chains need them, and the last pages stay. A chain that runs on
from page to page has its next pages read in one piece, twice as much each time, and the piece after that
hinted; a chain that jumps about costs one page a jump. A chain comes out as runs of clusters that lie side
by side, and only these are looked at when it is checked that no cluster comes twice.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING, NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.lru import Lru
from vmount.parsers.reader import Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.reader import Buffer, Reader

FIRST_CLUSTER = 2

PAGE = 64 << 10
"""Bytes of the table that are read at least."""
MAX_PAGES_READ = 16
"""Pages in one read."""
PAGES_KEPT = 64
"""4 MiB: the table of 64 GiB in clusters of 64 KiB, of 4 GiB in those of 4 KiB."""


class Kind(NamedTuple):
    """What the three kinds of FAT and exFAT's differ in."""

    name: str
    bits: int
    """That an entry takes in the table."""
    mask: int
    """Those of its bits that count."""

    @property
    def bad(self) -> int:
        """What marks a bad cluster; what is above ends a chain."""
        return self.mask - 8

    def entries(self, size: int) -> int:
        """Return how many entries fit into `size` bytes."""
        return size * 8 // self.bits


FAT12 = Kind("FAT12", 12, 0xFFF)
FAT16 = Kind("FAT16", 16, 0xFFFF)
FAT32 = Kind("FAT32", 32, 0x0FFF_FFFF)
EXFAT = Kind("exFAT", 32, 0xFFFF_FFFF)


class ClusterRun(NamedTuple):
    """Clusters that follow each other in a file and on the volume."""

    first: int
    length: int


class Table:
    """A table of a volume. `offset` is its place, `clusters` the number of clusters that it is for."""

    def __init__(self, reader: Reader, kind: Kind, offset: int, clusters: int) -> None:
        self._reader = reader
        self._kind = kind
        self._offset = offset
        self._end = clusters + FIRST_CLUSTER
        self._size = (self._end * kind.bits + 7) // 8
        # FAT12 has entries across bytes and at most 6 KiB of them: one page.
        self._page = self._size if kind.bits == 12 else PAGE
        self._per_page = self._end if kind.bits == 12 else PAGE * 8 // kind.bits
        self._pages: Lru[int, Sequence[int]] = Lru(PAGES_KEPT)

    async def entry(self, cluster: int) -> int:
        """Return the entry of a cluster (or of the two numbers below the first one)."""
        page = await self._load(cluster // self._per_page, 1)
        return page[cluster % self._per_page] & self._kind.mask

    async def chain(self, first: int, count: int) -> list[ClusterRun]:
        """Return the first `count` clusters (at least one) of the chain that begins at `first`.

        What the chain has after them is not looked at. Raises Corrupt where it ends before or goes
        through a cluster that is free, bad, not on the volume or already in it.
        """
        if count > self._end - FIRST_CLUSTER:
            raise Corrupt(
                "more clusters than the volume has",
                expected=self._end - FIRST_CLUSTER,
                actual=count,
            )
        runs, _ = await self._follow(first, count)
        found = sum(run.length for run in runs)
        if found < count:
            raise Corrupt(
                "cluster chain ends early",
                self._where(runs[-1].first + runs[-1].length - 1),
                expected=f"{count} clusters",
                actual=found,
            )
        self._check_distinct(runs)
        return runs

    async def whole_chain(self, first: int, limit: int) -> list[ClusterRun]:
        """Return all of the chain that begins at `first`.

        Raises Corrupt as `chain` does, and if there are more than `limit` clusters in it.
        """
        runs, ended = await self._follow(first, min(limit, self._end - FIRST_CLUSTER))
        self._check_distinct(runs)
        if not ended:
            raise Corrupt("cluster chain too long", self._where(first), expected=f"{limit:#x}")
        return runs

    async def count_free(self) -> int:
        """Return how many clusters are free. Reads all of the table."""
        free = 0
        mask = self._kind.mask
        for number in range(-(-self._end // self._per_page)):
            page = await self._load(number, MAX_PAGES_READ)
            # The entries after the last cluster's are not there: `_decode` cuts them off.
            free += sum(not entry & mask for entry in page)
            if number == 0:
                free -= sum(not entry & mask for entry in page[:FIRST_CLUSTER])
        return free

    async def _follow(self, first: int, count: int) -> tuple[list[ClusterRun], bool]:
        """Return up to `count` clusters of a chain, and whether it ends with them."""
        mask, bad, per_page, end = self._kind.mask, self._kind.bad, self._per_page, self._end
        if not FIRST_CLUSTER <= first < end:
            raise Corrupt("first cluster", expected=f"2 to {end - 1:#x}", actual=first)
        runs: list[ClusterRun] = []
        start = cluster = first
        left = count
        number, ahead = -2, 1
        page: Sequence[int] = ()
        base = 0
        while True:
            if cluster // per_page != number:
                ahead = min(ahead * 2, MAX_PAGES_READ) if cluster // per_page == number + 1 else 1
                number = cluster // per_page
                base = number * per_page
                page = await self._load(number, min(ahead, 1 + left // per_page), left)
            # The clusters of a run within the page: the loop that long files spend their time in.
            stop = min(cluster + left - 1, base + len(page) - 1)
            at = cluster
            while at < stop and page[at - base] & mask == at + 1:
                at += 1
            left -= at - cluster + 1
            cluster = at
            following = page[cluster - base] & mask
            if following <= 1 or end <= following <= bad:
                raise self._wrong(cluster, following)
            if following > bad or left == 0:
                runs.append(ClusterRun(start, cluster + 1 - start))
                return runs, following > bad
            if following != cluster + 1:
                runs.append(ClusterRun(start, cluster + 1 - start))
                start = following
            cluster = following

    async def _load(self, number: int, pages: int, clusters_left: int = 0) -> Sequence[int]:
        """Return a page; if it has to be read, read up to `pages` from there on."""
        page = self._pages.get(number)
        if page is not None:
            return page
        total = -(-self._size // self._page)
        count = 1
        while count < pages and number + count < total and number + count not in self._pages:
            count += 1
        start, end = number * self._page, min((number + count) * self._page, self._size)
        if clusters_left > count * self._per_page and end < self._size:
            length = min(2 * (end - start), MAX_PAGES_READ * self._page, self._size - end)
            self._reader.prefetch([Span(self._offset + end, length)])
        data = await self._reader.read(self._offset + start, end - start)
        for index in range(count - 1, -1, -1):
            piece = data[index * self._page : (index + 1) * self._page]
            page = self._decode(piece)
            self._pages.put(number + index, page)
        assert page is not None
        return page

    def _decode(self, data: Buffer) -> Sequence[int]:
        if self._kind.bits == 12:
            return _decode_12(data, self._end)
        entries = array("H" if self._kind.bits == 16 else "I", bytes(data))
        if sys.byteorder == "big":
            entries.byteswap()
        return entries

    def _check_distinct(self, runs: list[ClusterRun]) -> None:
        """Raise Corrupt if a cluster comes twice, which is what a loop amounts to."""
        end = 0
        for first, length in sorted(runs):
            if first < end:
                raise Corrupt("loop in a cluster chain", self._where(first), actual=first)
            end = first + length

    def _wrong(self, cluster: int, following: int) -> Corrupt:
        if following == self._kind.bad:
            kind = "bad cluster in a chain"
        elif following == 0:
            kind = "free cluster in a chain"
        else:
            kind = "cluster outside the volume in a chain"
        return Corrupt(
            kind,
            self._where(cluster),
            expected=f"2 to {self._end - 1:#x} or an end",
            actual=following,
        )

    def _where(self, cluster: int) -> int:
        return self._offset + cluster * self._kind.bits // 8


def _decode_12(data: Buffer, count: int) -> array[int]:
    """Return entries of twelve bits, of which two take three bytes."""
    entries = array("H")
    for at in range(0, len(data) - 1, 3):
        entries.append(data[at] | (data[at + 1] & 0x0F) << 8)
        if at + 2 < len(data):
            entries.append(data[at + 1] >> 4 | data[at + 2] << 4)
    return entries[:count]
