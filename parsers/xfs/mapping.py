"""From a fork to its extents, and to the runs of a file.

Strategy: depth first, so that extents come out in the order of the file and memory is bounded by their
number; the children of a node are fetched together. A node that turns up twice is a loop or a
deliberate bomb, and refused.
"""

from __future__ import annotations

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.runs import MAX_RUNS, RunBuilder, RunList
from vmount.parsers.xfs.checksum import LONG_BTREE
from vmount.parsers.xfs.errors import Damage
from vmount.parsers.xfs.extent import (
    EXTENT_SIZE,
    Extents,
    Node,
    decode_extents,
    decode_node,
    decode_root,
)
from vmount.parsers.xfs.inode import Fork, Format, Inode
from vmount.parsers.xfs.volume import Volume

MAX_EXTENTS = MAX_RUNS
"""Of one fork: 32 MiB as they are on the disk."""
MAX_NODES = 1 << 18
"""Of the B+tree of one fork. Nodes are half full at least, so MAX_EXTENTS take 2**18 with the smallest blocks."""
NODES_AT_ONCE = 256
"""Nodes fetched together: 1 MiB with the common block size."""


async def read_extents(volume: Volume, inode: Inode, fork: Fork) -> Extents:
    """Return the extents of a fork in the order of its blocks.

    Raises Corrupt for damage, Unsupported for more extents than can be held.
    """
    if fork.extents > MAX_EXTENTS:
        raise Unsupported(f"a file of more than {MAX_EXTENTS} pieces")
    if fork.format == Format.EXTENTS:
        extents = decode_extents(fork.data, fork.extents, fork.where)
    elif fork.format == Format.BTREE:
        walk = _TreeWalk(volume, inode, fork)
        await walk.walk(decode_root(fork.data, fork.where))
        extents = Extents(walk.extents)
    else:
        raise Corrupt(Damage.INODE_FORMAT_OF_FORK, fork.where, of=inode.number, actual=fork.format)
    if len(extents) != fork.extents:
        raise Corrupt(
            Damage.INODE_NUMBER_OF_EXTENTS,
            fork.where,
            of=inode.number,
            expected=fork.extents,
            actual=len(extents),
        )
    end = 0
    for extent in extents:
        if extent.block < end:
            raise Corrupt(
                Damage.INODE_EXTENTS_OUT_OF_ORDER,
                fork.where,
                of=inode.number,
                expected=f"block {end:#x} or later",
                actual=extent.block,
            )
        end = extent.block + extent.blocks
        volume.offset(extent.start, extent.blocks)
    return extents


def file_runs(volume: Volume, extents: Extents, size: int) -> RunList:
    """Return where the bytes of a file of `size` bytes are; what is not in extents or was never written is
    a hole."""
    block_size = volume.block_size
    runs = RunBuilder()
    for block, count, first, unwritten in extents:
        runs.add(min(block * block_size, size) - runs.position, None)
        start = None if unwritten else volume.offset(first, count)
        runs.add(min(count * block_size, size - runs.position), start)
    runs.add(size - runs.position, None)
    return runs.finish()


class _TreeWalk:
    def __init__(self, volume: Volume, inode: Inode, fork: Fork) -> None:
        self._volume = volume
        self._ino = inode.number
        self._expected = fork.extents
        self._seen: set[int] = set()
        self.extents = bytearray()

    async def walk(self, node: Node) -> None:
        self.extents += node.extents.data
        if len(self.extents) > self._expected * EXTENT_SIZE:
            raise Corrupt(
                Damage.INODE_MORE_EXTENTS_THAN_IT_SAYS, of=self._ino, expected=self._expected
            )
        for batch in range(0, len(node.children), NODES_AT_ONCE):
            blocks = [block for _, block in node.children[batch : batch + NODES_AT_ONCE]]
            for where, data in await self._fetch(blocks):
                await self.walk(
                    decode_node(
                        data,
                        where,
                        level=node.level - 1,
                        version_5=self._volume.superblock.checksums,
                    )
                )

    async def _fetch(self, blocks: list[int]) -> list[tuple[int, bytes]]:
        """Return the offset and the bytes of each of some nodes, which are not used anywhere else."""
        before = len(self._seen)
        self._seen.update(blocks)
        if len(self._seen) != before + len(blocks):
            raise Corrupt(Damage.INODE_BLOCK_OF_MAP_IS_USED_TWICE, of=self._ino)
        if before + len(blocks) > MAX_NODES:
            raise Unsupported(f"a file with a map of more than {MAX_NODES} blocks")
        offsets = [self._volume.offset(block) for block in blocks]
        ordered = sorted(offsets)
        pieces = await self._volume.read_pieces(ordered, self._volume.block_size)
        by_offset = dict(zip(ordered, pieces, strict=True))
        if self._volume.superblock.checksums:
            for offset, data in by_offset.items():
                self._volume.check(data, LONG_BTREE, "extent B+tree", offset, self._ino)
        return [(offset, by_offset[offset]) for offset in offsets]
