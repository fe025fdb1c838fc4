"""R49: a disk that was attached is taken off again, and no other one, whatever stands in the journal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pyVmomi import vim

from tests.system.vsphere.conftest import Vcenter
from vmount.errors import SourceError
from vmount.state.undo_records import AttachedDisk
from vmount.vsphere.attached_disks import detach
from vmount.vsphere.recorded import server_of
from vmount.vsphere.session import Session, connected
from vmount.vsphere.settings import ConnectionSettings

PROXY = "vm-60"
FILE = "[LocalDS_0] DC0_H0_VM0/disk1.vmdk"
OWN = "[LocalDS_0] DC0_H0_VM1/disk1.vmdk"


def devices(vm: vim.VirtualMachine) -> list[Any]:
    assert vm.config is not None
    return list(vm.config.hardware.device)


def attach(vm: vim.VirtualMachine) -> Any:
    disk = vim.vm.device.VirtualDisk(
        key=-1,
        controllerKey=next(
            device.key
            for device in devices(vm)
            if isinstance(device, vim.vm.device.VirtualSCSIController)
        ),
        unitNumber=7,
        capacityInKB=1024,
        backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
            fileName=FILE, diskMode="independent_nonpersistent", uuid="6000C29a-0001"
        ),
    )
    spec = vim.vm.device.VirtualDeviceSpec(operation="add", device=disk)
    return vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[spec]))


def disks(vm: vim.VirtualMachine) -> dict[str, int]:
    return {
        getattr(device.backing, "fileName", ""): device.key
        for device in devices(vm)
        if isinstance(device, vim.vm.device.VirtualDisk)
    }


async def attached(session: Session) -> AttachedDisk:
    await session.wait_task(await session.call(attach, session.vm(PROXY)), 30)
    key = (await session.read(disks, session.vm(PROXY)))[FILE]
    return AttachedDisk(server_of(session), PROXY, FILE, "6000C29a-0001", key)


@pytest.mark.parametrize(
    "known",
    [lambda disk: disk, lambda disk: replace(disk, key=None, uuid="")],
    ids=["all of it is known", "killed before the answer"],
)
async def test_it_is_taken_off_and_its_file_stays(
    vcenter: Vcenter,
    settings: ConnectionSettings,
    known: Callable[[AttachedDisk], AttachedDisk],
) -> None:
    async with connected(settings) as session:
        disk = known(await attached(session))
        assert await detach(session, disk)
        assert set(await session.read(disks, session.vm(PROXY))) == {OWN}
        assert (vcenter.datastores["LocalDS_0"] / "DC0_H0_VM0/disk1.vmdk").exists()
        assert not await detach(session, disk), "a second time there is nothing to do"


async def test_a_disk_that_is_another_one_by_now_stays(settings: ConnectionSettings) -> None:
    async with connected(settings) as session:
        disk = await attached(session)
        for other in (replace(disk, key=4711), replace(disk, uuid="6000C29a-0002")):
            with pytest.raises(SourceError, match="not by vmount"):
                await detach(session, other)
        assert FILE in await session.read(disks, session.vm(PROXY))


async def test_a_machine_that_is_gone_took_it_along(settings: ConnectionSettings) -> None:
    async with connected(settings) as session:
        disk = AttachedDisk(server_of(session), "vm-99999", FILE)
        assert not await detach(session, disk)
