"""From the segments of logical volumes to device maps.

Strategy: a volume's parts are resolved before it, each once. What an array's own metadata says of its
images was read before (`ArrayState`), so that nothing here reads.
Source: lvm2, lib/*/ (the text of each segment type); lvmraid(7), lvmthin(7), lvmcache(7).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, ParseError, Unsupported
from vmount.parsers.lvm.device_map import DeviceMap, Mapped, Snapshot, Thin, depth_of
from vmount.parsers.lvm.group import SECTOR, LogicalVolume, Segment, VolumeGroup
from vmount.parsers.lvm.raid import PARITY_LAYOUTS, RaidSuperblock, judge
from vmount.parsers.lvm.thin import ThinDevice
from vmount.parsers.volume_map import (
    Area,
    Mirror,
    Missing,
    Parity,
    Raid10,
    Stripe,
    VolumeMap,
    Zero,
    length_of,
    weight_of,
)
from vmount.parsers.volume_map_slices import concat, slice_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_DEPTH = 16
"""Of volumes made of volumes. LVM2 needs some six."""
MAX_PARTS = 1 << 17
"""Of all volumes of a group that are made of others, counted again for each use. The text grows with the
volumes, what is made of them may double with each: thirty lines would make more than fits in memory."""
MAX_LEVELS = 3 * MAX_DEPTH
"""Of mappings in each other: concatenated, striped and mirrored parts at each depth."""
MAX_IMAGES = 253
"""Of an array (dm-raid)."""

THROUGH = ("writethrough", "passthrough")
"""Cache modes in which the origin has all that was written."""


@dataclass(frozen=True)
class ArrayState:
    """What was read from the devices about the volumes of a group."""

    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes, of the devices."""
    superblocks: dict[str, RaidSuperblock | ParseError | None] = field(default_factory=dict)
    """By the name of a metadata volume: of arrays. Absent if its device is."""
    synced_logs: frozenset[str] = frozenset()
    """Mirror logs that say that all copies are the same."""


