"""Index blocks: the nodes of an index below its root, found by their VCNs.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "$INDEX_ALLOCATION".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt
from vmount.parsers.ntfs.attribute import INDEX_ALLOCATION
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.ntfs.fixup import restore
from vmount.parsers.ntfs.index import MAGIC
from vmount.parsers.ntfs.stream import Stream, select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.ntfs.attribute import Attribute
    from vmount.parsers.ntfs.boot import Boot
    from vmount.parsers.reader import Reader

VCN_UNIT = 512
"""Bytes that a VCN of an index counts where clusters are larger than index blocks."""


class IndexBlocks:
    """The blocks of one index of a file; `size` is that of each in bytes."""

    def __init__(
        self, reader: Reader, boot: Boot, attributes: Sequence[Attribute], name: bytes, size: int
    ) -> None:
        self.size = size
        self.vcn_size = boot.cluster_size if boot.cluster_size <= size else VCN_UNIT
        extents = select(attributes, INDEX_ALLOCATION, name)
        # Each block has a signature and says which it is: where the attribute's sizes are wrong, no other
        # bytes are taken for one.
        self.stream = Stream(extents, boot, trust_sizes=False) if extents else None
        self._reader = reader
        if self.stream and self.stream.size > boot.size:
            raise Corrupt(Damage.INDEX_IS_LARGER_THAN_VOLUME, actual=self.stream.size)

    async def read(self, vcn: int) -> tuple[bytes, int]:
        """Return the block at a VCN, its fix-ups restored, and its offset in the index. Raises Corrupt."""
        where = vcn * self.vcn_size
        if self.stream is None or where + self.size > self.stream.valid:
            raise Corrupt(Damage.INDEX_BLOCK_OUTSIDE_INDEX, where)
        block = bytearray(await self.stream.read(self._reader, where, self.size))
        restore(block, MAGIC, where)
        return bytes(block), where
