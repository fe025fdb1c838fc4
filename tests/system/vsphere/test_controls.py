"""The simulated vCenter does what tests tell it."""

from __future__ import annotations

from typing import Any

import pytest
from pyVmomi import vim

from tests.support.vsphere.controls import Controls
from tests.system.vsphere.conftest import Vcenter
from vmount.vsphere.errors import PermissionDenied, TaskTimeout
from vmount.vsphere.session import Session, connected
from vmount.vsphere.settings import ConnectionSettings

FILE = "[LocalDS_0] DC0_H0_VM0/disk1.vmdk"
CHILD = "[LocalDS_0] DC0_H0_VM0/disk1-000001.vmdk"


def take(vm: vim.VirtualMachine) -> Any:
    return vm.CreateSnapshot_Task("s", "for a test", False, False)


async def new_snapshot(session: Session) -> vim.vm.Snapshot:
    task = await session.call(take, session.vm("vm-57"))
    snapshot: vim.vm.Snapshot = await session.wait_task(task, 10)
    return snapshot


async def disk_of(session: Session, holder: Any) -> Any:
    config: Any = (await session.properties(holder, "config"))["config"]
    (disk,) = [d for d in config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk)]
    return disk


async def test_a_disk_grows_a_child_and_loses_it(
    vcenter: Vcenter, settings: ConnectionSettings
) -> None:
    async with connected(settings) as session:
        vm = session.vm("vm-57")
        disk = await disk_of(session, vm)
        Controls(vcenter).grow_disk("vm-57", disk.key, CHILD)
        snapshot = await new_snapshot(session)
        assert (await disk_of(session, snapshot)).backing.fileName == FILE
        grown = await disk_of(session, vm)
        assert (grown.backing.fileName, grown.backing.parent.fileName) == (CHILD, FILE)
        task = await session.call(lambda: snapshot.RemoveSnapshot_Task(False, True))
        await session.wait_task(task, 10)
        assert (await disk_of(session, vm)).backing.fileName == FILE


async def test_a_task_is_shown_as_running_for_a_while(
    vcenter: Vcenter, settings: ConnectionSettings
) -> None:
    async with connected(settings) as session:
        Controls(vcenter).delay_task(60_000)
        task = await session.call(take, session.vm("vm-57"))
        with pytest.raises(TaskTimeout, match=r"did not end within 0.2 s"):
            await session.wait_task(task, 0.2)
        Controls(vcenter).delay_task(300)
        assert isinstance(await new_snapshot(session), vim.vm.Snapshot)


async def test_a_refused_privilege(vcenter: Vcenter, settings: ConnectionSettings) -> None:
    privilege = "VirtualMachine.State.CreateSnapshot"
    async with connected(settings) as session:
        manager: Any = session.content.authorizationManager
        vm = session.vm("vm-57")

        def grants() -> list[bool]:
            (answer,) = manager.HasPrivilegeOnEntities(
                [vm], session.key, [privilege, "System.Read"]
            )
            return [one.isGranted for one in answer.privAvailability]

        assert await session.read(grants) == [True, True]
        Controls(vcenter).refuse(privilege)
        assert await session.read(grants) == [False, True]
        with pytest.raises(
            PermissionDenied, match=f"{privilege} on VirtualMachine vm-57"
        ) as caught:
            await session.call(take, vm)
        assert caught.value.privilege == privilege
        assert isinstance(caught.value.__cause__, vim.fault.NoPermission)


async def test_sessions_are_counted(vcenter: Vcenter, settings: ConnectionSettings) -> None:
    controls = Controls(vcenter)
    assert controls.sessions() == 0
    async with connected(settings), connected(settings):
        assert controls.sessions() == 2
        controls.expire_sessions()
        assert controls.sessions() == 0
    assert controls.called()["Login"] == 2
