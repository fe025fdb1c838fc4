"""The mapping of an MD array of each level, from the columns that its members are.

Source: md(4); Linux kernel, drivers/md/{md-linear,raid0,raid1,raid5,raid10}.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.volume_map import (
    Mirror,
    Parity,
    ParityLayout,
    Raid10,
    Stripe,
    VolumeMap,
    length_of,
)
from vmount.parsers.volume_map_slices import concat, slice_of

if TYPE_CHECKING:
    from collections.abc import Sequence

LINEAR = -1
NAMES = {-1: "linear", 0: "raid0", 1: "raid1", 4: "raid4", 5: "raid5", 6: "raid6", 10: "raid10"}

_RAID5_LAYOUTS = {
    0: ParityLayout.LEFT_ASYMMETRIC,
    1: ParityLayout.RIGHT_ASYMMETRIC,
    2: ParityLayout.LEFT_SYMMETRIC,
    3: ParityLayout.RIGHT_SYMMETRIC,
    4: ParityLayout.PARITY_FIRST,
    5: ParityLayout.PARITY_LAST,
}
_RAID6_LAYOUTS = _RAID5_LAYOUTS | {
    8: ParityLayout.ROTATING_ZERO_RESTART,
    9: ParityLayout.ROTATING_N_RESTART,
    10: ParityLayout.ROTATING_N_CONTINUE,
    16: ParityLayout.LEFT_ASYMMETRIC_6,
    17: ParityLayout.RIGHT_ASYMMETRIC_6,
    18: ParityLayout.LEFT_SYMMETRIC_6,
    19: ParityLayout.RIGHT_SYMMETRIC_6,
    20: ParityLayout.PARITY_FIRST_6,
}
_ZONES_ORIGINAL, _ZONES_ALTERNATE = 1, 2
_FAR_OFFSET = 1 << 16
_FAR_SETS = 3 << 17


def linear(members: Sequence[VolumeMap]) -> VolumeMap:
    """One member after the other."""
    return concat(list(members))


def striped(members: Sequence[VolumeMap], chunk: int, layout: int) -> VolumeMap:
    """RAID-0. Members may differ in length: what the longer ones have more makes further zones.

    The two layouts of such arrays differ in the member with which a zone begins: in the original one that
    is as if the stripes had always been that narrow.
    """
    parts: list[VolumeMap] = []
    start = position = 0
    lengths = [length_of(member) for member in members]
    ends = sorted({length for length in lengths if length})
    if len(ends) > 1 and sum(length == ends[-1] for length in lengths) < len(lengths):
        rest = [length for length in lengths if length > ends[0]]
        if len(rest) > 1 and layout not in (_ZONES_ORIGINAL, _ZONES_ALTERNATE):
            raise Unsupported("RAID-0 of unequal members whose layout was never chosen")
    for end in ends:
        columns = [
            slice_of(member, start, end - start)
            for member, length in zip(members, lengths, strict=True)
            if length > start
        ]
        if layout == _ZONES_ORIGINAL:
            first = position // chunk % len(columns)
            columns = columns[first:] + columns[:first]
        parts.append(Stripe(tuple(columns), chunk))
        position += (end - start) * len(columns)
        start = end
    if not parts:
        raise Corrupt("MD: RAID-0 of members without space")
    return concat(parts)


def mirrored(members: Sequence[VolumeMap]) -> VolumeMap:
    """RAID-1."""
    return Mirror(tuple(members))


def with_parity(
    members: Sequence[VolumeMap], chunk: int, level: int, layout: int, in_sync: bool
) -> VolumeMap:
    """RAID-4, 5, 6. Raises Unsupported for a layout that nobody knows."""
    parities = 2 if level == 6 else 1
    known = _RAID6_LAYOUTS if level == 6 else _RAID5_LAYOUTS
    kind = ParityLayout.PARITY_LAST if level == 4 else known.get(layout)
    if kind is None:
        raise Unsupported(f"MD {NAMES[level]} layout {layout}")
    if len(members) <= parities:
        raise Corrupt("MD: number of members", actual=len(members))
    return Parity(tuple(members), chunk, kind, parities, in_sync)


def raid10(members: Sequence[VolumeMap], chunk: int, layout: int, in_sync: bool) -> VolumeMap:
    """RAID-10: near copies in the lowest byte of the layout, far ones in the next."""
    near, far = layout & 0xFF, layout >> 8 & 0xFF
    if layout & _FAR_SETS and far > 1:
        raise Unsupported("MD RAID-10 with far sets")
    if layout >> 19 or not near or not far or near * far > len(members):
        raise Corrupt("MD: RAID-10 layout", actual=layout & 0xFFFFFFFF)
    return Raid10(tuple(members), chunk, near, far, bool(layout & _FAR_OFFSET), in_sync)
