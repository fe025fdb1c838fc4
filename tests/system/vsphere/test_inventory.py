"""Machines are found by everything that names them, in a real (simulated) vCenter."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from pyVmomi import vim

from tests.support.vsphere.controls import Controls
from tests.support.vsphere.machines import new_folder, new_machine
from tests.system.vsphere.conftest import Vcenter
from vmount.errors import SourceError
from vmount.vsphere.errors import ObjectGone
from vmount.vsphere.inventory import find_moref, find_vm, list_machines
from vmount.vsphere.session import Session, connected
from vmount.vsphere.settings import ConnectionSettings
from vmount.vsphere.snapshot_tree import Power
from vmount.vsphere.virtual_machine import read_machine


async def tell_address(session: Session, moref: str, name: str, address: str) -> None:
    """Let a machine have an address, as the simulator's own settings do."""
    changes = [
        vim.option.OptionValue(key="SET.guest.hostName", value=name),
        vim.option.OptionValue(key="SET.guest.ipAddress", value=address),
    ]
    spec = vim.vm.ConfigSpec(extraConfig=changes)
    vm = session.vm(moref)
    await session.wait_task(await session.call(lambda: vm.ReconfigVM_Task(spec)), 10)


async def test_by_everything_that_names_it(settings: ConnectionSettings) -> None:
    async with connected(settings) as session:
        await tell_address(session, "vm-57", "web01.example", "192.0.2.7")
        vm = await read_machine(session, "vm-57")
        keys = [
            vm.moref,
            vm.name,
            vm.path,
            vm.path.strip("/"),
            vm.bios_uuid,
            vm.bios_uuid.upper(),
            vm.bios_uuid.replace("-", ""),
            vm.instance_uuid,
            "192.0.2.7",
            "web01.example",
            "moref=vm-57",
            f"name={vm.name}",
            f"uuid={vm.instance_uuid}",
            f"path={vm.path}",
            "ip=192.0.2.7",
            "dns=web01.example",
        ]
        for key in keys:
            assert await find_moref(session, key) == "vm-57", key
        assert (vm.guest.host_name, vm.guest.address) == ("web01.example", "192.0.2.7")


async def test_all_of_a_machine(settings: ConnectionSettings) -> None:
    async with connected(settings) as session:
        vm = await find_vm(session, "DC0_C0_RP0_VM1")
        other: Any = session.vm(vm.moref)
        assert vm.path == "/DC0/vm/DC0_C0_RP0_VM1"
        assert vm.datacenter == "DC0"
        assert vm.power is Power.ON
        assert vm.connection == "connected"
        assert vm.host is not None
        assert vm.host.name == await session.read(lambda: other.runtime.host.name)
        assert [store.name for store in vm.datastores] == ["LocalDS_0"]
        assert vm.vmx == "[LocalDS_0] DC0_C0_RP0_VM1/DC0_C0_RP0_VM1.vmx"
        assert vm.snapshots == ()
        assert [(disk.file, disk.problem) for disk in vm.disks] == [
            ("[LocalDS_0] DC0_C0_RP0_VM1/disk1.vmdk", None)
        ]


async def test_a_machine_is_read_in_one_round_trip(
    vcenter: Vcenter, settings: ConnectionSettings
) -> None:
    async with connected(settings) as session:
        before = Controls(vcenter).called()
        await read_machine(session, "vm-57")
        assert Controls(vcenter).called() - before == {"RetrievePropertiesEx": 1}


@pytest.mark.requirement("R13")
async def test_two_machines_of_one_name(settings: ConnectionSettings) -> None:
    async with connected(settings) as session:
        await new_folder(session, "other")
        first = await new_machine(session, "web")
        second = await new_machine(session, "web", folder="DC0/vm/other")
        with pytest.raises(SourceError) as caught:
            await find_moref(session, "web")
        text = str(caught.value)
        assert f"{first} /DC0/vm/web" in text
        assert f"{second} /DC0/vm/other/web" in text
        assert text.endswith("give its moRef or path")
        assert await find_moref(session, "/DC0/vm/other/web") == second
        assert await find_moref(session, first) == first


@pytest.mark.parametrize("wanted", ["DC0_H0_VM", "dc0_h0_vm0", "DC0/vm/DC0_H0_VM7", "name=H0"])
async def test_none_of_that_name(settings: ConnectionSettings, wanted: str) -> None:
    async with connected(settings) as session:
        with pytest.raises(
            SourceError, match=r"no VM '.*'; did you mean .*vm-57 /DC0/vm/DC0_H0_VM0"
        ):
            await find_moref(session, wanted)


@pytest.mark.parametrize(
    "wanted",
    [
        "vm-99999",
        "moref=vm-99999",
        "192.0.2.1",
        "8f2e0d6c-0b0f-4a51-9d0c-3f3f6f0e8b11",
        "uuid=x",
        "zzz",
    ],
)
async def test_nothing_like_it(settings: ConnectionSettings, wanted: str) -> None:
    async with connected(settings) as session:
        with pytest.raises(SourceError, match="no VM ") as caught:
            await find_moref(session, wanted)
        assert "vmount vms lists them" in caught.value.as_command()
        with pytest.raises(ObjectGone, match="VirtualMachine vm-99999 does not exist"):
            await read_machine(session, "vm-99999")


NAMES = [
    "web@1",
    "a b",
    "a+b",
    "100%25",  # the machine is called 100%
    "a%2fb",  # a/b
    "a%5cb",  # a\b
    "#?&;=",
    "[x] (y), 'z'",
    "vmware-système ☃",
    "vm-42",
]


@pytest.mark.requirement("R16")
async def test_odd_names(settings: ConnectionSettings) -> None:
    shown = {"100%25": "100%", "a%2fb": "a/b", "a%5cb": "a\\b"}
    async with connected(settings) as session:
        for name in NAMES:
            moref = await new_machine(session, name)
            vm = await find_vm(session, name)
            assert (vm.moref, vm.name) == (moref, shown.get(name, name))
            assert vm.path == f"/DC0/vm/{name}"
            for key in (vm.name, vm.path):
                assert await find_moref(session, key) == moref, key
        listed = [entry.name for entry in await list_machines(session)]
        assert {shown.get(name, name) for name in NAMES} <= set(listed)


@pytest.mark.vcsim("-esx")
async def test_on_a_host(settings: ConnectionSettings) -> None:
    async with connected(settings) as session:
        assert not session.is_vcenter
        vm = await find_vm(session, "ha-host_VM0")
        assert (vm.path, vm.datacenter) == ("/ha-datacenter/vm/ha-host_VM0", "ha-datacenter")
        assert vm.host is not None
        for key in (vm.moref, vm.path, vm.bios_uuid, vm.instance_uuid):
            assert await find_moref(session, key) == vm.moref


@pytest.mark.vcsim("-dc", "2", "-vm", "100")
async def test_many_machines(settings: ConnectionSettings) -> None:
    async with connected(settings) as session:
        with trio.fail_after(20):
            entries = await list_machines(session)
        assert len(entries) == 2 * 2 * 100
        assert len({entry.moref for entry in entries}) == 400
        assert all(entry.bios_uuid and entry.host for entry in entries)
        one = await find_vm(session, "DC1_C0_RP0_VM42")
        assert one.path == "/DC1/vm/DC1_C0_RP0_VM42"
        some = await list_machines(session, "dc1_h0_vm?")
        assert [entry.name for entry in some] == [f"DC1_H0_VM{number}" for number in range(10)]
        assert len(await list_machines(session, "/DC0/*")) == 200
        assert len(await list_machines(session, "rp0")) == 200
