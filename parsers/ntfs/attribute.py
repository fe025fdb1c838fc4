"""Attribute records: what an MFT record is made of.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "Attribute Header".
"""

from __future__ import annotations

from typing import NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.ntfs.errors import Damage

STANDARD_INFORMATION = 0x10
ATTRIBUTE_LIST = 0x20
FILE_NAME = 0x30
OBJECT_ID = 0x40
SECURITY_DESCRIPTOR = 0x50
VOLUME_NAME = 0x60
VOLUME_INFORMATION = 0x70
DATA = 0x80
INDEX_ROOT = 0x90
INDEX_ALLOCATION = 0xA0
BITMAP = 0xB0
REPARSE_POINT = 0xC0
EA = 0xE0
END = 0xFFFFFFFF

I30 = "$I30".encode("utf-16-le")
"""The name of the attributes that make up a directory."""

COMPRESSED_MASK = 0x00FF
LZNT1 = 0x0001
ENCRYPTED = 0x4000
SPARSE = 0x8000

ATTRIBUTE = Layout(
    "attribute record",
    Field("type", "I", at=0x00),
    Field("length", "I", at=0x04, note="bytes of the whole record, header and value"),
    Field("nonresident", "B", at=0x08, note="0: the value is in the record; 1: it is in clusters"),
    Field("name_length", "B", at=0x09, note="UTF-16 code units; 0: no name"),
    Field("name_offset", "H", at=0x0A, note="from the start of the record"),
    Field(
        "flags", "H", at=0x0C, note="compression in the low byte, 0x4000 encrypted, 0x8000 sparse"
    ),
    Field("instance", "H", at=0x0E, note="number of the attribute, unique in its MFT record"),
    size=16,
    source=(
        "reverse engineered: Linux-NTFS documentation (Russon, Fledel), Attribute Header; "
        "ntfs-3g layout.h ATTR_RECORD"
    ),
)

RESIDENT = Layout(
    "resident attribute record",
    *ATTRIBUTE.fields,
    Field("value_length", "I", at=0x10, note="bytes"),
    Field("value_offset", "H", at=0x14, note="from the start of the record"),
    Field("indexed", "B", at=0x16, note="resident_flags: 1: the value is the key of an index"),
    Field("pad", "1x", at=0x17),
    size=24,
    source=(
        "reverse engineered: Linux-NTFS documentation (Russon, Fledel), Attribute Header; "
        "ntfs-3g layout.h ATTR_RECORD"
    ),
)

NONRESIDENT = Layout(
    "non-resident attribute record",
    *ATTRIBUTE.fields,
    Field("lowest_vcn", "q", at=0x10, note="first VCN of this extent of the attribute"),
    Field("highest_vcn", "q", at=0x18, note="last VCN of this extent; -1: it has no clusters"),
    Field(
        "mapping_offset",
        "H",
        at=0x20,
        note="mapping_pairs_offset: of the run list, from the start of the record",
    ),
    Field("compression_unit", "B", at=0x22, note="log2 of clusters in a unit; 0: not compressed"),
    Field("pad", "5x", at=0x23),
    Field(
        "allocated_size",
        "q",
        at=0x28,
        note="bytes; in the first extent only, as the two sizes behind it",
    ),
    Field("data_size", "q", at=0x30, note="bytes that a reader sees"),
    Field("initialized_size", "q", at=0x38, note="bytes; from here to data_size reads as zeros"),
    size=64,
    source=(
        "reverse engineered: Linux-NTFS documentation (Russon, Fledel), Attribute Header; "
        "ntfs-3g layout.h ATTR_RECORD"
    ),
)

COMPRESSED_SIZE = Layout(
    "non-resident attribute record of compressed or sparse data",
    *NONRESIDENT.fields,
    Field("compressed_size", "q", at=0x40, note="bytes that clusters are allocated for"),
    size=72,
    source=(
        "reverse engineered: Linux-NTFS documentation (Russon, Fledel), Attribute Header; "
        "ntfs-3g layout.h ATTR_RECORD"
    ),
)

_common = ATTRIBUTE.picker(
    "type", "length", "nonresident", "name_length", "name_offset", "flags", "instance"
).unpack_from
_resident = RESIDENT.picker("value_length", "value_offset").unpack_from
_vcns = NONRESIDENT.picker("lowest_vcn", "highest_vcn", "mapping_offset").unpack_from
_lowest = NONRESIDENT.picker("lowest_vcn").unpack_from
_unit = NONRESIDENT.picker("compression_unit").unpack_from
_sizes = NONRESIDENT.picker(
    "mapping_offset", "allocated_size", "data_size", "initialized_size"
).unpack_from
_compressed = COMPRESSED_SIZE.picker("compressed_size").unpack_from
_new = tuple.__new__


