"""What volume managers make of their members, whichever manager it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vmount.blocks.assembly import build_source
from vmount.parsers.errors import ParseError
from vmount.parsers.volume_map import Area, Concat, Mirror, Parity, Raid10, Stripe, VolumeMap
from vmount.volumes.device import Device, Extent

if TYPE_CHECKING:
    from vmount.parsers.reader import BlockSource


@dataclass
class Assembly:
    """What the volume managers made."""

    devices: list[Device] = field(default_factory=list)
    members: dict[str, str] = field(default_factory=dict)
    """By name of a device: what it is a part of, for the user."""
    warnings: list[str] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)
    """By name of a disk: why volumes on it cannot be told."""


def built(
    device: Device, words: VolumeMap, sources: Mapping[str, BlockSource], warnings: list[str]
) -> Device:
    """Return the device with its source, or with why there is none."""
    values = vars(device)
    try:
        return Device(**(values | {"source": build_source(words, sources)}))
    except ParseError as error:
        if device.problem is None:
            warnings.append(f"{device.name}: {error}")
        return Device(**(values | {"problem": device.problem or str(error)}))


def extents_of_words(
    places: Mapping[str, tuple[Extent, ...]],
) -> Callable[[VolumeMap], tuple[Extent, ...]]:
    """Return a function from a mapping to where it lies on the disks.

    `places` says it of each device of the mapping; one that is not there has none.
    """

    def walk(words: VolumeMap) -> Iterable[Extent]:
        match words:
            case Area(device, start, length):
                yield from _cut(places.get(device, ()), start, length)
            case Concat(parts):
                for part in parts:
                    yield from walk(part)
            case Stripe(columns=columns) | Parity(columns=columns) | Raid10(columns=columns):
                for column in columns:
                    yield from walk(column)
            case Mirror(copies):
                for copy in copies:
                    yield from walk(copy)

    return lambda words: tuple(walk(words))


def _cut(extents: Sequence[Extent], start: int, length: int) -> Iterable[Extent]:
    """Yield what of a device's extents lies in [start, start + length) of it."""
    position = 0
    for extent in extents:
        first, last = max(start, position), min(start + length, position + extent.length)
        if first < last:
            yield Extent(extent.disk, extent.offset + first - position, last - first)
        position += extent.length
