"""Nodes of extent trees.

Source: Linux kernel documentation, filesystems/ext4, "Extent Tree".
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.ext.checksum import crc32c
from vmount.parsers.ext.errors import Damage
from vmount.parsers.layout import Field, Layout

MAX_DEPTH = 5
"""Five levels of the smallest blocks address all 2**32 blocks that a file can have."""
MAGIC = 0xF30A

HEADER = Layout(
    "ext4 extent header",
    Field("magic", "H", at=0x00, note="0xF30A"),
    Field("entries", "H", at=0x02),
    Field("maximum", "H", at=0x04, note="eh_max: entries that there is room for"),
    Field("depth", "H", at=0x06, note="levels below; 0: the entries are extents"),
    Field("generation", "I", at=0x08),
    size=12,
    source="Linux fs/ext4/ext4_extents.h struct ext4_extent_header",
)
EXTENT = Layout(
    "ext4 extent",
    Field("block", "I", at=0x00, note="first block in the file"),
    Field(
        "length",
        "H",
        at=0x04,
        note="ee_len: blocks; above 32768: 32768 more than blocks that are not written",
    ),
    Field("start_high", "H", at=0x06, note="upper 16 bits of the first block on the volume"),
    Field("start_low", "I", at=0x08),
    size=12,
    source="Linux fs/ext4/ext4_extents.h struct ext4_extent",
)
INDEX = Layout(
    "ext4 extent index",
    Field("block", "I", at=0x00, note="first block in the file below this entry"),
    Field("leaf_low", "I", at=0x04, note="ei_leaf_lo: block of the node below"),
    Field("leaf_high", "H", at=0x08),
    Field("unused", "2x", at=0x0A),
    size=12,
    source="Linux fs/ext4/ext4_extents.h struct ext4_extent_idx",
)
_pick_header = HEADER.picker("magic", "entries", "maximum", "depth").unpack_from
_iter_extents = EXTENT.picker("block", "length", "start_high", "start_low").iter_unpack
_iter_index = INDEX.whole().iter_unpack
_ENTRY_SIZE = EXTENT.size
MAX_INITIALISED = 32768
"""Blocks of an extent; a larger number stands for one that was never written."""


class Ext4Extent(NamedTuple):
    """Neighbouring blocks of a file that are neighbours in the volume."""

    block: int
    """In the file."""
    length: int
    """Blocks."""
    start: int | None
    """In the volume; None: allocated and never written, reads as zeros."""


class IndexEntry(NamedTuple):
    """A child of an inner node."""

    block: int
    """First block of the file that the child may map."""
    child: int
    """Block of the volume with the child node."""


class Node(NamedTuple):
    """A node; one of the two is empty."""

    depth: int
    extents: list[Ext4Extent]
    children: list[IndexEntry]


def decode_node(data: bytes, where: int, *, depth: int | None = None) -> Node:
    """Decode a node that lies at `where` in the volume and has all of `data` to itself.

    `depth` is its height over the leaves if that is known from its parent.
    Raises Corrupt if the header contradicts itself or the parent.
    """
    magic, entries, maximum, actual_depth = _pick_header(data)
    if magic != MAGIC:
        raise Corrupt(Damage.EXTENT_NODE_MAGIC, where, expected=MAGIC, actual=magic)
    fitting = (len(data) - HEADER.size) // _ENTRY_SIZE
    if not entries <= maximum <= fitting:
        raise Corrupt(
            Damage.EXTENT_NODE_ENTRIES,
            where,
            expected=f"at most {min(fitting, maximum)}",
            actual=max(maximum, entries),
        )
    if actual_depth > MAX_DEPTH if depth is None else actual_depth != depth:
        raise Corrupt(
            Damage.EXTENT_NODE_DEPTH,
            where,
            expected=f"at most {MAX_DEPTH}" if depth is None else depth,
            actual=actual_depth,
        )
    body = data[HEADER.size : HEADER.size + entries * _ENTRY_SIZE]
    if actual_depth:
        if not entries:
            raise Corrupt(Damage.EXTENT_NODE_WITHOUT_CHILDREN, where)
        children = [IndexEntry(block, low | high << 32) for block, low, high in _iter_index(body)]
        return Node(actual_depth, [], children)
    extents = [
        Ext4Extent(block, length, high << 32 | low)
        if length <= MAX_INITIALISED
        else Ext4Extent(block, length - MAX_INITIALISED, None)
        for block, length, high, low in _iter_extents(body)
    ]
    return Node(0, extents, [])


def check_node_checksum(data: bytes, where: int, seed: int) -> None:
    """Check the checksum that follows the last possible entry of a node in a block of its own.

    `seed` is the owning inode's. Raises Corrupt.
    """
    _, _, maximum, _ = _pick_header(data)
    end = HEADER.size + maximum * _ENTRY_SIZE
    if end + 4 > len(data):
        raise Corrupt(Damage.EXTENT_NODE_HAS_NO_SPACE_FOR_CHECKSUM, where)
    (stored,) = struct.unpack_from("<I", data, end)
    expected = crc32c(seed, data[:end])
    if stored != expected:
        raise Corrupt(Damage.EXTENT_NODE_CHECKSUM, where, expected=expected, actual=stored)
