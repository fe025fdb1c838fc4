"""Reading a physical volume: its label, and the newest text of its metadata areas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, ParseError
from vmount.parsers.lvm.group import VolumeGroup, decode_group
from vmount.parsers.lvm.label import (
    AREA_HEADER_SIZE,
    LABEL_SECTORS,
    SECTOR,
    Range,
    TextLocation,
    decode_area_header,
    find_label,
    lvm_crc,
)
from vmount.parsers.reader import Span

if TYPE_CHECKING:
    from vmount.parsers.reader import Reader

MAX_TEXT = 16 << 20
"""Bytes of text in all metadata areas of a physical volume.

LVM2 bounds a text by its area alone: old and new one must fit beside each other, so that it has less than
half of the area (max_size in _vg_write_raw, lib/format_text/format-text.c). An area has 1 MiB by default
(metadata/pvmetadatasize in lvm.conf(5)). The largest known, those of oVirt, have 128 MiB and texts of a few MiB, as a
volume takes some 500 bytes of it.
"""


@dataclass(frozen=True, slots=True)
class PhysicalVolume:
    """A physical volume as it describes itself."""

    uuid: str
    group: VolumeGroup | None
    """From its own metadata; None if it keeps none, or it cannot be read."""
    problems: tuple[str, ...]
    """Damage of its metadata areas."""
    reader: Reader
    keeps_metadata: bool
    """Whether it has room for the metadata of its group: one that has, and no group, is not in use."""


async def read_pv(reader: Reader) -> PhysicalVolume:
    """Read a device's label and metadata. Raises NotRecognised if it is no physical volume.

    Raises Corrupt if its label is damaged; a damaged metadata area is one of the `problems`.
    """
    label = find_label(await reader.read(0, min(LABEL_SECTORS * SECTOR, reader.size)))
    newest: VolumeGroup | None = None
    problems: list[str] = []
    reader.prefetch([Span(area.offset, AREA_HEADER_SIZE) for area in label.metadata_areas])
    known: bytes | None = None
    left = MAX_TEXT
    for area in label.metadata_areas:
        try:
            text = await _read_area(reader, area, left)
            # The second area of a volume has the text of the first.
            if text is None or text == known:
                continue
            known = text
            left -= len(text)
            group = decode_group(text.rstrip(b"\0").decode("utf-8", "surrogateescape"))
        except ParseError as error:
            problems.append(str(error))
            continue
        if newest is None or group.seqno > newest.seqno:
            newest = group
    return PhysicalVolume(label.uuid, newest, tuple(problems), reader, bool(label.metadata_areas))


async def _read_area(reader: Reader, area: Range, limit: int) -> bytes | None:
    """Return the text of an area, None if it has none. Raises Corrupt if it has more than `limit` bytes."""
    location = decode_area_header(await reader.read(area.offset, AREA_HEADER_SIZE), area.offset)
    if location is None:
        return None
    if location.size > limit:
        raise Corrupt(
            "LVM2 metadata: size of the text",
            area.offset + location.offset,
            expected=f"at most {limit} bytes",
            actual=location.size,
        )
    size = min(area.size or reader.size, reader.size - area.offset)
    text = bytearray()
    for span in text_spans(location, area.offset, size):
        text += await reader.read(*span)
    crc = lvm_crc(text)
    where = area.offset + location.offset
    if crc != location.crc:
        raise Corrupt("LVM2 metadata: checksum", where, expected=location.crc, actual=crc)
    return bytes(text)


def text_spans(location: TextLocation, start: int, size: int) -> list[Span]:
    """Return where the text is on the device; it goes on behind the area's header at the area's end."""
    where = start + location.offset
    ring = size - AREA_HEADER_SIZE
    if not AREA_HEADER_SIZE <= location.offset < size or location.size > min(ring, MAX_TEXT):
        raise Corrupt("LVM2 metadata: offset of the text", where, actual=location.size)
    first = min(location.size, size - location.offset)
    spans = [Span(where, first)]
    if first < location.size:
        spans.append(Span(start + AREA_HEADER_SIZE, location.size - first))
    return spans
