"""The logical volumes of LVM2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.blocks.assembly import build_source
from vmount.disks.disk import path_component, unique_name
from vmount.errors import explain
from vmount.parsers.errors import ParseError
from vmount.parsers.lvm.assemble import assemble_lvm
from vmount.parsers.lvm.physical import PhysicalVolume, read_pv
from vmount.volumes.base import Assembly, extents_of_words
from vmount.volumes.device import Device

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    for name, member in members:
        if member.group is not None:
            made.members[name] = f"a physical volume of {member.group.name}"
        elif member.keeps_metadata and not member.problems:
            made.members[name] = "a physical volume without a volume group"
    sources = {device.name: device.source for device in devices if device.source is not None}
    extents_of = extents_of_words({device.name: device.extents for device in devices})
    for volume in result.volumes:
        name = unique_name(path_component(f"lvm-{volume.group}-{volume.name}"), taken)
        made.members |= dict.fromkeys(volume.members, f"a physical volume of {volume.group}")
        extents = () if volume.mapping is None else extents_of(volume.mapping)
        source, problem = None, volume.problem
        if volume.device_map is not None:
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
