"""Compressed attributes: which clusters hold which part.

A compressed attribute is cut into units of 16 clusters. A unit without clusters is a hole, one
with all 16 is stored as it is, and one with less is compressed and followed by a hole.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "Data Runs".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.model import Chunk, Run
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.ntfs.lznt1 import decode_lznt1
from vmount.parsers.runs import RunList

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.reader import Buffer, Span

UNIT_CODE = 4
"""The binary logarithm of the clusters in a unit: the only one that Windows writes."""

MAX_CLUSTER = 4096
"""Windows compresses on volumes with clusters up to this size."""


class CompressionUnits:
    """The chunks of an attribute compressed with LZNT1 (a `ChunkTable`)."""

    def __init__(
        self, runs: Sequence[Run], size: int, valid: int, cluster_size: int, unit_code: int
    ) -> None:
        """Take the attribute's runs and its sizes in bytes. Raises Unsupported, Corrupt."""
        if unit_code != UNIT_CODE or cluster_size > MAX_CLUSTER:
            raise Unsupported(
                f"compression of {1 << unit_code & 0xFFFF} clusters of {cluster_size} bytes"
            )
        self.unit = cluster_size << unit_code
        self._map = RunList.of(runs)
        self.cost = self._map.cost
        self._size = size
        self._valid = valid
        self._covered = self._map.end

    async def chunk(self, index: int) -> Chunk:
        """Return a unit. Raises Corrupt where clusters come after a hole in it."""
        offset = index * self.unit
        length = min(self.unit, self._size - offset)
        if offset < 0 or length <= 0:
            raise ValueError(f"no compression unit {index} in {self._size} bytes")
        valid = min(length, self._valid - offset)
        if valid <= 0:
            return Chunk((Run(0, length, None),), None)
        mapped = min(self.unit, self._covered - offset)
        stored: list[Run] = []
        have = 0
        hole = mapped < self.unit
        for at, size, start in self._map.pieces(offset, mapped):
            if start is None:
                hole = True
            elif at - offset != have:
                raise Corrupt(Damage.CLUSTERS_AFTER_HOLE_IN_COMPRESSION_UNIT, start)
            else:
                stored.append(Run(have, size, start))
                have += size
        if have == 0:
            return Chunk((Run(0, length, None),), None)
        if not hole:
            return Chunk(tuple(_cut(stored, length)), None)

        def decode(data: Buffer, wanted: int) -> bytes:
            return decode_lznt1(data, min(wanted, valid)) + bytes(max(0, wanted - valid))

        return Chunk(tuple(stored), decode)

    def where(self, offset: int, length: int) -> Sequence[Span]:
        """Return where the units of a range are."""
        start = offset // self.unit * self.unit
        end = min(-(-(offset + length) // self.unit) * self.unit, self._covered)
        return self._map.spans(start, end - start) if 0 <= start < end else []


def _cut(runs: Sequence[Run], length: int) -> list[Run]:
    """Return runs without what lies behind `length`."""
    return [
        Run(offset, min(size, length - offset), start)
        for offset, size, start in runs
        if offset < length
    ]
