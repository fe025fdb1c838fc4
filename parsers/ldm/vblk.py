"""The records of an LDM database.

Strategy: a record lies in one VBLK or in several fragments, anywhere among the others. `Fragments` puts
them together; `parse_record` decodes what is then one run of bytes: fields of variable size, each number
and text with its length in front. What comes behind the fields known here is left alone.
Source: Linux-NTFS project, "LDM Documentation", "VBLK".
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from typing import TypeAlias

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.layout import Field, Layout
from vmount.parsers.reader import Buffer

VBLK = Layout(
    "VBLK",
    Field("magic", "4s", at=0x00, note="VBLK"),
    Field("number", "I", at=0x04, note="sequence number of the place"),
    Field("group", "I", at=0x08, note="the same in all fragments of a record"),
    Field("index", "H", at=0x0C, note="rec: of this fragment"),
    Field("count", "H", at=0x0E, note="nrec: fragments of the record"),
    byte_order=">",
    size=16,
    source=(
        "Linux-LDM documentation (reverse engineered), VBLK; "
        "Linux block/partitions/ldm.h struct vblk_head"
    ),
)
"""In front of every fragment. A place with a count of 0 is free."""

RECORD = Layout(
    "VBLK record",
    Field("status", "H", at=0x00, note="update status"),
    Field("flags", "B", at=0x02, note="which optional fields the record has"),
    Field("type", "B", at=0x03, note="kind of object and version: Volume 0x51 ..."),
    Field("size", "I", at=0x04, note="bytes behind this header"),
    byte_order=">",
    size=8,
    source=(
        "Linux-LDM documentation (reverse engineered), VBLK; "
        "Linux block/partitions/ldm.c ldm_parse_vblk"
    ),
)
"""In front of every record. The upper four bits of the type are its revision."""

_HEAD = VBLK.picker("magic", "group", "index", "count")

NOT_YET_ACTIVE = 2
"""Status of a record that an unfinished change was about to add."""

HAS_STRIPES = 0x10
HAS_COLUMN = 0x08
HAS_ID_1 = 0x08
HAS_ID_2 = 0x20
HAS_SECOND_SIZE = 0x80
HAS_DRIVE_HINT = 0x02

STRIPED, SPANNED, RAID5 = 1, 2, 3
"""Types of components."""

MOST_FRAGMENTS = 64
"""A record of the largest fields takes fewer than 32 of 128 bytes."""


@dataclass(frozen=True)
class VolumeRecord:
    """A volume. Size in sectors."""

    id: int
    name: str
    type: str
    """ "gen" or "raid5"."""
    state: str
    components: int
    size: int
    partition_type: int
    """As in an MBR."""
    guid: str
    drive_hint: str | None


@dataclass(frozen=True)
class ComponentRecord:
    """One copy of a volume (a plex)."""

    id: int
    name: str
    state: str
    type: int
    partitions: int
    volume: int
    chunk: int
    """Sectors; 0 where there are no stripes."""
    columns: int


@dataclass(frozen=True)
class PartitionRecord:
    """A piece of a component on a disk (a subdisk). In sectors."""

    id: int
    name: str
    start: int
    """From the start of the disk's data."""
    offset: int
    """In its column, or in the component where there are no stripes."""
    size: int
    component: int
    disk: int
    column: int


@dataclass(frozen=True)
class DiskRecord:
    """A member of the group, there or not."""

    id: int
    name: str
    guid: str


@dataclass(frozen=True)
class GroupRecord:
    """The group itself."""

    id: int
    name: str


Record: TypeAlias = VolumeRecord | ComponentRecord | PartitionRecord | DiskRecord | GroupRecord


class Fragments:
    """Puts records together from the VBLKs of a database, in any order."""

    def __init__(self) -> None:
        self._open: dict[int, dict[int, bytes]] = {}
        self._counts: dict[int, int] = {}
        self._broken: set[int] = set()

    @property
    def unfinished(self) -> int:
        """Records of which a part has not come yet."""
        return len(self._open)

    def add(self, vblk: Buffer) -> bytes | None:
        """Take a VBLK; return a record that it completes.

        Raises Corrupt for one that does not fit the others of its record, or is no VBLK.
        """
        magic, group, index, count = _HEAD.unpack_from(vblk)
        if magic != b"VBLK":
            raise Corrupt("VBLK signature", expected=b"VBLK", actual=magic)
        if count == 0:
            return None
        data = bytes(vblk[VBLK.size :])
        if count > MOST_FRAGMENTS or index >= count:
            raise Corrupt(f"VBLK is fragment {index} of {count}")
        if count == 1:
            return data
        parts = self._open.setdefault(group, {})
        if (
            group in self._broken
            or index in parts
            or self._counts.setdefault(group, count) != count
        ):
            self._broken.add(group)
            raise Corrupt(f"the fragments of record {group} do not match")
        parts[index] = data
        if len(parts) < count:
            return None
        del self._open[group], self._counts[group]
        return b"".join(parts[index] for index in range(count))


