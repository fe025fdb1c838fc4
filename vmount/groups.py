"""Volume managers: from devices that are members to the devices that they make up.

Strategy: MD arrays first, since LVM and file systems lie on them; then LVM; dynamic disks beside them,
from the disks themselves. Each manager's own parser says what belongs together, in words
(`parsers.mapping`); here the words become sources.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from parsers.errors import ParseError
from parsers.ldm.disk import LdmDisk, read_ldm_disk
from parsers.ldm.group import assemble as assemble_ldm
from parsers.lvm.assemble import assemble_lvm
from parsers.lvm.physical import PhysicalVolume, read_pv
from parsers.mapping import Area, Concat, Mirror, Parity, Raid10, Stripe
from parsers.mapping import Mapping as Words
from parsers.md.assemble import assemble_md
from parsers.md.member import MdMember
from parsers.md.read import read_md_member
from vmount.blocks.assembly import build_source
from vmount.disks.device import Device, Extent
from vmount.disks.disk import path_component, unique_name
from vmount.errors import explain

if TYPE_CHECKING:
    from parsers.partition.table import PartitionTable
    from parsers.reader import BlockSource
    from vmount.disks.disk import Disk

log = logging.getLogger(__name__)

LDM_TYPES = frozenset(
    {
        "0x42",
        "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3",
        "af9b60a0-1431-4f62-bc68-3311714a69ad",
    }
)
"""Partition types of dynamic disks: MBR, and GPT's metadata and data."""


@dataclass
class Assembly:
    """What the volume managers made."""

    devices: list[Device] = field(default_factory=list)
    members: dict[str, str] = field(default_factory=dict)
    """By name of a device: what it is a part of, for the user."""
    warnings: list[str] = field(default_factory=list)


def is_dynamic(table: PartitionTable) -> bool:
    """Say whether a disk with this table is a dynamic disk of Windows."""
    return any(partition.type in LDM_TYPES for partition in table.partitions)


async def assemble_dynamic(disks: Sequence[Disk], taken: set[str]) -> Assembly:
    """Make the volumes of dynamic disks. A disk whose database cannot be read is a warning."""
    made = Assembly()
    members: list[tuple[str, LdmDisk]] = []
    sources: dict[str, BlockSource] = {}
    for disk in disks:
        assert disk.data is not None
        try:
            members.append((disk.name, await read_ldm_disk(disk.data)))
        except ParseError as error:
            made.warnings.append(f"{disk.name}: dynamic disk: {error}")
        except OSError as error:
            made.warnings.append(f"{disk.name}: dynamic disk: {explain(error)}")
        else:
            sources[disk.name] = disk.data
            made.members[disk.name] = "a dynamic disk"
    result = assemble_ldm(members)
    made.warnings += result.warnings
    extents_of = _extents_of(
        {name: (Extent(name, 0, source.size),) for name, source in sources.items()}
    )
    for volume in result.volumes:
        name = unique_name(path_component(f"ldm-{volume.group}-{volume.name}"), taken)
        device = Device(
            name,
            "ldm",
            volume.size,
            extents_of(volume.mapping),
            None,
            problem=volume.problem,
            guid=volume.guid,
        )
        made.devices.append(_built(device, volume.mapping, sources, made.warnings))
        if volume.degraded:
            made.warnings.append(f"{name}: a disk is missing; its redundancy makes up for it")
    return made


