"""How to get at the bytes of a logical volume, of whatever kind it is.

Most are a mapping. Thin volumes and snapshots need their own metadata read, when they are opened: a recipe
for these holds those of the volumes that they are made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from vmount.parsers.availability import is_readable, missing_devices
from vmount.parsers.lvm.snapshot import open_snapshot
from vmount.parsers.lvm.thin import ThinDevice, open_thin
from vmount.parsers.mapping import Mapping
from vmount.parsers.reader import BlockSource

Build: TypeAlias = Callable[[Mapping], BlockSource]
"""Makes a mapping's bytes readable."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """All is known beforehand."""

    mapping: Mapping


@dataclass(frozen=True, slots=True)
class Thin:
    """A thin volume."""

    device: ThinDevice
    metadata: Mapping
    data: Mapping
    origin: Recipe | None
    """An external one: of what was never written."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A classic snapshot."""

    origin: Recipe
    store: Mapping
    size: int
    """Bytes."""


Recipe: TypeAlias = Mapped | Thin | Snapshot


def depth_of(recipe: Recipe) -> int:
    """Return how many volumes are based on one another in a recipe."""
    depth, origin = 1, recipe
    while isinstance(origin, Thin | Snapshot) and origin.origin is not None:
        depth, origin = depth + 1, origin.origin
    return depth


def mappings_of(recipe: Recipe) -> list[Mapping]:
    """Return all mappings in a recipe."""
    match recipe:
        case Mapped(mapping):
            return [mapping]
        case Thin(_, metadata, data, origin):
            return [metadata, data, *(mappings_of(origin) if origin else ())]
        case Snapshot(origin, store):
            return [*mappings_of(origin), store]


def missing_in(recipe: Recipe) -> list[str]:
    """Return the devices that a recipe lacks."""
    found = [name for mapping in mappings_of(recipe) for name in missing_devices(mapping)]
    return list(dict.fromkeys(found))


def is_whole(recipe: Recipe) -> bool:
    """Say whether all can be read, if need be by redundancy."""
    return all(map(is_readable, mappings_of(recipe)))


async def open_recipe(recipe: Recipe, build: Build) -> BlockSource:
    """Return the bytes. Raises ParseError, OSError."""
    match recipe:
        case Mapped(mapping):
            return build(mapping)
        case Thin(device, metadata, data, origin):
            external = await open_recipe(origin, build) if origin else None
            return await open_thin(device, build(metadata), build(data), external)
        case Snapshot(origin, store, size):
            return await open_snapshot(await open_recipe(origin, build), build(store), size)
