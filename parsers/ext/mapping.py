"""From an inode to the runs of its file.

Strategy: depth first, so that runs come out in the order of the file and memory is bounded by their
number; the children of a node are fetched together. A node that turns up twice is a loop or a
deliberate bomb, and refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.ext.block_map import (
    Branch,
    branch_blocks,
    decode_block_map,
    decode_pointers,
    mappable_blocks,
)
from vmount.parsers.ext.errors import Damage
from vmount.parsers.ext.extent import Node, check_node_checksum, decode_node
from vmount.parsers.ext.inode import INODE, Inode, InodeFlag
from vmount.parsers.ext.volume import Volume
from vmount.parsers.runs import RunBuilder, RunList

MAX_NODES = 1 << 18
"""Blocks of pointers or extents of one file. As a block map: 1 TiB in blocks of 4 KiB."""
NODES_AT_ONCE = 1024
"""Nodes fetched together: 4 MiB with the common block size."""
EXTENT_BLOCKS = 1 << 32
"""Blocks of the largest file that extents can describe."""


async def file_runs(volume: Volume, inode: Inode) -> RunList:
    """Return where the bytes of a file are, to its size.

    Raises Corrupt for a damaged map, Unsupported for one that is too large to hold.
    """
    runs = _FileRuns(volume, inode)
    limit = EXTENT_BLOCKS if inode.flags & InodeFlag.EXTENTS else mappable_blocks(volume.block_size)
    if inode.attrs.size > limit * volume.block_size:
        raise Corrupt(
            Damage.INODE_SIZE,
            of=inode.number,
            expected=f"at most {limit:#x} blocks",
            actual=inode.attrs.size,
        )
    if inode.flags & InodeFlag.EXTENTS:
        await _ExtentWalk(volume, inode, runs).walk_root()
    else:
        await _BlockMapWalk(volume, inode, runs).walk_root()
    commits = volume.fast_commits
    return commits.apply_ranges(inode.number, runs.finish(), volume.block_size, volume.offset)


class _FileRuns:
    """Collects what a map says, in the order of the file; fills holes."""

    def __init__(self, volume: Volume, inode: Inode) -> None:
        self._volume = volume
        self._ino = inode.number
        self._block_size = volume.block_size
        self._size = inode.attrs.size
        self._runs = RunBuilder()
        self._position = 0
        """Where the next block may be: behind the end of the file too, where nothing is kept."""

    @property
    def end(self) -> int:
        """Blocks of the file that matter."""
        return -(-self._size // self._block_size)

    def add(self, block: int, count: int, first: int | None) -> None:
        """Add blocks of the file; `first` is where they are in the volume, None for a hole.

        Raises Corrupt if they overlap what was added before or are not in the volume.
        """
        start = None if first is None else self._volume.offset(first, count)
        offset, length = block * self._block_size, count * self._block_size
        if offset < self._position:
            raise Corrupt(
                Damage.INODE_BLOCKS_OUT_OF_ORDER,
                of=self._ino,
                expected=f"block {self._position // self._block_size:#x} or later",
                actual=block,
            )
        self._append(offset - self._position, None)
        self._append(length, start)

    def _append(self, length: int, start: int | None) -> None:
        self._runs.add(min(length, self._size - self._position), start)
        self._position += length

    def finish(self) -> RunList:
        """Return the runs from 0 to the size of the file."""
        self._append(self._size - self._position, None)
        return self._runs.finish()


class _Nodes:
    """Fetches the nodes of one file's map, each at most once."""

    def __init__(self, volume: Volume, inode: Inode) -> None:
        self._volume = volume
        self._ino = inode.number
        self._seen: set[int] = set()

    async def fetch(self, blocks: Sequence[int]) -> list[bytes]:
        before = len(self._seen)
        self._seen.update(blocks)
        if len(self._seen) != before + len(blocks):
            raise Corrupt(Damage.INODE_BLOCK_OF_MAP_IS_USED_TWICE, of=self._ino)
        if len(self._seen) > MAX_NODES:
            raise Unsupported(f"a file with a map of more than {MAX_NODES} blocks")
        return await self._volume.read_blocks(blocks)


