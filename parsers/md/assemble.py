"""From members to arrays.

Strategy: the member with the most events is the freshest and its word counts: of what the array is like,
and which members belong to it. A member that missed a change, was not rebuilt to its end, or that the
freshest calls failed is left out as if it were missing. Members seen twice are clones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmount.parsers.availability import is_readable, missing_devices
from vmount.parsers.copies import partition_by_copy
from vmount.parsers.errors import Corrupt, ParseError, Unsupported
from vmount.parsers.md import levels
from vmount.parsers.md.member import FAULTY, JOURNAL, SECTOR, SPARE, MdMember
from vmount.parsers.volume_map import Area, Missing, VolumeMap, length_of
from vmount.parsers.volume_map_slices import concat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vmount.parsers.reader import BlockSource

MAX_DISKS = 1920
"""Places in an array: the roles that a superblock has room for."""


@dataclass(frozen=True, slots=True)
class MdArray:
    """An array."""

    name: str
    uuid: str
    """As mdadm writes it."""
    copy: int
    """0, or the number of the clone that this is."""
    level: str
    size: int
    """Bytes; 0 if that is not known."""
    members: tuple[str, ...]
    """The caller's names of the devices in use."""
    mapping: VolumeMap | None
    """None if there is no way to its bytes."""
    degraded: bool
    """Something is missing that redundancy makes up for."""
    problem: str | None
    """Why it cannot be read, or not all of it."""

    async def open(self, build: Callable[[VolumeMap], BlockSource]) -> BlockSource:
        """Return its bytes. `build` makes a mapping over the members readable.

        Raises ParseError if there is no way to them.
        """
        if self.mapping is None:
            raise ParseError(self.problem or "it cannot be read").named(self.name)
        return build(self.mapping)


@dataclass(frozen=True, slots=True)
class MdResult:
    """The arrays on a number of devices."""

    arrays: tuple[MdArray, ...]
    warnings: tuple[str, ...]


def assemble_md(members: Sequence[tuple[str, MdMember]]) -> MdResult:
    """Return the arrays that members make up; each comes with the caller's name of its device.

    Areas of mappings name devices so. What is wrong with one array is its `problem`.
    """
    arrays: list[MdArray] = []
    warnings: list[str] = []
    by_uuid: dict[str, list[tuple[str, MdMember]]] = {}
    for name, member in members:
        by_uuid.setdefault(member.array_uuid, []).append((name, member))
    for alike in by_uuid.values():
        clones = partition_by_copy(alike, lambda item: item[1].device_uuid)
        for number, clone in enumerate(clones):
            if len(clones) > 1:
                seen = ", ".join(name for name, _ in clone)
                warnings.append(
                    f"array {clone[0][1].name} is found {len(clones)} times:"
                    f" number {number + 1} is on {seen}"
                )
            arrays.append(_Assembly(clone, number, warnings).array())
    return MdResult(tuple(arrays), tuple(warnings))


