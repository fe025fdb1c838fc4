"""From clusters to bytes: where they are, and reading a directory's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parsers.fat.table import FIRST_CLUSTER
from parsers.model import Run
from parsers.reader import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from parsers.fat.table import ClusterRun
    from parsers.reader import Reader

MAX_READ = 1 << 20


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

    def runs(self, clusters: Iterable[ClusterRun], size: int) -> list[Run]:
        """Return where the first `size` bytes of a file are."""
        runs = []
        offset = 0
        for first, count in clusters:
            length = min(count * self.cluster_size, size - offset)
            if length > 0:
                runs.append(Run(offset, length, self.start(first)))
                offset += length
        return runs


async def read_all(reader: Reader, runs: Sequence[Run]) -> bytearray:
    """Read runs that have no holes, in pieces of at most `MAX_READ`."""
    pieces = [
        Span(run.start + at, min(MAX_READ, run.length - at))
        for run in runs
        if run.start is not None
        for at in range(0, run.length, MAX_READ)
    ]
    if len(pieces) > 1:
        reader.prefetch(pieces)
    data = bytearray()
    for piece in pieces:
        data += await reader.read(piece.offset, piece.length)
    return data
