"""What walking a volume and opening it both need: where files and directories are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt
from vmount.parsers.exfat.directory import MAX_SIZE
from vmount.parsers.exfat.entry import ENTRY_SIZE, FILE
from vmount.parsers.exfat.entry_set import MAX_SET
from vmount.parsers.fat.clusters import Heap, read_all
from vmount.parsers.fat.table import EXFAT, FIRST_CLUSTER, ClusterRun, Table
from vmount.parsers.runs import NO_RUNS, RunList

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.exfat.boot import Boot
    from vmount.parsers.exfat.entry_set import FileEntry
    from vmount.parsers.model import Run
    from vmount.parsers.reader import BlockSource, Buffer


class Volume:
    """An exFAT volume of the geometry `boot`."""

    def __init__(self, reader: BlockSource, boot: Boot) -> None:
        self.reader = reader
        self.boot = boot
        self.table = Table(reader, EXFAT, boot.fat_offset, boot.clusters)
        self.heap = Heap(boot.heap_offset, boot.cluster_size)

    async def runs(self, first: int, size: int, *, contiguous: bool = False) -> RunList:
        """Return where the `size` bytes are that begin in the cluster `first`. Raises Corrupt."""
        if size == 0:
            return NO_RUNS
        count = self.heap.count(size)
        if count == 1:
            # What the FAT says comes after it.
            contiguous = True
        if not contiguous:
            return self.heap.runs(await self.table.chain(first, count), size)
        end = FIRST_CLUSTER + self.boot.clusters
        if first < FIRST_CLUSTER or first + count > end:
            raise Corrupt(
                "contiguous file outside the volume",
                expected=f"clusters 2 to {end - 1:#x}",
                actual=f"{count:#x} from {first:#x}",
            )
        return self.heap.runs([ClusterRun(first, count)], size)

    async def root_runs(self) -> RunList:
        """Return where the root directory is; it has no size."""
        limit = MAX_SIZE // self.boot.cluster_size
        clusters = await self.table.whole_chain(self.boot.root_cluster, limit)
        return self.heap.runs(clusters, MAX_SIZE)

    async def read_directory(self, entry: FileEntry | None) -> tuple[Buffer, Sequence[Run]]:
        """Return a directory's bytes and where they are; that of no entry is the root."""
        if entry is None:
            runs = await self.root_runs()
        else:
            if entry.size > MAX_SIZE:
                expected = f"at most {MAX_SIZE:#x}"
                raise Corrupt("size of a directory", expected=expected, actual=entry.size)
            runs = await self.runs(entry.first_cluster, entry.size, contiguous=entry.is_contiguous)
        return await read_all(self.reader, runs), runs

    async def read_set(self, place: int, *, contiguous: bool) -> Buffer:
        """Return the bytes from the entry at `place` on: its whole set if it is a file entry.

        Raises Corrupt where the set goes on in a cluster that is not there.
        """
        cluster = self.heap.cluster(place)
        skip = place - self.heap.start(cluster)
        length = min(MAX_SET * ENTRY_SIZE, self.boot.cluster_size - skip)
        data = await self.reader.read(place, length)
        needed = (data[1] + 1) * ENTRY_SIZE
        if data[0] != FILE or needed <= length:
            return data
        whole = bytearray()
        for run in await self.runs(cluster, skip + needed, contiguous=contiguous):
            assert run.start is not None
            before = max(0, skip - run.offset)
            whole += await self.reader.read(run.start + before, run.length - before)
        return whole
