"""Cutting a range out of a mapping."""

from __future__ import annotations

from vmount.parsers.errors import OutOfBounds, Unsupported
from vmount.parsers.mapping import Area, Concat, Mapping, Mirror, Missing, Zero, length_of


def slice_of(mapping: Mapping, start: int, length: int) -> Mapping:
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
            raise Unsupported("a volume made of a part of a striped one")


def _slice_parts(parts: tuple[Mapping, ...], start: int, length: int) -> Mapping:
    found: list[Mapping] = []
    position = 0
    for part in parts:
        size = length_of(part)
        first = max(start - position, 0)
        end = min(start + length - position, size)
        if first < end:
            found.append(slice_of(part, first, end - first))
        position += size
    return concat(found)


def concat(parts: list[Mapping]) -> Mapping:
    """Return the parts one after the other, as plainly as it can be said."""
    return parts[0] if len(parts) == 1 else Concat(tuple(parts))
