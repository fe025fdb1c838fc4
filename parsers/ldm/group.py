"""Disk groups: from the databases of several disks to volumes.

Strategy: all members of a group hold the same database. The newest committed one that is whole is taken;
a member with an older one was away when the others changed, so its part of anything redundant counts as
missing. What is missing is a word of the mapping (`Missing`): whether a volume can be read without it
follows from the mapping.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmount.parsers.availability import is_readable, missing_devices
from vmount.parsers.errors import Corrupt, ParseError
from vmount.parsers.ldm.structures import SECTOR
from vmount.parsers.ldm.volume import Members, volume_mapping
from vmount.parsers.volume_map import Missing, VolumeMap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.ldm.disk import Database, LdmDisk
    from vmount.parsers.ldm.vblk import VolumeRecord


@dataclass(frozen=True)
class LdmVolume:
    """A volume of a disk group. Sizes in bytes."""

    group: str
    group_guid: str
    name: str
    guid: str
    size: int
    kind: str
    """ "simple", "spanned", "striped", "mirrored" or "raid5"."""
    mapping: VolumeMap
    """Of `size` bytes. An area's device is the caller's name of a disk, its offset one on the disk."""
    drive_hint: str | None
    """The drive letter that Windows last gave it ("E:")."""
    partition_type: int
    """As in an MBR."""
    problem: str | None
    """Why it cannot be read."""
    degraded: bool
    """Whether it can be read only because it is redundant."""


@dataclass(frozen=True)
class LdmResult:
    """All volumes of the disks, and what was odd, one sentence each."""

    volumes: tuple[LdmVolume, ...]
    warnings: tuple[str, ...]


def assemble(disks: Sequence[tuple[str, LdmDisk]]) -> LdmResult:
    """Put together the volumes of all disk groups.

    Each disk comes with the caller's name of it, in an order that keeps together what belongs together:
    where clones of a group are there, each set of members is to follow the one before it.
    """
    volumes: list[LdmVolume] = []
    warnings: list[str] = []
    groups: dict[str, list[tuple[str, LdmDisk]]] = {}
    for name, disk in disks:
        warnings += [f"{name}: {text}" for text in disk.warnings]
        groups.setdefault(disk.header.group_guid, []).append((name, disk))
    for members in groups.values():
        sets = _split_clones(members)
        trusted = len(sets) == 1 or _are_whole(sets)
        if len(sets) > 1:
            warnings.append(_about_clones(sets, trusted))
        for each in sets:
            volumes += _assemble_group(each, trusted, warnings)
    return LdmResult(tuple(volumes), tuple(warnings))


def _split_clones(members: list[tuple[str, LdmDisk]]) -> list[list[tuple[str, LdmDisk]]]:
    """Begin another set where a disk comes that the present one has."""
    sets: list[list[tuple[str, LdmDisk]]] = [[]]
    seen: set[str] = set()
    for name, disk in members:
        guid = disk.header.disk_guid
        if guid in seen:
            sets.append([])
            seen.clear()
        seen.add(guid)
        sets[-1].append((name, disk))
    return sets


def _are_whole(sets: list[list[tuple[str, LdmDisk]]]) -> bool:
    """Say whether all sets have the same members, and each of them one state of the database."""
    guids = [{disk.header.disk_guid for _, disk in each} for each in sets]
    sequences = [
        {disk.database.header.sequence for _, disk in each if disk.database is not None}
        for each in sets
    ]
    return all(each == guids[0] for each in guids) and all(len(each) <= 1 for each in sequences)


def _about_clones(sets: list[list[tuple[str, LdmDisk]]], trusted: bool) -> str:
    group = sets[0][0][1].header.group_name
    listed = "; ".join(", ".join(name for name, _ in each) for each in sets)
    if trusted:
        return (
            f"disk group {group} exists {len(sets)} times; by their order these disks are assumed to "
            f"belong together: {listed}"
        )
    return (
        f"disk group {group} exists more than once with different disks ({listed}): "
        "of these, volumes on several disks are not put together"
    )


def _assemble_group(
    disks: list[tuple[str, LdmDisk]], trusted: bool, warnings: list[str]
) -> list[LdmVolume]:
    header = disks[0][1].header
    database = _choose_database(disks, warnings)
    if database is None:
        names = ", ".join(name for name, _ in disks)
        warnings.append(f"disk group {header.group_name}: no database on {names} can be used")
        return []
    members = Members.of(database, disks)
    warnings += [f"disk group {header.group_name}: {text}" for text in members.warnings]
    volumes = [
        _assemble_volume(record, database, members, trusted) for record in database.volumes.values()
    ]
    return sorted(volumes, key=lambda volume: volume.name)


def _choose_database(disks: list[tuple[str, LdmDisk]], warnings: list[str]) -> Database | None:
    """Take the newest; of several that are equally new, the one with the least damage."""
    found = [disk.database for _, disk in disks if disk.database is not None]
    if not found:
        return None
    newest = max(database.header.sequence for database in found)
    chosen = min(
        (database for database in found if database.header.sequence == newest),
        key=lambda database: (not database.complete, len(database.damage)),
    )
    group = chosen.header.group_name
    for name, disk in disks:
        database = disk.database
        if database is not None and database.header.sequence != newest:
            warnings.append(
                f"disk group {group}: the database on {name} is older "
                f"({database.header.sequence}, not {newest}); the newest is used"
            )
    warnings += [f"disk group {group}: {text}" for text in chosen.damage]
    if not chosen.complete:
        expected = chosen.header
        warnings.append(
            f"disk group {group}: the database should have {expected.volumes} volumes, "
            f"{expected.components} components, {expected.partitions} partitions and "
            f"{expected.disks} disks; found {len(chosen.volumes)}, {len(chosen.components)}, "
            f"{len(chosen.partitions)} and {len(chosen.disks)}"
        )
    elif not chosen.header.consistent:
        warnings.append(
            f"disk group {group}: a change was in progress; the state before it is used"
        )
    return chosen


def _assemble_volume(
    record: VolumeRecord, database: Database, members: Members, trusted: bool
) -> LdmVolume:
    size = record.size * SECTOR
    kind, problem, degraded = "simple", None, False
    mapping: VolumeMap = Missing(record.name, size)
    try:
        kind, mapping, devices = volume_mapping(record, database, members)
        missing = missing_devices(mapping)
        if len(devices) > 1 and not trusted:
            raise Corrupt("its disks have clones, and it is unknown which belong together")
        if not is_readable(mapping):
            problem = f"missing: {', '.join(missing)}"
        degraded = problem is None and bool(missing)
    except ParseError as error:
        problem = str(error)
        mapping = Missing(record.name, size)
    return LdmVolume(
        database.header.group_name,
        database.header.group_guid,
        record.name,
        record.guid,
        size,
        kind,
        mapping,
        record.drive_hint,
        record.partition_type,
        problem,
        degraded,
    )
