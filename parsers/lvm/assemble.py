"""From physical volumes to volume groups and their logical volumes.

Strategy: devices are gathered by the UUID of their group. A group in which a physical volume is seen twice
was cloned: the first of each make one group, the second of each another, in the order they were given. In
each, the newest metadata counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmount.parsers.copies import partition_by_copy
from vmount.parsers.errors import ParseError
from vmount.parsers.lvm.array_state import read_array_state
from vmount.parsers.lvm.device_map import (
    Build,
    DeviceMap,
    Mapped,
    is_whole,
    missing_in,
    open_device_map,
)
from vmount.parsers.lvm.segments import Resolver, segments_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.lvm.group import LogicalVolume, VolumeGroup
    from vmount.parsers.lvm.physical import PhysicalVolume
    from vmount.parsers.reader import BlockSource
    from vmount.parsers.volume_map import VolumeMap

_NOT_VOLUMES = ("snapshot", "thin-pool", "cache-pool", "vdo-pool")
"""Segment types of what has no bytes for a user."""


@dataclass(frozen=True, slots=True)
class LvmVolume:
    """A logical volume that a user would see."""

    group: str
    """Name of the volume group."""
    name: str
    uuid: str
    group_uuid: str
    copy: int
    """0, or the number of the clone of its group that it belongs to."""
    size: int
    """Bytes."""
    members: tuple[str, ...]
    """The caller's names of the devices of its group."""
    device_map: DeviceMap | None
    """None if there is no way to its bytes."""
    degraded: bool
    """Something is missing that redundancy makes up for."""
    problem: str | None
    """Why it cannot be read, or not all of it."""

    @property
    def mapping(self) -> VolumeMap | None:
        """Where its bytes are, if that is known without reading."""
        return self.device_map.mapping if isinstance(self.device_map, Mapped) else None

    async def open(self, build: Build) -> BlockSource:
        """Return its bytes. `build` makes a mapping over the members readable.

        Raises ParseError if its own metadata is damaged or says what is not supported, OSError.
        """
        if self.device_map is None:
            raise ParseError(self.problem or "it cannot be read").named(f"{self.group}/{self.name}")
        try:
            return await open_device_map(self.device_map, build)
        except ParseError as error:
            raise error.named(f"{self.group}/{self.name}") from None


@dataclass(frozen=True, slots=True)
class LvmResult:
    """The logical volumes on a number of devices."""

    volumes: tuple[LvmVolume, ...]
    warnings: tuple[str, ...]


async def assemble_lvm(members: Sequence[tuple[str, PhysicalVolume]]) -> LvmResult:
    """Return the volumes that physical volumes make up; each comes with the caller's name of its device.

    Areas of mappings name devices so. Damage of one volume is its `problem`.
    """
    warnings = [f"{name}: {problem}" for name, volume in members for problem in volume.problems]
    volumes: list[LvmVolume] = []
    groups, strangers = _gather(members)
    for name in strangers:
        warnings.append(f"{name}: a physical volume without a volume group")
    for clones in groups:
        for number, clone in enumerate(clones):
            if len(clones) > 1:
                seen = ", ".join(name for name, _ in clone)
                title = _newest(clone).name
                warnings.append(
                    f"volume group {title} is found {len(clones)} times: number {number + 1} is on {seen}"
                )
            volumes += await _assemble_group(clone, number, warnings)
    return LvmResult(tuple(volumes), tuple(warnings))


