"""The volumes of Windows' dynamic disks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.disks.disk import path_component, unique_name
from vmount.errors import explain
from vmount.parsers.errors import ParseError
from vmount.parsers.ldm.disk import LdmDisk, read_ldm_disk
from vmount.parsers.ldm.group import assemble
from vmount.volumes.base import Assembly, built, extents_of_words
from vmount.volumes.device import Device, Extent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.disks.disk import Disk
    from vmount.parsers.reader import BlockSource


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
            made.lost[disk.name] = f"dynamic disk: {error}"
        except OSError as error:
            made.lost[disk.name] = f"dynamic disk: {explain(error)}"
        else:
            sources[disk.name] = disk.data
            made.members[disk.name] = "a dynamic disk"
    made.warnings += [f"{name}: {reason}" for name, reason in made.lost.items()]
    result = assemble(members)
    made.warnings += result.warnings
    readable = {ldm.header.group_guid for _, ldm in members if ldm.database is not None}
    for name, ldm in members:
        if ldm.header.group_guid not in readable:
            made.lost[name] = "; ".join(ldm.warnings)
    extents_of = extents_of_words(
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
        made.devices.append(built(device, volume.mapping, sources, made.warnings))
        if volume.degraded:
            made.warnings.append(f"{name}: a disk is missing; the data is read by its redundancy")
    return made
