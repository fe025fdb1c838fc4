"""B-trees of device-mapper's persistent data: nodes of 4 KiB with 64-bit keys.

Source: Linux kernel, drivers/md/persistent-data/dm-btree-internal.h, dm-block-manager.c.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import google_crc32c

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.lru import Lru

if TYPE_CHECKING:
    from vmount.parsers.reader import BlockSource, Buffer

BLOCK = 4096
MAX_DEPTH = 12
"""Of a tree: full nodes of 126 entries reach all 64-bit keys in ten levels."""
CACHED_NODES = 4096
"""Nodes kept decoded: some 60 MiB at most, the mapping of 60 GiB in 64 KiB blocks."""

NODE_SALT = 121107
_INTERNAL, _LEAF = 1, 2

NODE = Layout(
    "B-tree node",
    Field("checksum", "I", at=0x00, note="csum: crc32c of the rest of the block"),
    Field("flags", "I", at=0x04, note="1: internal; 2: leaf"),
    Field("block", "Q", at=0x08, note="blocknr: of this node"),
    Field("entries", "I", at=0x10, note="nr_entries"),
    Field("max_entries", "I", at=0x14),
    Field("value_size", "I", at=0x18, note="bytes"),
    Field("padding", "4x", at=0x1C),
    size=32,
    source="Linux drivers/md/persistent-data/dm-btree-internal.h struct node_header",
)
_HEADER = NODE.picker("flags", "block", "entries", "max_entries", "value_size")


class Node(NamedTuple):
    """A node. The values are block numbers of children, or what the leaf holds."""

    leaf: bool
    keys: tuple[int, ...]
    values: tuple[int, ...]
    """Empty in a leaf whose values are not of 8 bytes."""


class Leaf(NamedTuple):
    """A leaf and the first key that is no longer its own (None: it is the last one)."""

    node: Node
    end: int | None


def block_checksum(data: Buffer, salt: int) -> int:
    """Return the checksum of a metadata block: CRC-32C without final inversion, salted by its kind."""
    crc: int = google_crc32c.value(bytes(data[4:BLOCK]))
    return crc ^ 0xFFFFFFFF ^ salt


def decode_node(data: Buffer, block: int) -> Node:
    """Decode the node of that block number."""
    where = block * BLOCK
    stored = int.from_bytes(data[:4], "little")
    checksum = block_checksum(data, NODE_SALT)
    if stored != checksum:
        raise Corrupt("B-tree node: checksum", where, expected=stored, actual=checksum)
    flags, number, entries, most, value_size = _HEADER.unpack_from(data)
    if number != block:
        raise Corrupt("B-tree node: its block number", where, expected=block, actual=number)
    if flags not in (_INTERNAL, _LEAF):
        raise Corrupt("B-tree node: flags", where, actual=flags)
    if entries > most or NODE.size + most * (8 + value_size) > BLOCK:
        raise Corrupt("B-tree node: entries", where, expected=f"at most {most}", actual=entries)
    keys = struct.unpack_from(f"<{entries}Q", data, NODE.size)
    if any(first >= second for first, second in pairwise(keys)):
        raise Corrupt("B-tree node: keys out of order", where)
    values: tuple[int, ...] = ()
    if value_size == 8:
        values = struct.unpack_from(f"<{entries}Q", data, NODE.size + most * 8)
    elif flags == _INTERNAL:
        raise Corrupt("B-tree node: size of a child's number", where, expected=8, actual=value_size)
    return Node(flags == _LEAF, keys, values)


class Nodes:
    """The nodes of a metadata device, those used last kept decoded."""

    def __init__(self, source: BlockSource) -> None:
        self._source = source
        self._cache: Lru[int, Node] = Lru(CACHED_NODES)
        self.known = self._cache.get
        """Returns the node of a block if it takes no waiting."""

    async def load(self, block: int) -> Node:
        """Return a node."""
        node = self.known(block)
        if node is None:
            if block >= self._source.size // BLOCK:
                raise Corrupt("B-tree node beyond the metadata's end", block * BLOCK)
            node = decode_node(await self._source.read(block * BLOCK, BLOCK), block)
            self._cache.put(block, node)
        return node


class Descent:
    """The way from a root to the leaf that has, or would have, a key.

    `step` takes the node of `block` and returns whether the leaf is reached.
    """

    def __init__(self, root: int, key: int) -> None:
        self.block = root
        self.leaf: Leaf | None = None
        self._key = key
        self._end: int | None = None
        self._depth = 0

    def step(self, node: Node) -> bool:
        """Go down one level. Raises Corrupt if the tree is deeper than one can be."""
        if node.leaf:
            self.leaf = Leaf(node, self._end)
            return True
        self._depth += 1
        if self._depth == MAX_DEPTH or not node.keys:
            raise Corrupt("B-tree: too deep, or an empty node in it", self.block * BLOCK)
        index = max(bisect_right(node.keys, self._key) - 1, 0)
        if index + 1 < len(node.keys):
            self._end = node.keys[index + 1]
        self.block = node.values[index]
        return False


async def find_leaf(nodes: Nodes, root: int, key: int) -> Leaf:
    """Return the leaf that has, or would have, a key."""
    descent = Descent(root, key)
    while not descent.step(await nodes.load(descent.block)):
        pass
    assert descent.leaf is not None
    return descent.leaf


def find_known_leaf(nodes: Nodes, root: int, key: int) -> Leaf | None:
    """Return the leaf that has, or would have, a key, if it takes no waiting."""
    descent = Descent(root, key)
    while (node := nodes.known(descent.block)) is not None:
        if descent.step(node):
            return descent.leaf
    return None
