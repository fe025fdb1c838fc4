"""Attribute lists: where the attributes of a file are that needs more than one MFT record.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "$ATTRIBUTE_LIST".
"""

from __future__ import annotations

from typing import NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.ntfs.errors import Damage

LIST_ENTRY = Layout(
    "attribute list entry",
    Field("type", "I", at=0x00),
    Field("length", "H", at=0x04, note="bytes of the entry with its name"),
    Field("name_length", "B", at=0x06, note="UTF-16 code units"),
    Field("name_offset", "B", at=0x07, note="from the start of the entry"),
    Field(
        "lowest_vcn",
        "Q",
        at=0x08,
        note="of the extent; 0 for the first and for resident attributes",
    ),
    Field(
        "reference", "Q", at=0x10, note="mft_reference: to the MFT record that has the attribute"
    ),
    Field("instance", "H", at=0x18, note="of the attribute in that record"),
    size=26,
    source=(
        "reverse engineered: Linux-NTFS documentation (Russon, Fledel), $ATTRIBUTE_LIST; "
        "ntfs-3g layout.h ATTR_LIST_ENTRY"
    ),
)

MAX_SIZE = 256 << 10
"""Bytes that Windows lets an attribute list have."""

_entry = LIST_ENTRY.picker("type", "length", "lowest_vcn", "reference", "instance").unpack_from


class ListEntry(NamedTuple):
    """One attribute, or one extent of it."""

    type: int
    lowest_vcn: int
    reference: int
    """To the MFT record that has it."""
    instance: int
    """Of the attribute in that record."""


def decode_attribute_list(data: bytes) -> list[ListEntry]:
    """Decode the value of an attribute list. Raises Corrupt."""
    entries: list[ListEntry] = []
    position, end = 0, len(data)
    while position + LIST_ENTRY.size <= end:
        kind, length, lowest_vcn, reference, instance = _entry(data, position)
        if length < LIST_ENTRY.size or position + length > end:
            raise Corrupt(Damage.LENGTH_OF_ATTRIBUTE_LIST_ENTRY, actual=length)
        entries.append(ListEntry(kind, lowest_vcn, reference, instance))
        position += length
    return entries