class _Cursor:
    """Takes fields off a record. Every `take` raises Corrupt at its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, length: int) -> bytes:
        end = self._position + length
        if end > len(self._data):
            raise Corrupt("VBLK record ends early", self._position, expected=length)
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def number(self) -> int:
        """Take a number of up to 8 bytes with its length in front."""
        length = self.take(1)[0]
        if length > 8:
            raise Corrupt("VBLK number of more than 8 bytes", self._position - 1, actual=length)
        return int.from_bytes(self.take(length), "big")

    def text(self) -> str:
        """Take a text with its length in front."""
        return self.take(self.take(1)[0]).decode(errors="backslashreplace")

    def fixed(self, length: int) -> int:
        """Take a number of that many bytes."""
        return int.from_bytes(self.take(length), "big")


def parse_record(data: bytes) -> Record | None:
    """Decode a record; None for one that is not in force yet.

    Raises Corrupt if it ends early, Unsupported for a type or revision that is not known.
    """
    head = RECORD.parse(data)
    if head.status == NOT_YET_ACTIVE:
        return None
    if head.size > len(data) - RECORD.size:
        raise Corrupt("VBLK record size", RECORD.offset("size"), actual=head.size)
    cursor = _Cursor(data[RECORD.size : RECORD.size + head.size])
    match head.type & 0x0F, head.type >> 4:
        case (1, 5):
            return _volume(cursor, head.flags)
        case (2, 3):
            return _component(cursor, head.flags)
        case (3, 3):
            return _partition(cursor, head.flags)
        case (4, 3):
            return DiskRecord(cursor.number(), cursor.text(), cursor.text().lower())
        case (4, 4):
            return DiskRecord(cursor.number(), cursor.text(), str(uuid.UUID(bytes=cursor.take(16))))
        case (5, 3 | 4):
            return GroupRecord(cursor.number(), cursor.text())
    raise Unsupported(f"VBLK record of type {head.type:#x}")


def _volume(cursor: _Cursor, flags: int) -> VolumeRecord:
    number, name, kind = cursor.number(), cursor.text(), cursor.text()
    cursor.text()
    state = cursor.take(14).split(b"\0", 1)[0].decode(errors="backslashreplace")
    cursor.take(1 + 1 + 1 + 3 + 1)  # type, unknown, number, zeros, flags
    components = cursor.number()
    cursor.take(8 + 8)  # identifiers of changes
    size = cursor.number()
    cursor.take(4)
    partition_type = cursor.fixed(1)
    guid = str(uuid.UUID(bytes=cursor.take(16)))
    if flags & HAS_ID_1:
        cursor.text()
    if flags & HAS_ID_2:
        cursor.text()
    if flags & HAS_SECOND_SIZE:
        cursor.number()
    hint = cursor.text() if flags & HAS_DRIVE_HINT else None
    return VolumeRecord(number, name, kind, state, components, size, partition_type, guid, hint)


def _component(cursor: _Cursor, flags: int) -> ComponentRecord:
    number, name, state = cursor.number(), cursor.text(), cursor.text()
    kind = cursor.fixed(1)
    cursor.take(4)
    partitions = cursor.number()
    cursor.take(8 + 8)  # identifier of a change, zeros
    volume = cursor.number()
    cursor.take(1)
    chunk, columns = (cursor.number(), cursor.number()) if flags & HAS_STRIPES else (0, 1)
    return ComponentRecord(number, name, state, kind, partitions, volume, chunk, columns)


def _partition(cursor: _Cursor, flags: int) -> PartitionRecord:
    number, name = cursor.number(), cursor.text()
    cursor.take(4 + 8)  # zeros, identifier of a change
    start, offset = struct.unpack(">QQ", cursor.take(16))
    size, component, disk = cursor.number(), cursor.number(), cursor.number()
    column = cursor.number() if flags & HAS_COLUMN else 0
    return PartitionRecord(number, name, start, offset, size, component, disk, column)