class Resolver:
    """Makes device maps for the volumes of a group.

    `devices` gives the caller's name of the device of each physical volume that is there, by the name that
    the volume has in the group.
    """

    def __init__(self, group: VolumeGroup, devices: dict[str, str], state: ArrayState) -> None:
        self._group = group
        self._devices = devices
        self._witness = state
        self._done: dict[str, DeviceMap | ParseError] = {}
        self._under_way: set[str] = set()
        self._parts_left = MAX_PARTS
        self._snapshots = {
            segment.section.string("cow_store"): segment
            for _, segment in segments_of(group, "snapshot")
            if "cow_store" in segment.section.values
        }
        self._merging = {
            segment.section.string(name)
            for _, segment in segments_of(group, "snapshot")
            if "merging_store" in segment.section.values
            for name in ("origin", "merging_store")
        }
        for lv, segment in segments_of(group, "thin"):
            if "merge" in segment.section.values:
                self._merging |= {lv.name, segment.section.string("merge")}

    def resolve(self, name: str) -> DeviceMap:
        """Return the device map of a volume. Raises Corrupt, Unsupported."""
        if name not in self._done:
            if name in self._under_way or len(self._under_way) == MAX_DEPTH:
                raise Corrupt(f"LVM2 metadata: {name[:80]} contains itself, or is nested too deep")
            self._under_way.add(name)
            try:
                self._done[name] = self._resolve(name)
            except ParseError as error:
                self._done[name] = error
            finally:
                self._under_way.remove(name)
        found = self._done[name]
        if isinstance(found, ParseError):
            raise found
        return found

    def mapping(self, name: str) -> VolumeMap:
        """Return the mapping of a volume of which others are made."""
        device_map = self.resolve(name)
        if not isinstance(device_map, Mapped):
            raise Unsupported("a volume made of a thin volume or a snapshot")
        parts, levels = weight_of(device_map.mapping)
        self._parts_left -= parts
        if self._parts_left < 0 or levels > MAX_LEVELS:
            raise Corrupt(f"LVM2 metadata: {name[:80]} has too many parts")
        return device_map.mapping

    def _origin(self, name: str) -> DeviceMap:
        """Return the device map of what a thin volume or snapshot is based on."""
        device_map = self.resolve(name)
        if depth_of(device_map) >= MAX_DEPTH:
            raise Corrupt(f"LVM2 metadata: {name[:80]} is based on too many others")
        return device_map

    def _resolve(self, name: str) -> DeviceMap:
        lv = self._group.lvs.get(name)
        if lv is None:
            raise Corrupt(f"LVM2 metadata: no volume {name[:80]!r}")
        if name in self._merging:
            raise Unsupported("a snapshot that is being merged")
        snapshot = self._snapshots.get(name)
        if snapshot is None:
            return self._plain(lv)
        device_map = self._plain(lv)
        if not isinstance(device_map, Mapped):
            raise Unsupported("a snapshot whose store is a thin volume")
        size = snapshot.extents * self._group.extent_size
        return Snapshot(self._origin(snapshot.section.string("origin")), device_map.mapping, size)

    def _plain(self, lv: LogicalVolume) -> DeviceMap:
        if not lv.segments:
            raise Corrupt(f"LVM2 metadata: {lv.name} has no segments")
        if len(lv.segments) == 1 and lv.segments[0].type == "thin":
            return self._thin(lv.segments[0])
        parts = []
        for segment in lv.segments:
            part = self._segment(segment)
            size = segment.extents * self._group.extent_size
            if length_of(part) != size:
                raise Corrupt(
                    f"LVM2 metadata: size of a segment of {lv.name}",
                    expected=size,
                    actual=length_of(part),
                )
            parts.append(part)
        return Mapped(concat(parts))

    def _segment(self, segment: Segment) -> VolumeMap:
        if segment.type in PARITY_LAYOUTS or segment.type in ("raid1", "raid10", "raid10_near"):
            return self._raid(segment)
        kinds: dict[str, Callable[[Segment], VolumeMap]] = {
            "striped": self._striped,
            "linear": self._striped,
            "raid0": self._raid0,
            "raid0_meta": self._raid0,
            "mirror": self._mirror,
            "cache": self._cache,
            "zero": lambda segment: Zero(segment.extents * self._group.extent_size),
        }
        kind = kinds.get(segment.type)
        if kind is None:
            raise Unsupported(f"LVM2 segment type {segment.type[:80]!r}")
        return kind(segment)

    def _striped(self, segment: Segment) -> VolumeMap:
        areas = segment.section.pairs("stripes")
        if not areas or len(areas) != segment.section.number("stripe_count"):
            raise Corrupt("LVM2 metadata: number of stripes", actual=len(areas))
        extents = _share(segment.extents, len(areas))
        columns = [self._area(name, start, extents) for name, start in areas]
        return columns[0] if len(columns) == 1 else self._stripe(columns, segment)

    def _raid0(self, segment: Segment) -> VolumeMap:
        names = segment.section.strings("raid0_lvs")
        if not names:
            names = segment.section.strings("raids")[1::2]
        if not names:
            raise Corrupt("LVM2 metadata: an array without images")
        extents = _share(segment.extents, len(names))
        return self._stripe([self._area(name, 0, extents) for name in names], segment)

    def _stripe(self, columns: list[VolumeMap], segment: Segment) -> VolumeMap:
        return Stripe(tuple(columns), self._chunk(segment))

    def _chunk(self, segment: Segment) -> int:
        chunk = segment.section.number("stripe_size") * SECTOR
        if not chunk:
            raise Corrupt("LVM2 metadata: stripe size", actual=0)
        return chunk

    def _mirror(self, segment: Segment) -> VolumeMap:
        areas = segment.section.pairs("mirrors")
        if not areas:
            raise Corrupt("LVM2 metadata: a mirror without copies")
        copies = [self._area(name, start, segment.extents) for name, start in areas]
        log = segment.section.string("mirror_log", "")
        # The first copy is the one that is always right; the log tells of the others.
        return Mirror(tuple(copies if log in self._witness.synced_logs else _only_first(copies)))

    def _raid(self, segment: Segment) -> VolumeMap:
        names = segment.section.strings("raids")
        count = len(names) // 2
        if not 0 < count <= MAX_IMAGES or len(names) % 2:
            raise Corrupt("LVM2 metadata: images of an array", actual=len(names))
        layout, parities = PARITY_LAYOUTS.get(segment.type, (None, 0))
        if segment.type == "raid1":
            extents = segment.extents
        elif layout is None:
            copies = segment.section.number("data_copies", 2)
            extents = _share(segment.extents * copies, count)
        else:
            if count <= parities:
                raise Corrupt("LVM2 metadata: images of an array", actual=count)
            extents = _share(segment.extents, count - parities)
        images, in_sync = self._images(names[::2], names[1::2], extents)
        if segment.type == "raid1":
            return Mirror(tuple(images if in_sync else _only_first(images)))
        chunk = self._chunk(segment)
        if not in_sync and any(isinstance(image, Missing) for image in images):
            raise Unsupported("an array that lacks a member and was never synchronised")
        if layout is None:
            copies = segment.section.number("data_copies", 2)
            return Raid10(tuple(images), chunk, copies, in_sync=in_sync)
        return Parity(tuple(images), chunk, layout, parities, in_sync)

    def _images(
        self, metadata: Sequence[str], data: Sequence[str], extents: int
    ) -> tuple[list[VolumeMap], bool]:
        """Return an array's images, those that cannot be trusted as missing, and whether it is in sync."""
        superblocks: list[RaidSuperblock | None] = []
        for name in metadata:
            superblock = self._witness.superblocks.get(name)
            if isinstance(superblock, Unsupported):
                raise superblock
            superblocks.append(None if isinstance(superblock, ParseError) else superblock)
        trust = judge(superblocks)
        images: list[VolumeMap] = []
        for index, (name, offset) in enumerate(zip(data, trust.data_offsets, strict=True)):
            length = extents * self._group.extent_size
            image = self.mapping(name)
            if index in trust.stale and not isinstance(image, Missing):
                images.append(Missing(f"{name}, which is out of date", length))
            else:
                images.append(slice_of(image, offset, length))
        return images, trust.in_sync

    def _cache(self, segment: Segment) -> VolumeMap:
        pool = segment.section.string("cache_pool")
        mode = segment.section.string("cache_mode", "")
        if not mode and pool in self._group.lvs:
            for part in self._group.lvs[pool].segments:
                mode = part.section.string("cache_mode", mode)
        if mode not in THROUGH:
            raise Unsupported(
                f"a cache in {mode[:20] or 'unknown'} mode", remedy="lvconvert --splitcache"
            )
        return self._area(segment.section.string("origin"), 0, segment.extents)

    def _thin(self, segment: Segment) -> DeviceMap:
        section = segment.section
        name = section.string("thin_pool")
        lv = self._group.lvs.get(name)
        if lv is None or len(lv.segments) != 1 or lv.segments[0].type != "thin-pool":
            raise Corrupt(f"LVM2 metadata: no thin pool {name[:80]!r}")
        pool = lv.segments[0].section
        device = ThinDevice(
            section.number("device_id"),
            segment.extents * self._group.extent_size,
            pool.number("chunk_size") * SECTOR,
            pool.number("transaction_id"),
        )
        origin = section.string("external_origin", "")
        return Thin(
            device,
            self.mapping(pool.string("metadata")),
            self.mapping(pool.string("pool")),
            self._origin(origin) if origin else None,
        )

    def _area(self, name: str, start: int, extents: int) -> VolumeMap:
        """Return extents of a physical or logical volume."""
        size = self._group.extent_size
        pv = self._group.pvs.get(name)
        if pv is None:
            return slice_of(self.mapping(name), start * size, extents * size)
        if start + extents > pv.extents:
            raise Corrupt(
                f"LVM2 metadata: extents beyond the end of {pv.title}",
                expected=f"at most {pv.extents}",
                actual=start + extents,
            )
        device = self._devices.get(name)
        if device is None:
            return Missing(f"physical volume {pv.title}", extents * size)
        area = Area(device, pv.start + start * size, extents * size)
        if area.start + area.length > self._witness.sizes.get(device, 0):
            raise Corrupt(
                f"{pv.title} is shorter than its volume group says",
                expected=area.start + area.length,
                actual=self._witness.sizes.get(device, 0),
            )
        return area


def segments_of(group: VolumeGroup, *types: str) -> list[tuple[LogicalVolume, Segment]]:
    """Return all segments of those types, with their volumes."""
    return [
        (lv, segment)
        for lv in group.lvs.values()
        for segment in lv.segments
        if segment.type in types
    ]


def _share(extents: int, columns: int) -> int:
    if extents % columns:
        raise Corrupt("LVM2 metadata: extents that columns do not share evenly", actual=extents)
    return extents // columns


def _only_first(copies: list[VolumeMap]) -> list[VolumeMap]:
    """Return the first of copies that need not be the same: it is the one that others are made from."""
    if isinstance(copies[0], Missing) and len(copies) > 1:
        raise Unsupported("a mirror that lacks its first copy and was never synchronised")
    return copies[:1]
