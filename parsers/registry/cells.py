"""What the cells of a hive hold: keys, values, lists of subkeys. Decoders of a cell's content."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.reader import check_bounds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmount.parsers.reader import Buffer

NONE = 0xFFFFFFFF
"""The offset of a cell that is not there."""

KEY = Layout(
    "key",
    Field("magic", "2s", at=0x00, note="nk"),
    Field("flags", "H", at=0x02, note="4: the root; 0x20: the name is Latin-1"),
    Field("written", "Q", at=0x04, note="FILETIME"),
    Field("access", "I", at=0x0C),
    Field(
        "parent",
        "I",
        at=0x10,
        note="cell offset, from the end of the base block, as the others; all bits set: none",
    ),
    Field("subkey_count", "I", at=0x14),
    Field("volatile_subkey_count", "I", at=0x18),
    Field("subkeys", "I", at=0x1C, note="cell offset of the list"),
    Field("volatile_subkeys", "I", at=0x20),
    Field("value_count", "I", at=0x24),
    Field("values", "I", at=0x28, note="cell offset of the list"),
    Field("security", "I", at=0x2C, note="cell offset"),
    Field("class_name", "I", at=0x30, note="cell offset"),
    Field("largest_subkey_name", "I", at=0x34, note="bytes"),
    Field("largest_subkey_class", "I", at=0x38),
    Field("largest_value_name", "I", at=0x3C),
    Field("largest_value_data", "I", at=0x40),
    Field("work", "I", at=0x44, note="WorkVar: not used"),
    Field("name_length", "H", at=0x48, note="bytes; the name follows"),
    Field("class_length", "H", at=0x4A, note="bytes"),
    size=76,
    source=(
        "reverse engineered: Windows registry file format specification (Maxim Suhanov), Key node"
    ),
)

VALUE = Layout(
    "value",
    Field("magic", "2s", at=0x00, note="vk"),
    Field("name_length", "H", at=0x02, note="bytes; the name follows; 0: the default value"),
    Field("data_size", "I", at=0x04, note="bytes; bit 31: the data is in the next field"),
    Field("data", "4s", at=0x08, note="cell offset, or up to 4 bytes of data"),
    Field("type", "I", at=0x0C, note="REG_..."),
    Field("flags", "H", at=0x10, note="1: the name is Latin-1"),
    Field("spare", "H", at=0x12),
    size=20,
    source=(
        "reverse engineered: Windows registry file format specification (Maxim Suhanov), Key value"
    ),
)

LIST = Layout(
    "list of subkeys",
    Field("magic", "2s", at=0x00, note="lf, lh, li or ri"),
    Field("count", "H", at=0x02, note="elements, which follow"),
    size=4,
    source=(
        "reverse engineered: Windows registry file format specification (Maxim Suhanov), "
        "Subkeys list"
    ),
)

BIG_DATA = Layout(
    "big data",
    Field("magic", "2s", at=0x00, note="db"),
    Field("count", "H", at=0x02, note="segments"),
    Field("segments", "I", at=0x04, note="cell offset of the list of segments"),
    size=8,
    source=(
        "reverse engineered: Windows registry file format specification (Maxim Suhanov), Big data"
    ),
)

BIG_DATA_SEGMENT = 16344
"""Bytes of a value in each segment of big data; a value that fits in one has no segments."""

KEY_NAME_IN_LATIN_1 = 0x20
VALUE_NAME_IN_LATIN_1 = 0x01
INLINE = 0x80000000
"""In the size of a value's data: it is in the place of the offset."""

_key = KEY.picker(
    "magic",
    "flags",
    "written",
    "subkey_count",
    "subkeys",
    "value_count",
    "values",
    "name_length",
)
_value = VALUE.picker("magic", "name_length", "data_size", "data", "type", "flags")
_list = LIST.picker("magic", "count")
_big_data = BIG_DATA.picker("magic", "count", "segments")


class Key(NamedTuple):
    """A key. Offsets are those of cells."""

    name: str
    written: int
    """When it was changed last, as a FILETIME."""
    subkey_count: int
    subkeys: int
    """A list of subkeys; meaningless without any."""
    value_count: int
    values: int
    """A list of values; meaningless without any."""
    where: int
    """Offset of its cell."""


