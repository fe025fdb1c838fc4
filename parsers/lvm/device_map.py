"""How to get at the bytes of a logical volume, of whatever kind it is.

Most are a mapping. Thin volumes and snapshots need their own metadata read, when they are opened: a device map
for these holds those of the volumes that they are made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from vmount.parsers.availability import is_readable, missing_devices
from vmount.parsers.lvm.snapshot import open_snapshot
from vmount.parsers.lvm.thin import ThinDevice, open_thin
from vmount.parsers.reader import BlockSource
from vmount.parsers.volume_map import VolumeMap

Build: TypeAlias = Callable[[VolumeMap], BlockSource]
"""Makes a mapping's bytes readable."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """All is known beforehand."""

    mapping: VolumeMap


@dataclass(frozen=True, slots=True)
class Thin:
    """A thin volume."""

    device: ThinDevice
    metadata: VolumeMap
    data: VolumeMap
    origin: DeviceMap | None
    """An external one: of what was never written."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A classic snapshot."""

    origin: DeviceMap
    store: VolumeMap
    size: int
    """Bytes."""


DeviceMap: TypeAlias = Mapped | Thin | Snapshot


def depth_of(device_map: DeviceMap) -> int:
    """Return how many volumes are based on one another in a device map."""
    depth, origin = 1, device_map
    while isinstance(origin, Thin | Snapshot) and origin.origin is not None:
        depth, origin = depth + 1, origin.origin
    return depth


def volume_maps_of(device_map: DeviceMap) -> list[VolumeMap]:
    """Return all mappings in a device map."""
    match device_map:
        case Mapped(mapping):
            return [mapping]
        case Thin(_, metadata, data, origin):
            return [metadata, data, *(volume_maps_of(origin) if origin else ())]
        case Snapshot(origin, store):
            return [*volume_maps_of(origin), store]


def missing_in(device_map: DeviceMap) -> list[str]:
    """Return the devices that a device map lacks."""
    found = [name for mapping in volume_maps_of(device_map) for name in missing_devices(mapping)]
    return list(dict.fromkeys(found))


def is_whole(device_map: DeviceMap) -> bool:
    """Say whether all can be read, if need be by redundancy."""
    return all(map(is_readable, volume_maps_of(device_map)))


async def open_device_map(device_map: DeviceMap, build: Build) -> BlockSource:
    """Return the bytes. Raises ParseError, OSError."""
    match device_map:
        case Mapped(mapping):
            return build(mapping)
        case Thin(device, metadata, data, origin):
            external = await open_device_map(origin, build) if origin else None
            return await open_thin(device, build(metadata), build(data), external)
        case Snapshot(origin, store, size):
            return await open_snapshot(await open_device_map(origin, build), build(store), size)
