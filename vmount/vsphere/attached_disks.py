"""Disks that were attached to the machine that vmount runs in, and taking them off again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyVmomi import vim

from vmount.errors import SourceError
from vmount.vsphere.errors import ObjectGone

if TYPE_CHECKING:
    from vmount.state.undo_records import AttachedDisk
    from vmount.vsphere.session import Session

DETACH_LIMIT = 300.0
"""Seconds to wait for a disk to be taken off."""


async def detach(session: Session, disk: AttachedDisk) -> bool:
    """Take a disk off the machine it is attached to, and keep its file; False if it is not attached.

    Raises SourceError if another disk is in its place, or VsphereError.
    """
    try:
        task = await session.call(_ask, session.vm(disk.vm), disk)
        if task is None:
            return False
        await session.wait_task(task, DETACH_LIMIT)
    except ObjectGone:
        return False  # with its machine
    return True


def _ask(vm: vim.VirtualMachine, disk: AttachedDisk) -> Any:
    device = _find(vm, disk)
    if device is None:
        return None
    # No fileOperation: the file is not vmount's, and stays.
    change = vim.vm.device.VirtualDeviceSpec(
        operation=vim.vm.device.VirtualDeviceSpec.Operation.remove, device=device
    )
    return vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change]))


def _find(vm: vim.VirtualMachine, disk: AttachedDisk) -> vim.vm.device.VirtualDisk | None:
    """Return the device: what holds the file, and is what was attached as far as is known of that."""
    config = vm.config
    for device in [] if config is None else config.hardware.device:
        if not isinstance(device, vim.vm.device.VirtualDisk):
            continue
        if getattr(device.backing, "fileName", None) != disk.file:
            continue
        uuid = getattr(device.backing, "uuid", None) or ""
        if (disk.key is not None and device.key != disk.key) or (
            disk.uuid and uuid and uuid.lower() != disk.uuid.lower()
        ):
            raise SourceError(
                f"{disk.vm}: {disk.file} is attached as device {device.key}, but not by vmount"
            )
        return device
    return None
