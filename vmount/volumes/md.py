"""The arrays of Linux RAID (MD)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.disks.disk import path_component, unique_name
from vmount.errors import explain
from vmount.parsers.errors import ParseError
from vmount.parsers.md.assemble import assemble_md
from vmount.parsers.md.member import MdMember
from vmount.parsers.md.read import read_md_member
from vmount.volumes.base import Assembly, built, extents_of_words
from vmount.volumes.device import Device

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    extents_of = extents_of_words({device.name: device.extents for device in devices})
    for array in result.arrays:
        title = array.name.rpartition(":")[2] or array.uuid
        name = unique_name(path_component(f"md-{title}"), taken)
        for member_name, member in members:
            # A spare, a journal and a member that was left out hold nothing else either.
            if member.array_uuid == array.uuid:
                made.members.setdefault(member_name, f"a device of {name}")
        made.members |= dict.fromkeys(array.members, f"a member of {name}")
        extents = () if array.mapping is None else extents_of(array.mapping)
        device = Device(
            name, "md", array.size, extents, None, problem=array.problem, guid=array.uuid
        )
        if array.mapping is not None:
            device = built(device, array.mapping, sources, made.warnings)
        made.devices.append(device)
        if array.degraded:
            made.warnings.append(f"{name}: degraded: read by its redundancy")
    return made