class Sizes(NamedTuple):
    """The sizes of an attribute in bytes."""

    size: int
    valid: int
    """From here to `size` it reads as zeros."""
    allocated: int
    """On the disk; of a resident attribute as ntfs-3g's st_blocks has it, in whole blocks of 512."""


class Attribute(NamedTuple):
    """An attribute record, or one extent of an attribute that has several."""

    record: bytes
    """The MFT record that it is in."""
    start: int
    """In `record`."""
    length: int
    type: int
    name: bytes
    """UTF-16LE."""
    nonresident: int
    flags: int
    instance: int

    @property
    def value(self) -> bytes:
        """The bytes of a resident attribute. Raises Corrupt."""
        if self.nonresident:
            raise Corrupt(Damage.ATTRIBUTE_IS_NOT_RESIDENT, expected="resident", actual=self.type)
        length, offset = _resident(self.record, self.start)
        if offset < RESIDENT.size or offset + length > self.length:
            raise Corrupt(Damage.RESIDENT_VALUE_OUTSIDE_ATTRIBUTE, actual=offset + length)
        at: int = self.start + offset
        return self.record[at : at + length]

    @property
    def lowest_vcn(self) -> int:
        """The first cluster of the attribute that this extent maps."""
        if not self.nonresident:
            return 0
        vcn: int = _lowest(self.record, self.start)[0]
        return vcn

    @property
    def mapping(self) -> tuple[int, int, bytes]:
        """The clusters [first, next) of this extent, and its run list. Raises Corrupt."""
        lowest, highest, offset = _vcns(self.record, self.start)
        if not NONRESIDENT.size <= offset <= self.length:
            raise Corrupt(Damage.RUN_LIST_OUTSIDE_ATTRIBUTE, actual=offset)
        if lowest < 0 or highest < lowest - 1:
            raise Corrupt(
                Damage.CLUSTERS_OF_ATTRIBUTE, expected=f"from {lowest:#x}", actual=highest
            )
        return lowest, highest + 1, self.record[self.start + offset : self.start + self.length]

    @property
    def compression_unit(self) -> int:
        """The binary logarithm of the clusters in a compression unit."""
        unit: int = _unit(self.record, self.start)[0]
        return unit

    @property
    def sizes(self) -> Sizes:
        """Sizes of the whole attribute, which its first extent has. Raises Corrupt."""
        record, start = self.record, self.start
        if not self.nonresident:
            length = _resident(record, start)[0]
            return Sizes(length, length, length + 511 & ~511)
        mapping, allocated, size, valid = _sizes(record, start)
        if self.flags & (COMPRESSED_MASK | SPARSE) and mapping >= COMPRESSED_SIZE.size:
            allocated = _compressed(record, start)[0]
        if size < 0 or allocated < 0 or not 0 <= valid <= size:
            raise Corrupt(Damage.SIZES_OF_ATTRIBUTE, actual=f"{valid:#x} of {size:#x}")
        return Sizes(size, valid, allocated)


def decode_attributes(record: bytes, position: int, where: int) -> list[Attribute]:
    """Decode the heads of all attributes in an MFT record, up to the mark that ends them.

    `record` ends where the bytes in use do; `where` is its offset, for the error. Raises Corrupt.
    """
    attributes: list[Attribute] = []
    end = len(record)
    while position + 16 <= end:
        kind, length, nonresident, name_length, name_offset, flags, instance = _common(
            record, position
        )
        if kind == END:
            return attributes
        if length < 24 or length & 7 or position + length > end or (nonresident and length < 64):
            raise Corrupt(Damage.ATTRIBUTE_LENGTH, where + position, actual=length)
        name = b""
        if name_length:
            if name_offset + 2 * name_length > length:
                raise Corrupt(Damage.ATTRIBUTE_NAME_OUTSIDE_ATTRIBUTE, where + position)
            at = position + name_offset
            name = record[at : at + 2 * name_length]
        attributes.append(
            _new(Attribute, (record, position, length, kind, name, nonresident, flags, instance))
        )
        position += length
    if record[position : position + 4] != b"\xff\xff\xff\xff":
        raise Corrupt(Damage.ATTRIBUTES_OF_RECORD_DO_NOT_END, where + position)
    return attributes
