"""MFT records: one or more for each file.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "FILE Record".
"""

from __future__ import annotations

from typing import NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.ntfs.attribute import STANDARD_INFORMATION, Attribute, decode_attributes
from vmount.parsers.ntfs.errors import Damage

MAGIC = b"FILE"

IN_USE = 1
DIRECTORY = 2

RECORD = Layout(
    "MFT record",
    Field("magic", "4s", at=0x00, note="FILE, or BAAD where chkdsk gave it up"),
    Field("array_offset", "H", at=0x04, note="usa_ofs"),
    Field("array_count", "H", at=0x06, note="usa_count"),
    Field("lsn", "Q", at=0x08, note="of $LogFile's last record about this one"),
    Field(
        "sequence",
        "H",
        at=0x10,
        note="sequence_number: counts the uses of the record; part of a reference to it",
    ),
    Field("links", "H", at=0x12, note="link_count: names, DOS names too"),
    Field("attributes_offset", "H", at=0x14, note="attrs_offset: from the start of the record"),
    Field("flags", "H", at=0x16, note="1: in use; 2: a directory"),
    Field("bytes_in_use", "I", at=0x18, note="of the record, from its start"),
    Field("bytes_allocated", "I", at=0x1C),
    Field(
        "base",
        "Q",
        at=0x20,
        note="base_mft_record: reference to the file's first record; 0: this is it",
    ),
    Field("next_instance", "H", at=0x28, note="next_attr_instance"),
    size=42,
    source=(
        "reverse engineered: Linux-NTFS documentation (Russon, Fledel), FILE Record; "
        "ntfs-3g layout.h MFT_RECORD"
    ),
)

_head = RECORD.picker(
    "sequence", "links", "attributes_offset", "flags", "bytes_in_use", "base"
).unpack_from
_new = tuple.__new__

_FIRST = STANDARD_INFORMATION.to_bytes(4, "little")

_MIN_HEAD = RECORD.offset("next_instance")
"""Where the attributes of the oldest volumes' records can begin."""

INO_MASK = (1 << 48) - 1
"""A reference is a record's number in 48 bits with its sequence number above them."""


class Record(NamedTuple):
    """An MFT record with its head decoded."""

    ino: int
    sequence: int
    """How often the record was given to another file."""
    links: int
    flags: int
    base: int
    """Reference to the file's first record if this is a further one, else 0."""
    data: bytes
    """Its bytes in use, fix-ups restored."""
    attributes_offset: int
    """Of the first attribute in `data`."""
    where: int
    """Of the record in the volume, for errors."""

    @property
    def attributes(self) -> list[Attribute]:
        """Its attributes, decoded at every call. Raises Corrupt."""
        return decode_attributes(self.data, self.attributes_offset, self.where)

    @property
    def in_use(self) -> bool:
        """Whether it holds a file at all."""
        return bool(self.flags & IN_USE)

    @property
    def is_first(self) -> bool:
        """Whether it is a file's first record. Only that one begins with $STANDARD_INFORMATION, so a damaged
        reference to another does not make it a further one."""
        at = self.attributes_offset
        return not self.base or self.data[at : at + 4] == _FIRST

    @property
    def is_directory(self) -> bool:
        """Whether the file has an index of names."""
        return bool(self.flags & DIRECTORY)


def decode_record(data: bytes, start: int, size: int, ino: int, where: int) -> Record:
    """Decode the head of the MFT record of `size` bytes at `start` of `data`, its fix-ups restored.

    `where` is its offset in the volume, for the error. Raises Corrupt.
    """
    sequence, links, attributes_offset, flags, in_use, base = _head(data, start)
    if in_use > size or not _MIN_HEAD <= attributes_offset <= in_use:
        raise Corrupt(Damage.BYTES_IN_USE_OF_MFT_RECORD, where, actual=in_use)
    return _new(
        Record,
        (
            ino,
            sequence,
            links,
            flags,
            base,
            data[start : start + in_use],
            attributes_offset,
            where,
        ),
    )


def matches(record: Record, reference: int) -> bool:
    """Tell whether a reference means what the record holds now.

    A sequence number of 0 in a reference fits any.
    """
    sequence = reference >> 48
    return (
        record.ino == reference & INO_MASK
        and bool(record.flags & IN_USE)
        and (sequence in (0, record.sequence))
    )
