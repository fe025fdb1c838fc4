"""Which part of a volume map is readable although devices are missing."""

from __future__ import annotations

from vmount.parsers.volume_map import (
    Area,
    Concat,
    Mirror,
    Missing,
    Parity,
    Raid10,
    Stripe,
    VolumeMap,
    Zero,
)


def missing_devices(mapping: VolumeMap) -> list[str]:
    """Return the devices that a mapping would need to be whole, each once, in order."""
    match mapping:
        case Missing(device):
            return [device]
        case Area() | Zero():
            return []
        case Concat(parts) | Stripe(parts) | Mirror(parts) | Parity(parts) | Raid10(parts):
            return list(dict.fromkeys(name for part in parts for name in missing_devices(part)))


def is_readable(mapping: VolumeMap) -> bool:
    """Say whether redundancy makes up for all that is missing.

    A column counts as lost if any of it is.
    """
    match mapping:
        case Missing(length=length):
            return length == 0
        case Area() | Zero():
            return True
        case Concat(parts) | Stripe(parts):
            return all(map(is_readable, parts))
        case Mirror(copies):
            return any(map(is_readable, copies))
        case Parity(columns, parities=parities, in_sync=in_sync):
            lost_columns = sum(not is_readable(column) for column in columns)
            return lost_columns <= (parities if in_sync else 0)
        case Raid10(columns, in_sync=False):
            return all(map(is_readable, columns))
        case Raid10(columns, near_copies=near, far_copies=far):
            lost = {index for index, column in enumerate(columns) if not is_readable(column)}
            count = len(columns)
            return not any(
                {
                    (start + copy + near * section) % count
                    for copy in range(near)
                    for section in range(far)
                }
                <= lost
                for start in range(0, count * near, near)
            )
