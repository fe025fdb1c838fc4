"""Indexes: the B+ trees of names that directories are.

The root node is in $INDEX_ROOT, all others are index blocks in $INDEX_ALLOCATION. A node's entries are in
order of their names; each may have a child with the names before its own, and the last one has no name.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "$INDEX_ROOT" and "Index Header".
"""

from __future__ import annotations

from typing import NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.ntfs.attribute import FILE_NAME
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.ntfs.file_name import FILE_NAME_KEY

MAGIC = b"INDX"

COLLATION_FILE_NAME = 1

INDEX_HEADER = Layout(
    "index node header",
    Field(
        "first_entry",
        "I",
        at=0x00,
        note="entries_offset: from the start of this header, as both sizes",
    ),
    Field("bytes_in_use", "I", at=0x04, note="index_length"),
    Field("bytes_allocated", "I", at=0x08, note="allocated_size"),
    Field("flags", "B", at=0x0C, note="1: the node has children"),
    Field("pad", "3x", at=0x0D),
    size=16,
    source=(
        "reverse engineered: Linux-NTFS documentation (Russon, Fledel), $INDEX_ROOT; "
        "ntfs-3g layout.h INDEX_HEADER"
    ),
)

INDEX_ROOT_HEAD = Layout(
    "$INDEX_ROOT",
    Field(
        "attribute_type", "I", at=0x00, note="of the attribute that is indexed; 0 in a view index"
    ),
    Field("collation", "I", at=0x04, note="COLLATION_...: the order of the keys"),
    Field("block_size", "I", at=0x08, note="bytes of an index block"),
    Field("clusters_per_block", "B", at=0x0C, note="not used: block_size says it"),
    Field("pad", "3x", at=0x0D),
    size=16,
    source=(
        "reverse engineered: Linux-NTFS documentation (Russon, Fledel), $INDEX_ROOT; "
        "ntfs-3g layout.h INDEX_ROOT"
    ),
)

INDEX_BLOCK = Layout(
    "index block",
    Field("magic", "4s", at=0x00, note="INDX"),
    Field("array_offset", "H", at=0x04, note="usa_ofs"),
    Field("array_count", "H", at=0x06, note="usa_count"),
    Field("lsn", "Q", at=0x08, note="of $LogFile's last record about the block"),
    Field("vcn", "Q", at=0x10, note="index_block_vcn: of the block itself"),
    size=24,
    source=(
        "reverse engineered: Linux-NTFS documentation (Russon, Fledel), $INDEX_ALLOCATION; "
        "ntfs-3g layout.h INDEX_BLOCK"
    ),
)

INDEX_ENTRY = Layout(
    "index entry",
    Field("reference", "Q", at=0x00, note="indexed_file: to the file's MFT record"),
    Field("length", "H", at=0x08, note="bytes of the entry, a multiple of 8"),
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
        "ntfs-3g layout.h INDEX_ENTRY"
    ),
)

HAS_CHILD = 1
LAST = 2

MIN_BLOCK = 512
MAX_BLOCK = 64 << 10
"""Windows writes blocks of 4 KiB."""

_header = INDEX_HEADER.picker("first_entry", "bytes_in_use").unpack_from
_block = INDEX_BLOCK.picker("vcn").unpack_from
_entry = INDEX_ENTRY.picker("reference", "length", "key_length", "flags").unpack_from
_key = FILE_NAME_KEY.picker("parent", "file_attributes", "name_length", "namespace").unpack_from
_KEY = INDEX_ENTRY.size
_NAME = _KEY + FILE_NAME_KEY.size
_new = tuple.__new__


class IndexEntry(NamedTuple):
    """A name in a directory."""

    reference: int
    """To the file."""
    parent: int
    """Reference to the directory."""
    name: bytes
    """UTF-16LE."""
    namespace: int
    file_attributes: int
    child: int | None
    """The VCN of the node with the names before this one."""


