"""Reading a directory: all of its names at once, or the way down its tree to one.

Strategy: a listing reads every index block that the directory's bitmap says is in use, in one sweep in
the order of the disk; blocks read together have their fix-ups checked together. A lookup reads one block
a level. Names that differ in case only are equal to the order of the tree, so a lookup visits all of
those, which lie side by side. Nodes that lookups went through are kept decoded, damaged ones too.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "$INDEX_ALLOCATION" and "$BITMAP".
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt
from vmount.parsers.lru import Lru
from vmount.parsers.ntfs.attribute import BITMAP, I30, INDEX_ROOT
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.ntfs.fixup import restore, restore_all
from vmount.parsers.ntfs.index import (
    MAGIC,
    IndexEntry,
    IndexNode,
    decode_index_block,
    decode_index_root,
)
from vmount.parsers.ntfs.index_blocks import IndexBlocks
from vmount.parsers.ntfs.mft import MAX_GAP, MAX_READ
from vmount.parsers.ntfs.names import collation_key
from vmount.parsers.ntfs.stream import Stream, select
from vmount.parsers.reader import let_others_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from vmount.parsers.ntfs.attribute import Attribute
    from vmount.parsers.ntfs.boot import Boot
    from vmount.parsers.reader import Reader

MAX_BITMAP = 128 << 10
"""Bytes: the bitmap of an index of 4 GiB, which has some 30 million names."""


BLOCKS_A_TURN = 32
"""Blocks decoded before others get a turn: about a thousand names."""
MOST_NODES = 1 << 10
"""That a lookup goes through: one a level, and more only for names that differ in case alone."""

ENTRIES_KEPT = 1 << 16
"""Entries in all nodes that are kept: some 20 MiB."""

_NODE_WEIGHT = 8
"""Entries that a node without any takes as much memory as."""


class NodeCache(Lru[tuple[int, int], "IndexNode | Corrupt"]):
    """Nodes of a volume's directories, by the number of the directory and the node's VCN."""

    def __init__(self) -> None:
        super().__init__(ENTRIES_KEPT, _node_weight)


def _node_weight(node: IndexNode | Corrupt) -> int:
    return _NODE_WEIGHT + (0 if isinstance(node, Corrupt) else len(node.entries))


class Directory:
    """The index of names of one directory.

    `nodes` keeps decoded nodes, of it by its number `ino`, and those of other directories.
    """

    def __init__(
        self,
        reader: Reader,
        boot: Boot,
        attributes: Sequence[Attribute],
        ino: int = 0,
        nodes: NodeCache | None = None,
    ) -> None:
        self._reader = reader
        self._ino = ino
        self._nodes = NodeCache() if nodes is None else nodes
        roots = select(attributes, INDEX_ROOT, I30)
        if not roots:
            raise Corrupt(Damage.DIRECTORY_HAS_NO_INDEX_ROOT)
        size, self._root = decode_index_root(roots[0].value)
        self._blocks = IndexBlocks(reader, boot, attributes, I30, size)
        bitmap = select(attributes, BITMAP, I30)
        self._bitmap = Stream(bitmap, boot) if bitmap else None
        self.weight = sum(
            len(stream.map) for stream in (self._blocks.stream, self._bitmap) if stream is not None
        )
        """Runs of its index: what it takes in memory."""

    async def entries(self) -> list[IndexEntry]:
        """Return all entries, in the order of the disk. Raises Corrupt."""
        entries = list(self._root.entries)
        count = 0
        async for node in self._used_blocks():
            entries += node.entries
            count += 1
            if not count % BLOCKS_A_TURN:
                await let_others_run(self._reader, len(entries))
        return entries

    async def candidates(self, name: bytes, upcase: Sequence[int]) -> list[IndexEntry]:
        """Return the entries whose names are `name` (UTF-16LE) but for case. Raises Corrupt."""
        key = collation_key(name, upcase)
        found: list[IndexEntry] = []
        todo: list[IndexNode | int] = [self._root]
        seen: set[int] = set()
        while todo:
            node = todo.pop()
            if isinstance(node, int):
                if node in seen:
                    raise Corrupt(Damage.INDEX_BLOCK_IS_OWN_ANCESTOR_OR_TWICE_IN_TREE, actual=node)
                seen.add(node)
                if len(seen) > MOST_NODES:
                    raise Corrupt(Damage.INDEX_HAS_TOO_MANY_NODES_FOR_ONE_NAME, expected=MOST_NODES)
                node = await self._block(node)
            entries = node.entries
            index = bisect_left(entries, key, key=lambda e: collation_key(e.name, upcase))
            while index < len(entries):
                entry = entries[index]
                if entry.child is not None:
                    todo.append(entry.child)
                if collation_key(entry.name, upcase) != key:
                    break
                found.append(entry)
                index += 1
            else:
                if node.last_child is not None:
                    todo.append(node.last_child)
        return found

    async def _block(self, vcn: int) -> IndexNode:
        """Return the node at a VCN. Raises Corrupt."""
        key = self._ino, vcn
        node = self._nodes.get(key)
        if node is None:
            try:
                block, where = await self._blocks.read(vcn)
                node = decode_index_block(block, 0, self._blocks.size, vcn, where)
            except Corrupt as error:
                node = error
            self._nodes.put(key, node)
        if isinstance(node, Corrupt):
            raise node.with_traceback(None)
        return node

    async def _used_blocks(self) -> AsyncIterator[IndexNode]:
        blocks, size = self._blocks.stream, self._blocks.size
        if blocks is None:
            return
        if self._bitmap is None:
            raise Corrupt(Damage.DIRECTORY_HAS_INDEX_BLOCKS_AND_NO_BITMAP)
        bits = await self._bitmap.read_all(self._reader, MAX_BITMAP)
        ranges = list(_coalesce(_set_bits(bits), size))
        if ranges and (ranges[-1][-1] + 1) * size > blocks.valid:
            raise Corrupt(Damage.INDEX_BLOCK_OUTSIDE_INDEX, ranges[-1][-1] * size)
        extents = [(used[0] * size, (used[-1] - used[0] + 1) * size) for used in ranges]
        self._reader.prefetch([span for at, n in extents for span in blocks.map.spans(at, n)])
        for used, (offset, length) in zip(ranges, extents, strict=True):
            data = bytearray(await blocks.read(self._reader, offset, length))
            if not restore_all(data, size, MAGIC):
                for index in used:
                    at = index * size - offset
                    block = data[at : at + size]
                    restore(block, MAGIC, index * size)
                    data[at : at + size] = block
            restored = bytes(data)
            for index in used:
                where = index * size
                vcn = where // self._blocks.vcn_size
                yield decode_index_block(restored, where - offset, size, vcn, where)


def _set_bits(bits: bytes) -> Iterator[int]:
    """Yield the numbers of the bits that are set, from the lowest."""
    for at, byte in enumerate(bits):
        if byte:
            for bit in range(8):
                if byte >> bit & 1:
                    yield at * 8 + bit


def _coalesce(blocks: Iterator[int], size: int) -> Iterator[list[int]]:
    """Group block numbers into reads."""
    group: list[int] = []
    for block in blocks:
        if group and (
            (block - group[-1] - 1) * size > MAX_GAP or (block + 1 - group[0]) * size > MAX_READ
        ):
            yield group
            group = []
        group.append(block)
    if group:
        yield group
