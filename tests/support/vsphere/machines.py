"""Making machines in the simulated vCenter, as a user would: what tests look for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim

from vmount.vsphere.session import Session

STORE = "LocalDS_0"
KIB = 1024
TASK_LIMIT = 30.0


@dataclass(frozen=True)
class Wanted:
    """A disk to be made. Its files must be in the datastore."""

    files: Sequence[str]
    """Its file, as in "[store] folder/name.vmdk", and its parents'."""
    size: int = 64 * KIB
    unit: int = 0
    controller: int = 1000
    mode: str = "persistent"
    uuid: str | None = None
    change_id: str | None = None


def device(wanted: Wanted) -> vim.vm.device.VirtualDeviceSpec:
    """Return how an existing disk is added."""
    backing: Any = None
    for file in reversed(wanted.files):
        backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
            fileName=file,
            diskMode=wanted.mode,
            parent=backing,
            uuid=wanted.uuid,
            changeId=wanted.change_id,
        )
    return vim.vm.device.VirtualDeviceSpec(
        operation="add",
        device=vim.vm.device.VirtualDisk(
            key=-1,
            controllerKey=wanted.controller,
            unitNumber=wanted.unit,
            capacityInKB=wanted.size // KIB,
            capacityInBytes=wanted.size,
            backing=backing,
        ),
    )


def controllers() -> list[vim.vm.device.VirtualDeviceSpec]:
    """Return two SCSI controllers (buses 0 and 3), one of SATA and one of NVMe."""
    made: list[Any] = [
        vim.vm.device.ParaVirtualSCSIController(key=1000, busNumber=0, sharedBus="noSharing"),
        vim.vm.device.VirtualLsiLogicController(key=1003, busNumber=3, sharedBus="noSharing"),
        vim.vm.device.VirtualAHCIController(key=15000, busNumber=0),
        vim.vm.device.VirtualNVMEController(key=31000, busNumber=1),
    ]
    return [vim.vm.device.VirtualDeviceSpec(operation="add", device=one) for one in made]


def folder_of(session: Session, path: str = "DC0/vm") -> Any:
    """Return a folder. Blocks."""
    index: Any = session.content.searchIndex
    return index.FindByInventoryPath(path)


async def new_folder(session: Session, name: str, parent: str = "DC0/vm") -> None:
    """Make a folder of machines."""
    await session.call(lambda: folder_of(session, parent).CreateFolder(name))


async def new_machine(
    session: Session,
    name: str,
    disks: Sequence[Wanted] = (),
    folder: str = "DC0/vm",
    **config: Any,
) -> str:
    """Make a machine and return its moRef."""
    spec = vim.vm.ConfigSpec(
        name=name,
        guestId="otherGuest64",
        files=vim.vm.FileInfo(vmPathName=f"[{STORE}]"),
        deviceChange=[*controllers(), *map(device, disks)],
        **config,
    )

    def make() -> Any:
        pool: Any = session.vm("vm-57").resourcePool
        return folder_of(session, folder).CreateVM_Task(spec, pool)

    made = await session.wait_task(await session.call(make), TASK_LIMIT)
    return str(made._moId)