class IndexNode(NamedTuple):
    """A node: entries in order, and the child with the names after all of them."""

    entries: list[IndexEntry]
    last_child: int | None


def decode_index_root(value: bytes) -> tuple[int, IndexNode]:
    """Decode the value of a directory's $INDEX_ROOT: the size of its index blocks, and the root node.

    Raises Corrupt.
    """
    root = INDEX_ROOT_HEAD.parse(value)
    size = root.block_size
    # Either says that it is a directory's: no other index of names has them in another order.
    if root.collation != COLLATION_FILE_NAME and root.attribute_type != FILE_NAME:
        raise Corrupt(
            Damage.COLLATION_OF_DIRECTORY, expected=COLLATION_FILE_NAME, actual=root.collation
        )
    if not MIN_BLOCK <= size <= MAX_BLOCK or size & (size - 1):
        raise Corrupt(Damage.INDEX_BLOCK_SIZE, expected="a power of two to 64 KiB", actual=size)
    return size, decode_node(value, INDEX_ROOT_HEAD.size, len(value), 0)


def _is_filled(length: int, name_length: int, flags: int) -> bool:
    """Tell whether a name of `name_length` units makes an entry of just this length.

    Then the name is known without the key's length.
    """
    return length == (_NAME + 2 * name_length + 7 & ~7) + (8 if flags & HAS_CHILD else 0)


def decode_index_block(data: bytes, start: int, size: int, vcn: int, where: int) -> IndexNode:
    """Decode the index block at `start` of `data`, its fix-ups restored.

    `vcn` is what it must say that it is; `where` is its offset in the directory's index. Raises Corrupt.
    """
    (found,) = _block(data, start)
    if found != vcn:
        raise Corrupt(Damage.VCN_OF_INDEX_BLOCK, where, expected=vcn, actual=found)
    return decode_node(data, start + INDEX_BLOCK.size, start + size, where)


def decode_node(data: bytes, header: int, limit: int, where: int) -> IndexNode:
    """Decode the node whose header is at `header` of `data` and that ends before `limit`.

    Raises Corrupt.
    """
    if header + INDEX_HEADER.size > limit:
        raise Corrupt(Damage.INDEX_NODE_HAS_NO_HEADER, where)
    first, in_use = _header(data, header)
    end = header + in_use
    if end > limit or first < INDEX_HEADER.size:
        raise Corrupt(Damage.BYTES_IN_USE_OF_INDEX_NODE, where, actual=in_use)
    position = header + first
    entries: list[IndexEntry] = []
    child: int | None = None
    while position + _KEY <= end:
        reference, length, key_length, flags = _entry(data, position)
        if length < _KEY or length & 7 or position + length > end:
            raise Corrupt(Damage.LENGTH_OF_INDEX_ENTRY, where, actual=length)
        if flags & HAS_CHILD:
            if length < _KEY + 8:
                raise Corrupt(Damage.INDEX_ENTRY_HAS_NO_ROOM_FOR_CHILD, where, actual=length)
            child = int.from_bytes(data[position + length - 8 : position + length], "little")
        else:
            child = None
        if flags & LAST:
            return IndexNode(entries, child)
        if length < _NAME + 2:
            raise Corrupt(Damage.LENGTH_OF_NAME_IN_INDEX, where, actual=key_length)
        parent, attributes, name_length, namespace = _key(data, position + _KEY)
        at = position + _NAME
        after = at + 2 * name_length
        key_end = position + _KEY + key_length
        if (name_length == 0 or after > key_end or key_length + _KEY > length) and not (
            name_length and _is_filled(length, name_length, flags)
        ):
            raise Corrupt(
                Damage.NAME_IN_INDEX, where, actual=f"{name_length} units in {key_length} bytes"
            )
        entries.append(
            _new(IndexEntry, (reference, parent, data[at:after], namespace, attributes, child))
        )
        position += length
    raise Corrupt(Damage.INDEX_NODE_DOES_NOT_END, where)
