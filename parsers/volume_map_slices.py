"""Cutting a range out of a volume map."""

from __future__ import annotations

from vmount.parsers.errors import OutOfBounds, Unsupported
from vmount.parsers.volume_map import Area, Concat, Mirror, Missing, VolumeMap, Zero, length_of


def slice_of(mapping: VolumeMap, start: int, length: int) -> VolumeMap:
    """Return the mapping of a range of another one.

    Raises OutOfBounds where there is no such range, Unsupported for a part of something striped.
    """
    size = length_of(mapping)
    if start < 0 or length < 0 or start + length > size:
        raise OutOfBounds(start, length, size)
    if length == size:
        return mapping
    match mapping:
        case Area(device, offset):
            return Area(device, offset + start, length)
        case Missing(device):
            return Missing(device, length)
        case Zero():
            return Zero(length)
        case Mirror(copies):
            return Mirror(tuple(slice_of(copy, start, length) for copy in copies))
        case Concat(parts):
            return _slice_parts(parts, start, length)
        case _:
            raise Unsupported("a volume on a part of a striped volume")


def _slice_parts(parts: tuple[VolumeMap, ...], start: int, length: int) -> VolumeMap:
    found: list[VolumeMap] = []
    position = 0
    for part in parts:
        size = length_of(part)
        first = max(start - position, 0)
        end = min(start + length - position, size)
        if first < end:
            found.append(slice_of(part, first, end - first))
        position += size
    return concat(found)


def concat(parts: list[VolumeMap]) -> VolumeMap:
    """Return the parts one after the other, as plainly as it can be said."""
    return parts[0] if len(parts) == 1 else Concat(tuple(parts))
