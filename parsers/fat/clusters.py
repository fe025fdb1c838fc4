"""From clusters to bytes: where they are, and reading a directory's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.parsers.fat.table import FIRST_CLUSTER
from vmount.parsers.reader import Span
from vmount.parsers.runs import Run, RunBuilder, RunList

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vmount.parsers.fat.table import ClusterRun
    from vmount.parsers.reader import Reader

MAX_READ = 1 << 20
MAX_GAP = 64 << 10
"""Bytes between two pieces that are read for nothing rather than with another read."""


class Heap:
    """The clusters of a volume: the first is at `offset`."""

    def __init__(self, offset: int, cluster_size: int) -> None:
        self.offset = offset
        self.cluster_size = cluster_size

    def start(self, cluster: int) -> int:
        """Return the offset of a cluster in the volume."""
        return self.offset + (cluster - FIRST_CLUSTER) * self.cluster_size

    def cluster(self, offset: int) -> int:
        """Return the cluster that an offset in the volume is in."""
        return (offset - self.offset) // self.cluster_size + FIRST_CLUSTER

    def count(self, size: int) -> int:
        """Return how many clusters `size` bytes take."""
        return -(-size // self.cluster_size)

    def runs(self, clusters: Iterable[ClusterRun], size: int) -> RunList:
        """Return where the first `size` bytes of a file are."""
        runs = RunBuilder()
        for first, count in clusters:
            runs.add(min(count * self.cluster_size, size - runs.position), self.start(first))
        return runs.finish()


async def read_all(reader: Reader, runs: Iterable[Run]) -> bytearray:
    """Read runs that have no holes, in reads of at most `MAX_READ`."""
    pieces = [
        Span(run.start + at, min(MAX_READ, run.length - at))
        for run in runs
        if run.start is not None
        for at in range(0, run.length, MAX_READ)
    ]
    groups = list(_neighbours(pieces))
    spans = [
        Span(group[0].offset, group[-1].offset + group[-1].length - group[0].offset)
        for group in groups
    ]
    if len(spans) > 1:
        reader.prefetch(spans)
    data = bytearray()
    for (start, length), group in zip(spans, groups, strict=True):
        found = memoryview(await reader.read(start, length))
        for piece in group:
            data += found[piece.offset - start : piece.offset - start + piece.length]
    return data


def _neighbours(pieces: Sequence[Span]) -> Iterator[list[Span]]:
    """Yield pieces that follow each other on the volume closely enough for one read."""
    group: list[Span] = []
    for piece in pieces:
        if group:
            gap = piece.offset - group[-1].offset - group[-1].length
            together = piece.offset + piece.length - group[0].offset
            if not 0 <= gap <= MAX_GAP or together > MAX_READ:
                yield group
                group = []
        group.append(piece)
    if group:
        yield group