def _gather(
    members: Sequence[tuple[str, PhysicalVolume]],
) -> tuple[list[list[list[tuple[str, PhysicalVolume]]]], list[str]]:
    """Return groups, of each its clones, of each its members; and the devices that belong to none."""
    homes: dict[str, str] = {}
    newest: dict[str, int] = {}
    for _, volume in members:
        if volume.group is None:
            continue
        group = volume.group
        for entry in group.pvs.values():
            # A volume that changed groups is claimed by both: its own word, then the newer one counts.
            if entry.uuid not in homes or group.seqno > newest[homes[entry.uuid]]:
                homes[entry.uuid] = group.uuid
                newest[group.uuid] = max(newest.get(group.uuid, 0), group.seqno)
        newest[group.uuid] = max(newest.get(group.uuid, 0), group.seqno)
    gathered: dict[str, list[tuple[str, PhysicalVolume]]] = {}
    strangers = []
    for name, volume in members:
        home = volume.group.uuid if volume.group else homes.get(volume.uuid)
        if home is None:
            strangers.append(name)
        else:
            gathered.setdefault(home, []).append((name, volume))
    groups = []
    for alike in gathered.values():
        clones = partition_by_copy(alike, lambda member: member[1].uuid)
        # A clone without metadata of its own cannot be told to be one.
        described = [clone for clone in clones if any(volume.group for _, volume in clone)]
        strangers += [name for clone in clones if clone not in described for name, _ in clone]
        groups.append(described)
    return groups, strangers


def _newest(clone: Sequence[tuple[str, PhysicalVolume]]) -> VolumeGroup:
    return max((volume.group for _, volume in clone if volume.group), key=lambda group: group.seqno)


async def _assemble_group(
    clone: Sequence[tuple[str, PhysicalVolume]], number: int, warnings: list[str]
) -> list[LvmVolume]:
    group = _newest(clone)
    names = {pv.uuid: pv.name for pv in group.pvs.values()}
    devices, readers = {}, {}
    for name, volume in clone:
        if volume.group is not None and volume.group.seqno < group.seqno:
            warnings.append(
                f"{name}: its metadata of volume group {group.name} is out of date"
                f" ({volume.group.seqno}, the newest is {group.seqno})"
            )
        if volume.uuid not in names:
            warnings.append(f"{name}: volume group {group.name} no longer has this physical volume")
            continue
        devices[names[volume.uuid]] = name
        readers[name] = volume.reader
    for pv in group.pvs.values():
        if pv.name not in devices:
            warnings.append(f"volume group {group.name} lacks physical volume {pv.title}")
        elif pv.missing:
            warnings.append(
                f"{devices[pv.name]} was missing when volume group {group.name} was changed last"
            )
    resolver = Resolver(group, devices, await read_array_state(group, devices, readers))
    members = tuple(readers)
    sizes = _snapshot_extents(group)
    return [
        _volume(group, lv, number, members, resolver, sizes.get(lv.name))
        for lv in group.lvs.values()
        if not any(segment.type in _NOT_VOLUMES for segment in lv.segments)
        and (lv.visible or lv.name in sizes)
    ]


def _snapshot_extents(group: VolumeGroup) -> dict[str, int | None]:
    """Return the extents that snapshots show, by the name of the volume that stores what differs.

    Such a volume is shown although it is not marked visible: a snapshot is as visible as its origin. None:
    it is merged into its origin, and shown with its own size.
    """
    extents: dict[str, int | None] = {}
    for _, segment in segments_of(group, "snapshot"):
        values = segment.section.values
        if isinstance(merging := values.get("merging_store"), str):
            extents.setdefault(merging, None)
        if isinstance(store := values.get("cow_store"), str):
            extents[store] = segment.extents
    return extents


def _volume(
    group: VolumeGroup,
    lv: LogicalVolume,
    number: int,
    members: tuple[str, ...],
    resolver: Resolver,
    snapshot_extents: int | None,
) -> LvmVolume:
    device_map: DeviceMap | None = None
    problem, degraded = None, False
    extents = lv.extents if snapshot_extents is None else snapshot_extents
    try:
        device_map = resolver.resolve(lv.name)
    except ParseError as error:
        problem = str(error)
    else:
        missing = missing_in(device_map)
        if is_whole(device_map):
            degraded = bool(missing)
        else:
            problem = f"missing: {', '.join(missing)}"
    return LvmVolume(
        group.name,
        lv.name,
        lv.uuid,
        group.uuid,
        number,
        extents * group.extent_size,
        members,
        device_map,
        degraded,
        problem,
    )