class ValueCell(NamedTuple):
    """A value, without its data if that is in another cell."""

    name: str
    """Empty: the key's default value."""
    type: int
    size: int
    """Bytes of data."""
    inline: bytes | None
    data: int
    """The cell of the data, unless it is inline."""


class SubkeyList(NamedTuple):
    """A leaf (lf, lh, li) or an index of leaves (ri)."""

    kind: bytes
    offsets: tuple[int, ...]
    hashes: tuple[int, ...] | None
    """Of an lh: `name_hash` of each name."""


def decode_key(cell: Buffer, where: int) -> Key:
    """Decode the content of a key's cell. `where` is for errors, and kept. Raises Corrupt."""
    _check(cell, KEY, b"nk", where)
    _, flags, written, subkey_count, subkeys, value_count, values, length = _key.unpack_from(cell)
    name = _name(cell, KEY.size, length, bool(flags & KEY_NAME_IN_LATIN_1))
    return Key(name, written, subkey_count, subkeys, value_count, values, where)


def decode_value(cell: Buffer, where: int) -> ValueCell:
    """Decode the content of a value's cell. Raises Corrupt."""
    _check(cell, VALUE, b"vk", where)
    _, name_length, size, data, kind, flags = _value.unpack_from(cell)
    name = _name(cell, VALUE.size, name_length, bool(flags & VALUE_NAME_IN_LATIN_1))
    if size & INLINE:
        size &= ~INLINE
        if size > len(data):
            raise Corrupt("size of inline data", where, expected=len(data), actual=size)
        return ValueCell(name, kind, size, data[:size], NONE)
    return ValueCell(name, kind, size, None, int.from_bytes(data, "little"))


def decode_subkey_list(cell: Buffer, where: int) -> SubkeyList:
    """Decode the content of a cell with a list of subkeys. Raises Corrupt."""
    check_bounds(0, LIST.size, len(cell))
    kind, count = _list.unpack_from(cell)
    if kind in (b"lf", b"lh"):
        check_bounds(LIST.size, 8 * count, len(cell))
        words = struct.unpack_from(f"<{2 * count}I", cell, LIST.size)
        return SubkeyList(kind, words[::2], words[1::2] if kind == b"lh" else None)
    if kind in (b"li", b"ri"):
        check_bounds(LIST.size, 4 * count, len(cell))
        return SubkeyList(kind, struct.unpack_from(f"<{count}I", cell, LIST.size), None)
    raise Corrupt("list of subkeys", where, expected="lf, lh, li or ri", actual=kind)


def decode_offsets(cell: Buffer, count: int) -> tuple[int, ...]:
    """Decode a cell that holds nothing but offsets: a list of values, or of segments."""
    check_bounds(0, 4 * count, len(cell))
    return struct.unpack_from(f"<{count}I", cell)


def decode_big_data(cell: Buffer, where: int) -> tuple[int, int]:
    """Return the number of segments and the cell that lists them. Raises Corrupt."""
    _check(cell, BIG_DATA, b"db", where)
    _, count, segments = _big_data.unpack_from(cell)
    return count, segments


def upper(name: str) -> str:
    """Return a name as it is compared: each character by itself, none made into one of ASCII's."""
    return "".join(_upper(name)) if not name.isascii() else name.upper()


def name_hash(name: str) -> int:
    """Return the hash that an lh list has of a name."""
    total = 0
    for character in upper(name):
        total = (total * 37 + ord(character)) & 0xFFFFFFFF
    return total


def _upper(name: str) -> Iterator[str]:
    for character in name:
        changed = character.upper()
        single = len(changed) == 1 and changed.isascii() == character.isascii()
        yield changed if single else character


def _check(cell: Buffer, layout: Layout, magic: bytes, where: int) -> None:
    check_bounds(0, layout.size, len(cell))
    if cell[:2] != magic:
        raise Corrupt(f"cell of a {layout.name}", where, expected=magic, actual=bytes(cell[:2]))


def _name(cell: Buffer, start: int, length: int, latin_1: bool) -> str:
    check_bounds(start, length, len(cell))
    raw = bytes(cell[start : start + length])
    if latin_1:
        return raw.decode("latin-1")
    return raw[: length & ~1].decode("utf-16-le", "surrogatepass")
