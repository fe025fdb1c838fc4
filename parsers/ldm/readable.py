"""What can be read of a mapping with areas that are missing."""

from __future__ import annotations

from parsers.mapping import Area, Concat, Mapping, Mirror, Missing, Parity, Raid10, Stripe, Zero


def is_readable(mapping: Mapping) -> bool:
    """Say whether every byte can be had."""
    match mapping:
        case Area() | Zero():
            return True
        case Missing():
            return False
        case Concat(parts) | Stripe(parts):
            return all(map(is_readable, parts))
        case Mirror(copies):
            return any(map(is_readable, copies))
        case Parity(columns, parities=parities):
            return sum(not is_readable(column) for column in columns) <= parities
        case Raid10(columns):
            return all(map(is_readable, columns))


def devices_missing(mapping: Mapping) -> list[str]:
    """Return the names of the devices that are missing, each once, in order."""
    match mapping:
        case Missing(device):
            return [device]
        case Area() | Zero():
            return []
        case Concat(parts) | Stripe(parts) | Mirror(parts) | Parity(parts) | Raid10(parts):
            return list(dict.fromkeys(name for part in parts for name in devices_missing(part)))
