"""A VM in vCenter or on an ESXi host, by moRef, name, UUID or inventory path."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.disks.disk import unique_name
from vmount.sources.base import SourceKind
from vmount.sources.foreign import RAW_PREFIX

if TYPE_CHECKING:
    from vmount.disks.disk import Disk
    from vmount.sources.base import Opening

FILES = (".vmdk", ".vmx", ".img", ".raw", ".iso")
"""Endings of sources that name a file, whether it exists or not."""


def is_vm(source: str) -> bool:
    """Return whether a source that is no URI names a VM: what is no file, and is not named like one."""
    is_named_so = source.lower().endswith(FILES) or source.startswith(RAW_PREFIX) or "://" in source
    return not is_named_so and not Path(source).exists()


async def open_vm(source: str, opening: Opening) -> list[Disk]:
    """Find a VM, make it ready to be read, and open its disks. Raises VmountError."""
    from vmount.sources.virtual_machine import OpenVm  # loaded when it is used

    machine = await OpenVm.open(source, opening.runtime, opening.journal, opening.options)
    opening.stack.push_async_callback(machine.aclose)
    opening.machines.append(machine.info)
    return [replace(disk, name=unique_name(disk.name, opening.names)) for disk in machine.disks]


KIND = SourceKind("vm", "a VM in vCenter or on an ESXi host", is_vm, open_vm, needs_connection=True)
