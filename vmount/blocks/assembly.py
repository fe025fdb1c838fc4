"""From the mapping of a volume to its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.blocks.parity import Parity
from vmount.blocks.raid import Mirror, Raid10, Stripe
from vmount.blocks.slices import Concat, MissingDevice, Slice, Zeros
from vmount.parsers import volume_map

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vmount.parsers.reader import BlockSource


def build_source(mapping: volume_map.VolumeMap, devices: Mapping[str, BlockSource]) -> BlockSource:
    """Return the source that reads what a mapping says.

    A device that is not among `devices` counts as missing. Raises OutOfBounds for an area beyond the end
    of its device, Corrupt or Unsupported for parts that do not match.
    """

    def build(parts: Sequence[volume_map.VolumeMap]) -> list[BlockSource]:
        return [build_source(part, devices) for part in parts]

    match mapping:
        case volume_map.Area(device, start, length):
            if device in devices:
                return Slice(devices[device], start, length)
            return MissingDevice(device, length)
        case volume_map.Zero(length):
            return Zeros(length)
        case volume_map.Missing(device, length):
            return MissingDevice(device, length)
        case volume_map.Concat(parts):
            return _concat(build(parts))
        case volume_map.Stripe(columns, chunk):
            return Stripe(build(columns), chunk)
        case volume_map.Mirror(copies):
            return Mirror(build(copies))
        case volume_map.Parity(columns, chunk, layout, parities, in_sync):
            return Parity(build(columns), chunk, layout, parities, in_sync)
        case volume_map.Raid10(columns, chunk, near_copies, far_copies, far_offset, in_sync):
            return Raid10(
                build(columns), chunk, near_copies, far_copies, far_offset, in_sync=in_sync
            )


def _concat(parts: list[BlockSource]) -> BlockSource:
    return parts[0] if len(parts) == 1 else Concat(parts)