async def assemble_arrays(devices: Sequence[Device], taken: set[str]) -> Assembly:
    """Make the MD arrays of devices that are members."""
    made = Assembly()
    members: list[tuple[str, MdMember]] = []
    for device in devices:
        try:
            assert device.source is not None
            members.append((device.name, await read_md_member(device.source)))
        except ParseError as error:
            made.warnings.append(f"{device.name}: RAID member: {error}")
        except OSError as error:
            made.warnings.append(f"{device.name}: RAID member: {explain(error)}")
    result = assemble_md(members)
    made.warnings += result.warnings
    sources = {device.name: device.source for device in devices if device.source is not None}
    extents_of = _extents_of({device.name: device.extents for device in devices})
    for array in result.arrays:
        title = array.name.rpartition(":")[2] or array.uuid
        name = unique_name(path_component(f"md-{title}"), taken)
        made.members |= dict.fromkeys(array.members, f"a member of {name}")
        extents = () if array.mapping is None else extents_of(array.mapping)
        device = Device(
            name, "md", array.size, extents, None, problem=array.problem, guid=array.uuid
        )
        if array.mapping is not None:
            device = _built(device, array.mapping, sources, made.warnings)
        made.devices.append(device)
        if array.degraded:
            made.warnings.append(f"{name}: degraded: read by its redundancy")
    return made


async def assemble_logical(devices: Sequence[Device], taken: set[str]) -> Assembly:
    """Make the logical volumes of devices that are LVM2's physical volumes."""
    made = Assembly()
    members: list[tuple[str, PhysicalVolume]] = []
    for device in devices:
        try:
            assert device.source is not None
            members.append((device.name, await read_pv(device.source)))
        except ParseError as error:
            made.warnings.append(f"{device.name}: physical volume: {error}")
        except OSError as error:
            made.warnings.append(f"{device.name}: physical volume: {explain(error)}")
    result = await assemble_lvm(members)
    made.warnings += result.warnings
    sources = {device.name: device.source for device in devices if device.source is not None}
    extents_of = _extents_of({device.name: device.extents for device in devices})
    for volume in result.volumes:
        name = unique_name(path_component(f"lvm-{volume.group}-{volume.name}"), taken)
        made.members |= dict.fromkeys(volume.members, f"a physical volume of {volume.group}")
        extents = () if volume.mapping is None else extents_of(volume.mapping)
        source, problem = None, volume.problem
        if volume.recipe is not None:
            try:
                source = await volume.open(lambda words: build_source(words, sources))
            except ParseError as error:
                problem = str(error)
            except OSError as error:
                problem = explain(error)
        made.devices.append(
            Device(
                name,
                "lvm",
                volume.size,
                extents,
                source,
                problem=problem,
                guid=volume.uuid,
                logical=(volume.group, volume.name),
            )
        )
        if volume.degraded:
            made.warnings.append(f"{name}: degraded: read by its redundancy")
    return made


def _built(
    device: Device, words: Words, sources: Mapping[str, BlockSource], warnings: list[str]
) -> Device:
    """Return the device with its source, or with why there is none."""
    values = vars(device)
    try:
        return Device(**(values | {"source": build_source(words, sources)}))
    except ParseError as error:
        if device.problem is None:
            warnings.append(f"{device.name}: {error}")
        return Device(**(values | {"problem": device.problem or str(error)}))


def _extents_of(
    places: Mapping[str, tuple[Extent, ...]],
) -> Callable[[Words], tuple[Extent, ...]]:
    """Return a function from a mapping to where it lies on the disks.

    `places` says it of each device of the mapping; one that is not there has none.
    """

    def walk(words: Words) -> Iterable[Extent]:
        match words:
            case Area(device, start, length):
                yield from _cut(places.get(device, ()), start, length)
            case Concat(parts):
                for part in parts:
                    yield from walk(part)
            case Stripe(columns=columns) | Parity(columns=columns) | Raid10(columns=columns):
                for column in columns:
                    yield from walk(column)
            case Mirror(copies):
                for copy in copies:
                    yield from walk(copy)

    return lambda words: tuple(walk(words))


def _cut(extents: Sequence[Extent], start: int, length: int) -> Iterable[Extent]:
    """Yield what of a device's extents lies in [start, start + length) of it."""
    position = 0
    for extent in extents:
        first, last = max(start, position), min(start + length, position + extent.length)
        if first < last:
            yield Extent(extent.disk, extent.offset + first - position, last - first)
        position += extent.length
