"""Attribute lists: where the attributes of a file are that needs more than one MFT record."""

from __future__ import annotations

from typing import NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout

LIST_ENTRY = Layout(
    "attribute list entry",
    Field("type", "I"),
    Field("length", "H"),
    Field("name_length", "B"),
    Field("name_offset", "B"),
    Field("lowest_vcn", "Q"),
    Field("reference", "Q"),
    Field("instance", "H"),
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
            raise Corrupt("length of an attribute list entry", actual=length)
        entries.append(ListEntry(kind, lowest_vcn, reference, instance))
        position += length
    return entries
