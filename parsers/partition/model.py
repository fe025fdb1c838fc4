"""What every kind of partition table says. All sizes and offsets are in bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

Scheme: TypeAlias = Literal["mbr", "gpt"]


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition, as its table has it: it may reach past the end of the disk."""

    number: int
    """As Linux counts: MBR primaries 1 to 4, logical ones from 5; GPT entry index + 1."""
    offset: int
    length: int
    type: str
    """MBR: "0x07". GPT: the type GUID in lower case."""
    type_name: str
    """In words; "unknown" for a type that is not in `type_names`."""
    name: str
    """The name that the table gives it; empty in an MBR."""
    guid: str | None
    """The partition's own GUID in lower case; None in an MBR."""
    bootable: bool
    problem: str | None
    """Why its bytes are not to be trusted, or not all there; None if nothing is wrong."""

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class PartitionTable:
    """A disk's partition table. An extended partition is not listed, the logical ones in it are."""

    scheme: Scheme
    sector_size: int
    disk_id: str
    """MBR: the signature as 8 hexadecimal digits. GPT: the disk GUID. Both in lower case."""
    partitions: tuple[Partition, ...]
    """In the order of their numbers."""
    warnings: tuple[str, ...]
    incomplete: str | None = None
    """Why partitions are missing from it; None if none are."""

    def part_uuid(self, partition: Partition) -> str:
        """Return the PARTUUID by which Linux knows a partition of this disk."""
        return partition.guid or f"{self.disk_id}-{partition.number:02x}"


def checked(partitions: Iterable[Partition], disk_size: int) -> tuple[Partition, ...]:
    """Return the partitions in order, each with its `problem` set if its range is impossible.

    An existing problem is kept.
    """
    ordered = sorted(partitions, key=lambda partition: partition.number)
    overlaps = _overlaps(ordered)
    result = []
    for partition in ordered:
        problem = partition.problem or _out_of_range(partition, disk_size)
        if problem is None and partition.number in overlaps:
            problem = f"overlaps partition {overlaps[partition.number]}"
        result.append(replace(partition, problem=problem))
    return tuple(result)


def _out_of_range(partition: Partition, disk_size: int) -> str | None:
    if partition.length <= 0:
        return "ends before it starts"
    if partition.offset >= disk_size:
        return f"starts at {partition.offset}, past the end of the disk ({disk_size} bytes)"
    if partition.end > disk_size:
        missing = partition.end - disk_size
        return f"reaches {missing} bytes past the end of the disk ({disk_size} bytes)"
    return None


def _overlaps(partitions: list[Partition]) -> dict[int, int]:
    """Return a number that each overlapping partition shares bytes with.

    One sweep by offset: a hostile table has thousands of entries, too many to compare all pairs.
    """
    found: dict[int, int] = {}
    furthest: Partition | None = None
    for partition in sorted(partitions, key=lambda each: (each.offset, each.number)):
        if partition.length <= 0:
            continue
        if furthest is not None and partition.offset < furthest.end:
            found[partition.number] = furthest.number
            found.setdefault(furthest.number, partition.number)
        if furthest is None or partition.end > furthest.end:
            furthest = partition
    return found
