"""The configuration of a VM in a folder of this system: a .vmx, with all its disks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vmount.disks.disk import Disk, path_component, unique_name
from vmount.errors import SourceError, explain
from vmount.parsers.errors import ParseError
from vmount.parsers.vmdk.vmx import MAX_VMX, parse_vmx
from vmount.sources.base import SourceKind
from vmount.sources.files import open_disk
from vmount.sources.local_opener import check_reach

if TYPE_CHECKING:
    from vmount.sources.base import Opening


async def open_vmx(source: str, opening: Opening) -> list[Disk]:
    """Open the disks. One that cannot be opened is in the result, with its problem.

    Raises SourceError if none can be opened.
    """
    path = Path(source)
    try:
        if path.stat().st_size > MAX_VMX:
            raise SourceError(f"{source}: too large to be a .vmx")
        machine = parse_vmx(path.read_bytes())
    except OSError as error:
        raise SourceError(explain(error)) from error
    except ParseError as error:
        raise SourceError(str(error.named(source))) from error
    disks = []
    present = [device for device in machine.disks if device.present]
    for device in opening.options.disks.of(source, present, lambda device: device.address):
        name = unique_name(path_component(device.address.replace(":", "-")), opening.names)
        location = str(path.parent / device.file_name)
        try:
            check_reach(Path(location), path)
            disks.append(await open_disk(name, device.file_name, location, opening))
        except (SourceError, OSError) as error:
            problem = explain(error) if isinstance(error, OSError) else str(error)
            disks.append(Disk(name, device.file_name, "unknown", None, problem=problem))
    if not disks:
        raise SourceError(f"{source}: has no virtual disk")
    if all(disk.data is None for disk in disks):
        raise SourceError("; ".join(disk.problem or "" for disk in disks))
    return disks


KIND = SourceKind(
    "vmx",
    "a .vmx",
    lambda source: source.lower().endswith(".vmx"),
    open_vmx,
    is_remote=False,
)
