"""From the records of a volume to its mapping.

Every volume is a tree of three levels: components (copies of the volume), columns (one unless it is
striped) and partitions, which follow each other in a column. A volume whose records do not add up to its
size is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from vmount.parsers.availability import is_readable
from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.ldm.structures import SECTOR
from vmount.parsers.ldm.vblk import (
    RAID5,
    SPANNED,
    STRIPED,
    ComponentRecord,
    PartitionRecord,
    VolumeRecord,
)
from vmount.parsers.volume_map import (
    Area,
    Concat,
    Mirror,
    Missing,
    Parity,
    ParityLayout,
    Stripe,
    VolumeMap,
    length_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.ldm.disk import Database, LdmDisk

MOST_COLUMNS = 32
"""Windows spreads a volume over at most 32 disks."""

ACTIVE = "ACTIVE"
"""State of a component that is in use and up to date."""


@dataclass(frozen=True)
class Members:
    """The disks of a group, by object id."""

    disks: dict[int, tuple[str, LdmDisk]]
    newest: int
    """Sequence number of the database in use."""
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, database: Database, disks: Sequence[tuple[str, LdmDisk]]) -> Members:
        """Match the disks with the records of a database."""
        by_guid = {disk.header.disk_guid: (name, disk) for name, disk in disks}
        found = {}
        for record in database.disks.values():
            member = by_guid.pop(record.guid, None)
            if member is not None:
                found[record.id] = member
        warnings = [f"{name} is no longer a member" for name, _ in by_guid.values()]
        return cls(found, database.header.sequence, tuple(warnings))


def volume_mapping(
    volume: VolumeRecord, database: Database, members: Members
) -> tuple[str, VolumeMap, set[str]]:
    """Return the kind of a volume, its mapping, and the names of the group's disks that it is on.

    Raises Corrupt where the records do not match, Unsupported for a type that is not known.
    """
    components = [each for each in database.components.values() if each.volume == volume.id]
    if not components or len(components) != volume.components:
        raise Corrupt(
            f"components of volume {volume.name}",
            expected=volume.components,
            actual=len(components),
        )
    redundant = len(components) > 1 or components[0].type == RAID5
    if len(components) == 1:
        kinds = {STRIPED: "striped", RAID5: "raid5"}
        kind = kinds.get(components[0].type)
        if kind is None:
            kind = "simple" if components[0].partitions == 1 else "spanned"
    else:
        kind = "mirrored"
    copies: list[VolumeMap] = []
    on_disks: set[str] = set()
    for component in sorted(components, key=lambda each: each.id):
        partitions = _partitions(component, database)
        on_disks |= {_disk_name(each, database) for each in partitions}
        copy = _component_mapping(component, partitions, volume, database, members, redundant)
        if len(components) > 1 and component.state != ACTIVE:
            copy = Missing(f"{component.name} (a copy in state {component.state})", length_of(copy))
        copies.append(copy)
    return kind, copies[0] if len(copies) == 1 else _mirror(copies), on_disks


def _partitions(component: ComponentRecord, database: Database) -> list[PartitionRecord]:
    found = [each for each in database.partitions.values() if each.component == component.id]
    if not found or len(found) != component.partitions:
        raise Corrupt(
            f"partitions of component {component.name}",
            expected=component.partitions,
            actual=len(found),
        )
    return sorted(found, key=lambda each: (each.column, each.offset))


def _component_mapping(
    component: ComponentRecord,
    partitions: list[PartitionRecord],
    volume: VolumeRecord,
    database: Database,
    members: Members,
    redundant: bool,
) -> VolumeMap:
    if component.type not in (STRIPED, SPANNED, RAID5):
        raise Unsupported(f"LDM component of type {component.type}")
    count = 1 if component.type == SPANNED else component.columns
    if not 1 <= count <= MOST_COLUMNS:
        raise Corrupt(f"columns of component {component.name}", actual=count)
    data_columns = count - 1 if component.type == RAID5 else count
    if data_columns < 1 or volume.size % data_columns:
        raise Corrupt(f"size of volume {volume.name}", actual=volume.size)
    sectors = volume.size // data_columns
    columns: list[list[PartitionRecord]] = [[] for _ in range(count)]
    for partition in partitions:
        if partition.column >= count:
            raise Corrupt(f"column of partition {partition.name}", actual=partition.column)
        columns[partition.column].append(partition)
    mapped = tuple(
        _column(component, column, sectors, database, members, redundant) for column in columns
    )
    if component.type == SPANNED:
        return mapped[0]
    chunk = component.chunk
    if chunk < 1 or sectors % chunk:
        raise Corrupt(f"stripe size of component {component.name}", actual=chunk)
    if component.type == STRIPED:
        return Stripe(mapped, chunk * SECTOR)
    return Parity(mapped, chunk * SECTOR, ParityLayout.LEFT_SYMMETRIC)


def _column(
    component: ComponentRecord,
    partitions: list[PartitionRecord],
    sectors: int,
    database: Database,
    members: Members,
    redundant: bool,
) -> VolumeMap:
    """Map the first `sectors` of a column. Its partitions must follow each other without a gap."""
    parts: list[VolumeMap] = []
    end = 0
    for partition in partitions:
        if partition.offset != end or partition.size == 0:
            raise Corrupt(
                f"offset of partition {partition.name} in {component.name}",
                expected=end,
                actual=partition.offset,
            )
        end += partition.size
        wanted = min(partition.size, sectors - partition.offset)
        if wanted > 0:
            parts.append(_area(partition, wanted, database, members, redundant))
    if end < sectors:
        raise Corrupt(f"size of component {component.name}", expected=sectors, actual=end)
    return parts[0] if len(parts) == 1 else Concat(tuple(parts))


def _area(
    partition: PartitionRecord, sectors: int, database: Database, members: Members, redundant: bool
) -> VolumeMap:
    length = sectors * SECTOR
    name = _disk_name(partition, database)
    member = members.disks.get(partition.disk)
    if member is None:
        return Missing(name, length)
    device, disk = member
    header = disk.header
    start = partition.start * SECTOR
    if start + partition.size * SECTOR > header.data_size:
        raise Corrupt(
            f"partition {partition.name} beyond the end of {name}",
            expected=header.data_size,
            actual=start + partition.size * SECTOR,
        )
    own = disk.database
    if own is None and redundant:
        return Missing(f"{name} (it is unknown whether it is up to date)", length)
    if own is not None and own.header.sequence != members.newest:
        if redundant:
            return Missing(f"{name} (it was absent when the others changed)", length)
        if own.partitions.get(partition.id) != partition:
            return Missing(f"{name} (its own database is older and has no such partition)", length)
    return Area(device, header.data_start + start, length)


def _disk_name(partition: PartitionRecord, database: Database) -> str:
    record = database.disks.get(partition.disk)
    if record is None:
        raise Corrupt(f"disk of partition {partition.name}", actual=partition.disk)
    return f"{record.name} {record.guid}"


def _mirror(copies: list[VolumeMap]) -> VolumeMap:
    """Join copies; where none is whole, piece by piece from those that have the piece."""
    if any(map(is_readable, copies)) or not all(map(_is_linear, copies)):
        return Mirror(tuple(copies))
    cuts = sorted({cut for copy in copies for cut in _cuts(copy)})
    pieces = []
    for start, end in pairwise(cuts):
        pieces.append(Mirror(tuple(_piece(copy, start, end) for copy in copies)))
    return pieces[0] if len(pieces) == 1 else Concat(tuple(pieces))


def _parts(mapping: VolumeMap) -> tuple[VolumeMap, ...]:
    return mapping.parts if isinstance(mapping, Concat) else (mapping,)


def _is_linear(mapping: VolumeMap) -> bool:
    return all(isinstance(part, Area | Missing) for part in _parts(mapping))


def _cuts(mapping: VolumeMap) -> list[int]:
    cuts = [0]
    for part in _parts(mapping):
        cuts.append(cuts[-1] + length_of(part))
    return cuts


def _piece(mapping: VolumeMap, start: int, end: int) -> VolumeMap:
    """Return what a linear mapping has in a range that lies in one of its parts."""
    position = 0
    for part in _parts(mapping):
        length = length_of(part)
        if position <= start and end <= position + length:
            if isinstance(part, Area):
                return Area(part.device, part.start + start - position, end - start)
            assert isinstance(part, Missing)
            return Missing(part.device, end - start)
        position += length
    raise AssertionError("the range is not in any part")