class _Assembly:
    """Putting one array together."""

    def __init__(
        self, clone: Sequence[tuple[str, MdMember]], number: int, warnings: list[str]
    ) -> None:
        self._clone = clone
        self._number = number
        self._warnings = warnings
        self._best = max((member for _, member in clone), key=lambda member: member.events)
        self._title = self._best.name or self._best.array_uuid[:8]
        self._places: dict[int, tuple[str, MdMember]] = {}

    def array(self) -> MdArray:
        """Return the array."""
        mapping: VolumeMap | None = None
        problem, degraded, size = None, False, 0
        try:
            mapping = self._mapping()
        except ParseError as error:
            problem = str(error)
        else:
            size = length_of(mapping)
            missing = missing_devices(mapping)
            if is_readable(mapping):
                degraded = bool(missing)
            else:
                problem = f"missing: {', '.join(missing)}"
        level = self._best.level
        return MdArray(
            self._title,
            self._best.array_uuid,
            self._number,
            levels.NAMES.get(level, f"level {level}"),
            size,
            tuple(name for _, (name, _) in sorted(self._places.items())),
            mapping,
            degraded,
            problem,
        )

    def _mapping(self) -> VolumeMap:
        best = self._best
        if best.unsupported:
            raise Unsupported(best.unsupported)
        if best.level not in levels.NAMES:
            raise Unsupported(f"MD level {best.level}")
        if not 0 < best.raid_disks <= MAX_DISKS:
            raise Corrupt("MD: number of members", actual=best.raid_disks)
        # Chunks of a byte would make a million pieces of a read; the kernel counts them in sectors.
        if (best.chunk <= 0 or best.chunk % SECTOR) and best.level not in (levels.LINEAR, 1):
            raise Corrupt("MD: chunk size", actual=best.chunk)
        self._take_places()
        if best.level in (levels.LINEAR, 0):
            whole = [self._all_of(place) for place in range(best.raid_disks)]
            if best.level == levels.LINEAR:
                return levels.linear(whole)
            return levels.striped(whole, best.chunk, best.layout)
        columns = [self._column(place) for place in range(best.raid_disks)]
        if not best.in_sync:
            columns = self._settled(columns)
        if best.level == 1:
            return levels.mirrored(columns)
        if best.level == 10:
            return levels.raid10(columns, best.chunk, best.layout, best.in_sync)
        return levels.with_parity(columns, best.chunk, best.level, best.layout, best.in_sync)

    def _take_places(self) -> None:
        """Decide who is in the array."""
        best = self._best
        for name, member in self._clone:
            role = best.role(member.number)
            reason = None
            if role == JOURNAL or role == SPARE == member.role(member.number):
                continue
            if role in (FAULTY, SPARE):
                reason = "the other members list it as failed"
            elif role >= best.raid_disks:
                reason = f"it has role {role} of {best.raid_disks}"
            elif member.events + 1 < best.events:
                reason = f"it is out of date ({member.events} events of {best.events})"
            elif role != member.role(member.number):
                reason = "its superblock gives another role"
            elif not member.recovered:
                reason = "its rebuild was not finished"
            elif role in self._places:
                reason = f"{self._places[role][0]} has its role"
            if reason is None:
                self._places[role] = (name, member)
            else:
                self._warnings.append(f"{name}: left out of array {self._title}: {reason}")

    def _settled(self, columns: list[VolumeMap]) -> list[VolumeMap]:
        """Return the columns of an array that was in use or had not completed its redundancy.

        Copies may differ then, where writes were under way; the first is as good as any, and in an array
        that was never synchronised it is the only good one. Parity cannot be trusted at all.
        """
        best = self._best
        expected = sorted(role for role in best.roles if role < best.raid_disks)
        absent = [place for place in expected if place not in self._places]
        if best.level == 1:
            if absent and absent[0] == expected[0]:
                raise Unsupported("a mirror that was in use and lacks its first copy")
            return columns[expected[0] : expected[0] + 1] if expected else columns
        if absent or (best.level != 10 and len(self._places) < best.raid_disks):
            raise Unsupported("an array that was in use and lacks a member")
        return columns

    def _column(self, place: int) -> VolumeMap:
        """Return the part of a member that an array with redundancy uses."""
        best = self._best
        size = best.component_size
        if best.level != 1:
            size -= size % best.chunk
        if place not in self._places:
            return Missing(f"member {place} of array {self._title}", size)
        name, member = self._places[place]
        if size > member.data_size:
            raise Corrupt(
                f"{name}: shorter than its superblock says", expected=size, actual=member.data_size
            )
        return _without_bad_blocks(Area(name, member.data_offset, size), member)

    def _all_of(self, place: int) -> VolumeMap:
        """Return what a member has, in whole chunks."""
        if place not in self._places:
            raise Corrupt(f"member {place} of array {self._title} is missing")
        name, member = self._places[place]
        chunk = self._best.chunk or 1
        size = member.data_size // chunk * chunk
        return _without_bad_blocks(Area(name, member.data_offset, size), member)


def _without_bad_blocks(area: Area, member: MdMember) -> VolumeMap:
    parts: list[VolumeMap] = []
    position, end = area.start, area.start + area.length
    for start, length in member.bad_blocks:
        first, after = max(start, position), min(start + length, end)
        if first >= after:
            continue
        if first > position:
            parts.append(Area(area.device, position, first - position))
        parts.append(Missing(f"bad blocks of {area.device}", after - first))
        position = after
    if position < end or not parts:
        parts.append(Area(area.device, position, end - position))
    return concat(parts)
