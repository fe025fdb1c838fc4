"""A member of an MD array as its superblock describes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmount.parsers.reader import Span

SECTOR = 512
NEVER = 0xFFFFFFFFFFFFFFFF
"""As a position of recovery or resynchronisation: all is done."""

SPARE = 0xFFFF
FAULTY = 0xFFFE
JOURNAL = 0xFFFD
"""Roles that are no position in the array."""


@dataclass(frozen=True, slots=True)
class MdMember:
    """What a member says of itself and its array. Sizes and offsets are in bytes."""

    version: str
    """Of the metadata: 0.90, 1.0, 1.1, 1.2."""
    array_uuid: str
    """As mdadm writes it."""
    name: str
    """Of the array, without its host."""
    level: int
    """As MD numbers them: -1 is linear."""
    layout: int
    """Its meaning depends on the level; -1 if none was chosen."""
    chunk: int
    raid_disks: int
    component_size: int
    """Used of each member, but in linear arrays and RAID-0, which use what there is."""
    data_offset: int
    data_size: int
    """There is on this member."""
    number: int
    """Of this device among those of the array; not its place."""
    device_uuid: str
    events: int
    """Grows with every change of the array's state."""
    updated: int
    """Seconds since 1970."""
    roles: tuple[int, ...]
    """By device number: its place in the array, or SPARE, FAULTY, JOURNAL."""
    in_sync: bool
    """The array was stopped cleanly, with its redundancy complete."""
    recovered: bool
    """This member has all that its place should have."""
    unsupported: str | None
    """What the array uses and cannot be read here, or None."""
    bad_blocks: tuple[Span, ...] = ()
    """Ranges of the device that do not hold what they should."""

    def role(self, number: int) -> int:
        """Return the place that this member says a device has."""
        return self.roles[number] if number < len(self.roles) else SPARE
