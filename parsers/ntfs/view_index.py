"""View indexes: the B+ trees that find something else than names, such as security descriptors by number.

They are built as directories are (index.py); an entry has data of its own where those of a directory
have the reference to a file.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "$Secure", "$O" and "$Q".
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.ntfs.attribute import INDEX_ROOT
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.ntfs.index import (
    HAS_CHILD,
    INDEX_BLOCK,
    INDEX_HEADER,
    INDEX_ROOT_HEAD,
    LAST,
    MAX_BLOCK,
    MIN_BLOCK,
)
from vmount.parsers.ntfs.index_blocks import IndexBlocks
from vmount.parsers.ntfs.stream import select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.ntfs.attribute import Attribute
    from vmount.parsers.ntfs.boot import Boot
    from vmount.parsers.reader import Reader

COLLATION_ULONG = 0x10
"""Keys are numbers of four bytes."""
COLLATION_ULONGS = 0x13
"""Keys are sequences of such numbers."""

VIEW_ENTRY = Layout(
    "entry of a view index",
    Field("data_offset", "H", at=0x00, note="from the start of the entry"),
    Field("data_length", "H", at=0x02, note="bytes"),
    Field("reserved", "4x", at=0x04),
    Field("length", "H", at=0x08, note="bytes of the entry"),
    Field("key_length", "H", at=0x0A, note="bytes of the key, which follows"),
    Field(
        "flags",
        "H",
        at=0x0C,
        note="1: a child's VCN is in the last 8 bytes; 2: the last entry, without a key",
    ),
    Field("pad", "2x", at=0x0E),
    size=16,
    source=(
        "reverse engineered: Linux-NTFS documentation (Russon, Fledel), Index Entry; "
        "ntfs-3g layout.h INDEX_ENTRY (view index)"
    ),
)

MOST_LEVELS = 64
"""Of a tree: one of blocks of 512 bytes that fills the largest volume has fewer."""

_header = INDEX_HEADER.picker("first_entry", "bytes_in_use").unpack_from
_entry = VIEW_ENTRY.picker(
    "data_offset", "data_length", "length", "key_length", "flags"
).unpack_from
_vcn = INDEX_BLOCK.picker("vcn").unpack_from


class ViewEntry(NamedTuple):
    """An entry of a view index."""

    key: tuple[int, ...]
    """Its numbers of four bytes; none of the last entry of a node."""
    data: bytes
    child: int | None
    """The VCN of the node with the keys before this one."""


class ViewIndex:
    """A view index of a file, whose keys are ordered as `collation` says. Raises Corrupt."""

    def __init__(
        self,
        reader: Reader,
        boot: Boot,
        attributes: Sequence[Attribute],
        name: str,
        collation: int,
    ) -> None:
        units = name.encode("utf-16-le")
        roots = select(attributes, INDEX_ROOT, units)
        if not roots:
            raise Corrupt(Damage.FILE_HAS_NO_INDEX, of=name)
        value = roots[0].value
        root = INDEX_ROOT_HEAD.parse(value)
        size = root.block_size
        if root.collation != collation:
            raise Corrupt(Damage.COLLATION_OF, of=name, expected=collation, actual=root.collation)
        if not MIN_BLOCK <= size <= MAX_BLOCK or size & (size - 1):
            raise Corrupt(Damage.INDEX_BLOCK_SIZE, expected="a power of two to 64 KiB", actual=size)
        self._root = decode_view_node(value, INDEX_ROOT_HEAD.size, len(value), 0)
        self._blocks = IndexBlocks(reader, boot, attributes, units, size)

    async def find(self, key: tuple[int, ...]) -> bytes | None:
        """Return the data of a key, None if it is not there. Raises Corrupt."""
        node = self._root
        for _ in range(MOST_LEVELS):
            entry = next((entry for entry in node if not entry.key or entry.key >= key), None)
            if entry is None:
                raise Corrupt(Damage.INDEX_NODE_HAS_NO_LAST_ENTRY)
            if entry.key == key:
                return entry.data
            if entry.child is None:
                return None
            block, where = await self._blocks.read(entry.child)
            (found,) = _vcn(block)
            if found != entry.child:
                raise Corrupt(Damage.VCN_OF_INDEX_BLOCK, where, expected=entry.child, actual=found)
            node = decode_view_node(block, INDEX_BLOCK.size, len(block), where)
        raise Corrupt(Damage.INDEX_LEADS_ROUND, expected=f"at most {MOST_LEVELS} levels")


def decode_view_node(data: bytes, header: int, limit: int, where: int) -> list[ViewEntry]:
    """Decode the node whose header is at `header` of `data` and that ends before `limit`.

    The last entry has no key. Raises Corrupt.
    """
    if header + INDEX_HEADER.size > limit:
        raise Corrupt(Damage.INDEX_NODE_HAS_NO_HEADER, where)
    first, in_use = _header(data, header)
    end = header + in_use
    if end > limit or first < INDEX_HEADER.size:
        raise Corrupt(Damage.BYTES_IN_USE_OF_INDEX_NODE, where, actual=in_use)
    position = header + first
    entries: list[ViewEntry] = []
    while position + VIEW_ENTRY.size <= end:
        offset, size, length, key_length, flags = _entry(data, position)
        after = position + length
        if length < VIEW_ENTRY.size or length & 7 or after > end:
            raise Corrupt(Damage.LENGTH_OF_INDEX_ENTRY, where, actual=length)
        child = None
        if flags & HAS_CHILD:
            if length < VIEW_ENTRY.size + 8:
                raise Corrupt(Damage.INDEX_ENTRY_HAS_NO_ROOM_FOR_CHILD, where, actual=length)
            child = int.from_bytes(data[after - 8 : after], "little")
        if flags & LAST:
            entries.append(ViewEntry((), b"", child))
            return entries
        if not key_length or key_length & 3 or VIEW_ENTRY.size + key_length > length:
            raise Corrupt(Damage.LENGTH_OF_KEY_IN_INDEX, where, actual=key_length)
        if offset + size > length:
            raise Corrupt(Damage.DATA_OUTSIDE_INDEX_ENTRY, where, actual=offset + size)
        at = position + VIEW_ENTRY.size
        key = struct.unpack_from(f"<{key_length // 4}I", data, at)
        entries.append(ViewEntry(key, data[position + offset : position + offset + size], child))
        position = after
    raise Corrupt(Damage.INDEX_NODE_DOES_NOT_END, where)
