"""How a volume is put together from pieces of disks: the words of every volume manager.

A mapping is a tree of frozen values; its leaves are areas of devices. It says where bytes are and reads
nothing. Offsets and lengths are in bytes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Area:
    """A range of a device. `device` is the volume manager's own name for it: a UUID or disk id."""

    device: str
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Zero:
    """A range that reads as zeros."""

    length: int


@dataclass(frozen=True, slots=True)
class Missing:
    """A range whose device is not there: redundancy may make up for it, else it cannot be read."""

    device: str
    """What the volume manager calls it, for the message."""
    length: int


@dataclass(frozen=True, slots=True)
class Concat:
    """One part after the other."""

    parts: tuple[Mapping, ...]


@dataclass(frozen=True, slots=True)
class Stripe:
    """Chunks dealt out to columns in turn (RAID-0). All columns are of one length."""

    columns: tuple[Mapping, ...]
    chunk: int


@dataclass(frozen=True, slots=True)
class Mirror:
    """Copies of the same (RAID-1); any one will do."""

    copies: tuple[Mapping, ...]


class ParityLayout(enum.Enum):
    """Where parity is, row by row, and where the data after it begins. Names as in MD and LVM2."""

    PARITY_FIRST = "parity-first"
    PARITY_LAST = "parity-last"
    """RAID-4."""
    LEFT_ASYMMETRIC = "left-asymmetric"
    LEFT_SYMMETRIC = "left-symmetric"
    RIGHT_ASYMMETRIC = "right-asymmetric"
    RIGHT_SYMMETRIC = "right-symmetric"
    ROTATING_ZERO_RESTART = "rotating-zero-restart"
    ROTATING_N_RESTART = "rotating-n-restart"
    ROTATING_N_CONTINUE = "rotating-n-continue"


@dataclass(frozen=True, slots=True)
class Parity:
    """Chunks dealt out to columns with parity among them (RAID-4, 5 with one, RAID-6 with two)."""

    columns: tuple[Mapping, ...]
    chunk: int
    layout: ParityLayout
    parities: int = 1


Mapping: TypeAlias = Area | Zero | Missing | Concat | Stripe | Mirror | Parity


def length_of(mapping: Mapping) -> int:
    """Return the bytes that a mapping holds."""
    match mapping:
        case Area(length=length) | Zero(length) | Missing(length=length):
            return length
        case Concat(parts):
            return sum(map(length_of, parts))
        case Stripe(columns):
            return len(columns) * length_of(columns[0])
        case Mirror(copies):
            return length_of(copies[0])
        case Parity(columns, parities=parities):
            return (len(columns) - parities) * length_of(columns[0])
