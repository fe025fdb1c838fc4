"""Volume maps: how a volume is assembled from areas of disks, for every volume manager.

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

    parts: tuple[VolumeMap, ...]


@dataclass(frozen=True, slots=True)
class Stripe:
    """Chunks dealt out to columns in turn (RAID-0). All columns are of one length."""

    columns: tuple[VolumeMap, ...]
    chunk: int


@dataclass(frozen=True, slots=True)
class Mirror:
    """Copies of the same (RAID-1); any one will do."""

    copies: tuple[VolumeMap, ...]


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
    LEFT_ASYMMETRIC_6 = "left-asymmetric-6"
    """The layouts in -6 are those of RAID-5, with Q in a last column of its own."""
    LEFT_SYMMETRIC_6 = "left-symmetric-6"
    RIGHT_ASYMMETRIC_6 = "right-asymmetric-6"
    RIGHT_SYMMETRIC_6 = "right-symmetric-6"
    PARITY_FIRST_6 = "parity-first-6"


@dataclass(frozen=True, slots=True)
class Parity:
    """Chunks dealt out to columns with parity among them (RAID-4, 5 with one, RAID-6 with two)."""

    columns: tuple[VolumeMap, ...]
    chunk: int
    layout: ParityLayout
    parities: int = 1
    in_sync: bool = True
    """False: parity may not be that of the data, and nothing is to be computed from it."""


@dataclass(frozen=True, slots=True)
class Raid10:
    """Chunks with copies dealt out to columns in turn, as MD does (md(4), "RAID10").

    A chunk has `near_copies` times `far_copies` copies. Near ones are on neighbouring columns. Far ones
    are `near_copies` columns further on: in the next row if `far_offset`, else in the next of `far_copies`
    equal sections of the columns. MD's "far sets" (bits 17 and 18 of its layout) are another thing.
    """

    columns: tuple[VolumeMap, ...]
    chunk: int
    near_copies: int = 2
    far_copies: int = 1
    far_offset: bool = False
    in_sync: bool = True
    """False: only the first copy of a chunk is sure to be the right one."""


VolumeMap: TypeAlias = Area | Zero | Missing | Concat | Stripe | Mirror | Parity | Raid10


def length_of(mapping: VolumeMap) -> int:
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
        case Raid10(columns, chunk, near_copies, far_copies):
            rows = length_of(columns[0]) // chunk // far_copies
            return rows * len(columns) // near_copies * chunk


def weight_of(mapping: VolumeMap) -> tuple[int, int]:
    """Return how many parts a mapping has, leaves and others, and how deep they are in each other."""
    match mapping:
        case Area() | Zero() | Missing():
            return 1, 1
        case Concat(parts) | Stripe(parts) | Mirror(parts) | Parity(parts) | Raid10(parts):
            weights = [weight_of(part) for part in parts]
            return 1 + sum(count for count, _ in weights), 1 + max(depth for _, depth in weights)
