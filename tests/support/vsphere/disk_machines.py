"""Machines in the simulated vCenter whose disks are real ones."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim

from tests.system.vsphere.conftest import PASSWORD, USER, Vcenter

STORE = "LocalDS_0"


@contextmanager
def administrator(vcenter: Vcenter) -> Iterator[Any]:
    """Log in, and out at the end; gives what RetrieveContent does."""
    service = SmartConnect(
        host=vcenter.host, port=vcenter.port, user=USER, pwd=PASSWORD, sslContext=vcenter.trusting()
    )
    try:
        yield service.RetrieveContent()
    finally:
        Disconnect(service)


def create_machine(
    vcenter: Vcenter,
    disks: Mapping[tuple[int, int], tuple[list[Path], int]],
    *,
    name: str = "web01",
    folder: str = "web01",
    powered_on: bool = True,
    datastore: str = STORE,
    modes: Mapping[tuple[int, int], str] | None = None,
) -> str:
    """Make a machine and return its moRef.

    `disks`, by SCSI bus and unit: descriptors, youngest first, and the size in bytes. Whatever is in a
    descriptor's folder is put into the machine's folder of the datastore.
    """
    place = vcenter.datastores[datastore] / folder
    for chain, _ in disks.values():
        shutil.copytree(chain[0].parent, place, dirs_exist_ok=True)
        for link in chain:  # the simulator takes flat disks only
            (place / link.name.replace(".vmdk", "-flat.vmdk")).touch()
    with administrator(vcenter) as content:
        (center,) = content.rootFolder.childEntity
        pool = center.hostFolder.childEntity[0].resourcePool
        task = center.vmFolder.CreateVM_Task(
            config=vim.vm.ConfigSpec(
                name=name,
                guestId="otherGuest",
                files=vim.vm.FileInfo(vmPathName=f"[{datastore}] {folder}/{name}.vmx"),
                deviceChange=_devices(disks, f"[{datastore}] {folder}", modes or {}),
            ),
            pool=pool,
        )
        assert task.info.state == "success", task.info.error
        machine = task.info.result
        if powered_on:
            machine.PowerOnVM_Task()
        moref: str = machine._moId
        return moref


def _devices(
    disks: Mapping[tuple[int, int], tuple[list[Path], int]],
    folder: str,
    modes: Mapping[tuple[int, int], str],
) -> list[Any]:
    add = vim.vm.device.VirtualDeviceSpec.Operation.add
    buses = sorted({bus for bus, _ in disks})
    changes = [
        vim.vm.device.VirtualDeviceSpec(
            operation=add,
            device=vim.vm.device.ParaVirtualSCSIController(
                key=1000 + bus, busNumber=bus, sharedBus="noSharing"
            ),
        )
        for bus in buses
    ]
    for (bus, unit), (chain, size) in disks.items():
        backing = None
        for link in reversed(chain):
            backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
                fileName=f"{folder}/{link.name}",
                diskMode=modes.get((bus, unit), "persistent"),
                parent=backing,
            )
        changes.append(
            vim.vm.device.VirtualDeviceSpec(
                operation=add,
                device=vim.vm.device.VirtualDisk(
                    key=2000 + 16 * bus + unit,
                    controllerKey=1000 + bus,
                    unitNumber=unit,
                    capacityInKB=size // 1024,
                    capacityInBytes=size,
                    backing=backing,
                ),
            )
        )
    return changes
