"""What LVM2 writes on a physical volume: the label, the header behind it, the header of a metadata area.

Source: lib/label/label.c, lib/format_text/layout.h of LVM2. All little-endian, offsets in bytes.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import pairwise

from vmount.parsers.errors import Corrupt, NotRecognised
from vmount.parsers.layout import Field, Layout
from vmount.parsers.reader import Buffer

SECTOR = 512
LABEL_SECTORS = 4
"""The label is in one of the first sectors."""
AREA_HEADER_SIZE = 512
MAX_AREAS = 8
"""Of a kind on a physical volume. LVM2 makes one or two."""
IGNORED = 1
"""Flag of a text location: this area is not in use."""

_LABEL_ID = b"LABELONE"
_LABEL_TYPE = b"LVM2 001"
_AREA_MAGIC = b" LVM2 x[5A%r0N*>"
_CRC_START = 0xF597A6CF

LABEL = Layout(
    "LVM2 label",
    Field("id", "8s", at=0x00, note="LABELONE"),
    Field("sector", "Q", at=0x08, note="of this label on the device"),
    Field("crc", "I", at=0x10, note="of the sector from content_offset's field on"),
    Field("content_offset", "I", at=0x14, note="offset_xl: bytes to pv_header"),
    Field("type", "8s", at=0x18, note="LVM2 001"),
    size=32,
    source="lvm2 lib/label/label.h struct label_header",
)
AREA_HEADER = Layout(
    "LVM2 metadata area header",
    Field("crc", "I", at=0x00, note="checksum_xl: of the rest of the sector"),
    Field("magic", "16s", at=0x04),
    Field("version", "I", at=0x14),
    Field("start", "Q", at=0x18, note="bytes on the device, of this header"),
    Field("size", "Q", at=0x20, note="bytes of the area, a ring behind the header"),
    Field("text_offset", "Q", at=0x28, note="raw_locns[0].offset: bytes from the header"),
    Field("text_size", "Q", at=0x30, note="bytes"),
    Field("text_crc", "I", at=0x38, note="checksum"),
    Field("text_flags", "I", at=0x3C, note="1: RAW_LOCN_IGNORED"),
    size=64,
    source="lvm2 lib/format_text/layout.h struct mda_header and raw_locn",
)
RANGE = Layout(
    "LVM2 area of a device",
    Field("offset", "Q", at=0x00, note="bytes from the device's start; 0: the list's end"),
    Field("size", "Q", at=0x08, note="bytes; 0 of a data area: to the device's end"),
    size=16,
    source="lvm2 lib/format_text/format-text.h struct disk_locn",
)
_RANGE = RANGE.whole()


@dataclass(frozen=True, slots=True)
class Range:
    """An area of a physical volume. A size of 0 is "up to the end"."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Label:
    """A label with the header that it leads to."""

    uuid: str
    size: int
    """Of the physical volume, in bytes, when it was made."""
    data_areas: tuple[Range, ...]
    metadata_areas: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class TextLocation:
    """Where the text of a metadata area is: `offset` counts from the area's start and may wrap."""

    offset: int
    size: int
    crc: int


def lvm_crc(data: Buffer, start: int = _CRC_START) -> int:
    """Return LVM2's checksum: CRC-32 with another initial value and without the final inversion."""
    return zlib.crc32(data, start ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def format_uuid(raw: bytes) -> str:
    """Return an LVM2 UUID as text: 32 characters in groups of 6-4-4-4-4-4-6."""
    text = raw.decode("ascii", "backslashreplace")
    ends = (0, 6, 10, 14, 18, 22, 26, 32)
    return "-".join(text[start:end] for start, end in pairwise(ends))


def find_label(data: Buffer) -> Label:
    """Decode the label in the first sectors of a device.

    Raises NotRecognised if none of them has one, Corrupt if the only one is damaged.
    """
    damage: Corrupt | None = None
    for number in range(min(LABEL_SECTORS, len(data) // SECTOR)):
        sector = bytes(data[number * SECTOR : (number + 1) * SECTOR])
        raw = LABEL.parse(sector)
        if raw.id != _LABEL_ID or raw.type != _LABEL_TYPE:
            continue
        try:
            return _decode_label(sector, number)
        except Corrupt as error:
            damage = error
    if damage is not None:
        raise damage
    raise NotRecognised("not an LVM2 label")


def _decode_label(sector: bytes, number: int) -> Label:
    where = number * SECTOR
    raw = LABEL.parse(sector)
    if raw.sector != number:
        raise Corrupt("LVM2 label: its sector number", where, expected=number, actual=raw.sector)
    crc = lvm_crc(sector[LABEL.offset("content_offset") :])
    if crc != raw.crc:
        raise Corrupt("LVM2 label: checksum", where, expected=raw.crc, actual=crc)
    position = raw.content_offset
    if not LABEL.size <= position <= SECTOR - 40:
        raise Corrupt("LVM2 label: offset of the header", where, actual=position)
    size = int.from_bytes(sector[position + 32 : position + 40], "little")
    data_areas, after = _ranges(sector, position + 40, where)
    metadata_areas, _ = _ranges(sector, after, where)
    uuid = format_uuid(sector[position : position + 32])
    return Label(uuid, size, data_areas, metadata_areas)


def _ranges(sector: bytes, position: int, where: int) -> tuple[tuple[Range, ...], int]:
    found: list[Range] = []
    while position + _RANGE.size <= SECTOR:
        offset, size = _RANGE.unpack_from(sector, position)
        position += _RANGE.size
        if offset == 0:
            return tuple(found), position
        if len(found) == MAX_AREAS:
            break
        found.append(Range(offset, size))
    raise Corrupt("LVM2 header: a list of areas without an end", where + position)


def decode_area_header(data: Buffer, where: int) -> TextLocation | None:
    """Decode the header of the metadata area at `where`; None if the area has no text in use."""
    if len(data) < AREA_HEADER_SIZE:
        raise Corrupt("LVM2 metadata area: no space for its header", where)
    raw = AREA_HEADER.parse(data)
    if raw.magic != _AREA_MAGIC:
        raise Corrupt("LVM2 metadata area: magic", where, actual=raw.magic)
    crc = lvm_crc(data[4:AREA_HEADER_SIZE])
    if crc != raw.crc:
        raise Corrupt("LVM2 metadata area: checksum", where, expected=raw.crc, actual=crc)
    if raw.version != 1:
        raise Corrupt("LVM2 metadata area: version", where, expected=1, actual=raw.version)
    if raw.start != where:
        raise Corrupt("LVM2 metadata area: its offset", where, expected=where, actual=raw.start)
    if raw.text_offset == 0 or raw.text_flags & IGNORED:
        return None
    return TextLocation(raw.text_offset, raw.text_size, raw.text_crc)