class _ExtentWalk:
    def __init__(self, volume: Volume, inode: Inode, runs: _FileRuns) -> None:
        self._inode = inode
        self._runs = runs
        self._nodes = _Nodes(volume, inode)
        self._block_size = volume.block_size
        superblock = volume.superblock
        self._seed = inode.checksum_seed(superblock) if superblock.metadata_checksums else None

    async def walk_root(self) -> None:
        root = decode_node(self._inode.block, self._inode.where + INODE.offset("block"))
        await self._walk(root, 0, EXTENT_BLOCKS)

    async def _walk(self, node: Node, first: int, end: int) -> None:
        """Add the extents under a node, which maps blocks from `first` on to before `end`."""
        for block, length, start in node.extents:
            if not (first <= block and length > 0 and block + length <= end):
                raise Corrupt(
                    Damage.INODE_EXTENT,
                    of=self._inode.number,
                    expected=f"within blocks {first:#x} to {end:#x}",
                    actual=f"{length:#x} blocks from {block:#x}",
                )
            # Those behind the end of the file are not part of it, but must be right too.
            self._runs.add(block, length, start)
        children = node.children
        limits = [child.block for child in children] + [end]
        if limits != sorted(set(limits)) or limits[0] < first:
            raise Corrupt(Damage.INODE_EXTENT_INDEX_OUT_OF_ORDER, of=self._inode.number)
        for batch in range(0, len(children), NODES_AT_ONCE):
            some = children[batch : batch + NODES_AT_ONCE]
            if some[0].block >= self._runs.end:
                return
            blocks = await self._nodes.fetch([child.child for child in some])
            for index, data in enumerate(blocks):
                where = some[index].child * self._block_size
                if self._seed is not None:
                    check_node_checksum(data, where, self._seed)
                child = decode_node(data, where, depth=node.depth - 1)
                first = limits[batch + index]
                self._check_start(child, first, where)
                await self._walk(child, first, limits[batch + index + 1])

    def _check_start(self, node: Node, first: int, where: int) -> None:
        """Raise Corrupt if a node does not start where its parent says."""
        starts = [entry.block for entry in node.children[:1]]
        starts += [extent.block for extent in node.extents[:1]]
        if starts not in ([], [first]):
            raise Corrupt(
                Damage.INODE_EXTENT_NODE_FIRST_BLOCK,
                where,
                of=self._inode.number,
                expected=first,
                actual=starts[0],
            )


class _BlockMapWalk:
    def __init__(self, volume: Volume, inode: Inode, runs: _FileRuns) -> None:
        self._volume = volume
        self._inode = inode
        self._runs = runs
        self._nodes = _Nodes(volume, inode)
        self._block_size = volume.block_size

    async def walk_root(self) -> None:
        for branch in decode_block_map(self._inode.block, self._block_size):
            if branch.block >= self._runs.end:
                if branch.pointer:
                    self._volume.offset(branch.pointer)
            elif branch.height == 0:
                self._add(branch.block, (branch.pointer,))
            elif branch.pointer:
                [data] = await self._nodes.fetch([branch.pointer])
                await self._walk(branch, data)

    async def _walk(self, branch: Branch, data: bytes) -> None:
        pointers = decode_pointers(data)
        if branch.height == 1:
            self._add(branch.block, pointers)
            return
        step = branch_blocks(branch.height - 1, self._block_size)
        children = [
            Branch(branch.height - 1, branch.block + index * step, pointer)
            for index, pointer in enumerate(pointers)
            if pointer and branch.block + index * step < self._runs.end
        ]
        for batch in range(0, len(children), NODES_AT_ONCE):
            some = children[batch : batch + NODES_AT_ONCE]
            blocks = await self._nodes.fetch([child.pointer for child in some])
            for child, child_data in zip(some, blocks, strict=True):
                await self._walk(child, child_data)

    def _add(self, block: int, pointers: tuple[int, ...]) -> None:
        """Add neighbouring blocks of the file; a pointer of 0 is a hole."""
        pointers = pointers[: self._runs.end - block]
        count = len(pointers)
        first = pointers[0]
        if (
            first
            and pointers[-1] == first + count - 1
            and pointers == tuple(range(first, first + count))
        ):
            self._runs.add(block, count, first)
            return
        position = 0
        while position < count:
            first = pointers[position]
            following = position + 1
            if first:
                while following < count and pointers[following] == first + following - position:
                    following += 1
                self._runs.add(block + position, following - position, first)
            position = following
