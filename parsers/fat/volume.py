"""What walking a volume and opening it both need: its directories' bytes and its files' clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt
from vmount.parsers.fat.boot import ENTRY_SIZE
from vmount.parsers.fat.clusters import Heap, read_all
from vmount.parsers.fat.directory import MAX_ENTRIES
from vmount.parsers.fat.table import FAT32
from vmount.parsers.runs import NO_RUNS, Run, RunList

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.fat.boot import Boot
    from vmount.parsers.fat.entry import ShortEntry
    from vmount.parsers.fat.table import Table
    from vmount.parsers.reader import BlockSource, Buffer


class Volume:
    """A FAT volume: `boot` is its geometry, `table` the FAT that is used."""

    def __init__(self, reader: BlockSource, boot: Boot, table: Table) -> None:
        self.reader = reader
        self.boot = boot
        self.table = table
        self.heap = Heap(boot.data_offset, boot.cluster_size)

    def first_cluster(self, entry: ShortEntry) -> int:
        """Return the number of a file's first cluster; 0: it has none."""
        if self.boot.kind is FAT32:
            return entry.cluster_high << 16 | entry.cluster_low
        return entry.cluster_low

    async def file_runs(self, entry: ShortEntry) -> RunList:
        """Return where a file's bytes are. Raises Corrupt if its clusters do not make its size."""
        if entry.size == 0:
            return NO_RUNS
        clusters = await self.table.chain(self.first_cluster(entry), self.heap.count(entry.size))
        return self.heap.runs(clusters, entry.size)

    async def directory_runs(self, entry: ShortEntry | None) -> RunList:
        """Return where a directory is; that of no entry is the root."""
        if entry is not None:
            first = self.first_cluster(entry)
        elif self.boot.kind is FAT32:
            first = self.boot.root_cluster
        else:
            return RunList.of((Run(0, self.boot.root_size, self.boot.root_offset),))
        if first == 0:
            raise Corrupt("directory without clusters")
        limit = max(1, MAX_ENTRIES * ENTRY_SIZE // self.boot.cluster_size)
        clusters = await self.table.whole_chain(first, limit)
        return self.heap.runs(clusters, limit * self.boot.cluster_size)

    async def read_directory(self, entry: ShortEntry | None) -> tuple[Buffer, Sequence[Run]]:
        """Return a directory's bytes and where they are."""
        runs = await self.directory_runs(entry)
        return await read_all(self.reader, runs), runs
