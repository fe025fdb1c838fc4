"""A volume group as its metadata text describes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.lvm.text import parse_text

if TYPE_CHECKING:
    from vmount.parsers.lvm.text import Section

SECTOR = 512
MAX_EXTENT = 1 << 40
"""Bytes. LVM2's largest is 16 GiB."""
MAX_EXTENTS = 1 << 32
"""Of a volume: LVM2 counts them in 32 bits."""


@dataclass(frozen=True, slots=True)
class PvEntry:
    """A physical volume, as its group sees it."""

    name: str
    """In the text: pv0, pv1 ..."""
    uuid: str
    start: int
    """Bytes from the start of the device to the first extent."""
    extents: int
    missing: bool
    """It was absent when the group was written last."""

    @property
    def title(self) -> str:
        """What a message calls it."""
        return f"{self.name} ({self.uuid})"


@dataclass(frozen=True, slots=True)
class Segment:
    """Extents of a logical volume that follow each other and are laid out alike."""

    start: int
    extents: int
    type: str
    section: Section
    """The rest, which depends on the type."""


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """A logical volume; many are parts of others and not meant to be seen."""

    name: str
    uuid: str
    visible: bool
    segments: tuple[Segment, ...]
    """In order, without gaps."""

    @property
    def extents(self) -> int:
        """How many it has."""
        return sum(segment.extents for segment in self.segments)


@dataclass(frozen=True, slots=True)
class VolumeGroup:
    """One version of the metadata of a volume group."""

    name: str
    uuid: str
    seqno: int
    """Grows with every change."""
    extent_size: int
    """Bytes."""
    pvs: dict[str, PvEntry]
    """By their names in the text."""
    lvs: dict[str, LogicalVolume]


def decode_group(text: str) -> VolumeGroup:
    """Decode metadata text. Raises Corrupt, Unsupported."""
    root = parse_text(text)
    if root.values.get("contents", "Text Format Volume Group") != "Text Format Volume Group":
        raise Unsupported(f"LVM2 metadata of kind {root.values['contents']!r}")
    if root.number("version", 1) != 1:
        raise Unsupported(f"LVM2 metadata of version {root.values['version']}")
    if len(root.sections) != 1:
        raise Corrupt("LVM2 metadata: volume groups", expected=1, actual=len(root.sections))
    group = next(iter(root.sections.values()))
    extent_size = group.number("extent_size") * SECTOR
    if not 0 < extent_size <= MAX_EXTENT:
        raise Corrupt("LVM2 metadata: extent size", actual=extent_size)
    pvs = [_decode_pv(section) for section in group.section("physical_volumes").sections.values()]
    lvs: list[LogicalVolume] = []
    if "logical_volumes" in group.sections:
        lvs = [
            _decode_lv(section) for section in group.section("logical_volumes").sections.values()
        ]
    return VolumeGroup(
        group.name,
        group.string("id"),
        group.number("seqno"),
        extent_size,
        {pv.name: pv for pv in pvs},
        {lv.name: lv for lv in lvs},
    )


def _decode_pv(section: Section) -> PvEntry:
    return PvEntry(
        section.name,
        section.string("id"),
        section.number("pe_start", 0) * SECTOR,
        section.number("pe_count"),
        "MISSING" in section.strings("flags") or "MISSING" in section.strings("status"),
    )


def _decode_lv(section: Section) -> LogicalVolume:
    segments = [
        Segment(
            part.number("start_extent"),
            part.number("extent_count"),
            # Options follow the type after a "+", as in "thin-pool+METADATA_FORMAT".
            part.string("type").partition("+")[0],
            part,
        )
        for part in section.sections.values()
        if part.name.startswith("segment")
    ]
    segments.sort(key=lambda segment: segment.start)
    end = 0
    for segment in segments:
        if segment.start != end or not 0 < segment.extents <= MAX_EXTENTS:
            raise Corrupt(
                f"LVM2 metadata: {section.name}: segments with gaps or overlaps",
                expected=end,
                actual=segment.start,
            )
        end += segment.extents
    return LogicalVolume(
        section.name,
        section.string("id"),
        "VISIBLE" in section.strings("status"),
        tuple(segments),
    )
