"""The disks of machines: addresses, chains, and why some cannot be read."""

from __future__ import annotations

from typing import Any

import pytest
from pyVmomi import vim

from tests.support.vsphere.machines import KIB, Wanted, device, new_machine
from tests.system.vsphere.conftest import Vcenter
from vmount.vsphere.session import connected
from vmount.vsphere.settings import ConnectionSettings
from vmount.vsphere.virtual_disks import VirtualDisk, disks_of
from vmount.vsphere.virtual_machine import read_machine


def put(vcenter: Vcenter, *names: str) -> None:
    """Make files in the datastore: the simulator wants them to be there."""
    for name in names:
        path = vcenter.datastores["LocalDS_0"] / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        path.with_name(f"{path.stem}-flat.vmdk").write_bytes(b"")


@pytest.mark.requirement("R52")
async def test_addresses_and_chains(vcenter: Vcenter, settings: ConnectionSettings) -> None:
    put(vcenter, *(f"d/{name}.vmdk" for name in ("a", "b", "b-000001", "b-000002", "c", "e", "f")))
    chain = [f"[LocalDS_0] d/{name}.vmdk" for name in ("b-000002", "b-000001", "b")]
    disks = [
        Wanted(["[LocalDS_0] d/f.vmdk"], controller=31000, unit=0),
        Wanted(["[LocalDS_0] d/a.vmdk"], unit=12, uuid="6000C29a", change_id="52 de/7"),
        Wanted(chain, controller=1003, unit=0, size=3 * KIB),
        Wanted(["[LocalDS_0] d/c.vmdk"], unit=2),
        Wanted(["[LocalDS_0] d/e.vmdk"], controller=15000, unit=1, mode="independent_persistent"),
    ]
    async with connected(settings) as session:
        moref = await new_machine(session, "several", disks)
        vm = await read_machine(session, moref)
    found = {disk.name: disk for disk in vm.disks}
    assert list(found) == ["nvme1-0", "sata0-1", "scsi0-2", "scsi0-12", "scsi3-0"]
    assert found["scsi0-12"].uuid == "6000C29a"
    assert found["scsi0-12"].change_id == "52 de/7"
    assert found["scsi3-0"].files == tuple(chain)
    assert found["scsi3-0"].file == chain[0]
    assert found["scsi3-0"].size == 3 * KIB
    assert len({disk.key for disk in vm.disks}) == 5
    assert [disk.problem for disk in vm.disks] == [None] * 5, "it is powered off"


KINDS: Any = vim.vm.device.VirtualDisk
FILE = "[ds] d/x.vmdk"


def decode(backing: Any, *, may_change: bool = True, shared: str = "noSharing") -> VirtualDisk:
    disk = device(Wanted([FILE])).device
    assert disk is not None
    disk.backing = backing
    controller: Any = vim.vm.device.ParaVirtualSCSIController(
        key=1000, busNumber=0, sharedBus=shared
    )
    (found,) = disks_of([controller, disk], may_change=may_change)
    return found


@pytest.mark.requirement("R50")
def test_disks_that_cannot_be_read_have_their_reason() -> None:
    key = vim.encryption.CryptoKeyId(keyId="k1")
    backings = {
        "a raw device in physical": KINDS.RawDiskMappingVer1BackingInfo(
            fileName=FILE, compatibilityMode="physicalMode"
        ),
        "a raw device of its host": KINDS.RawDiskVer2BackingInfo(
            descriptorFileName=FILE, deviceName="/dev/sda"
        ),
        "persistent memory": KINDS.LocalPMemBackingInfo(fileName=FILE),
        "encrypted by vSphere (key k1)": KINDS.FlatVer2BackingInfo(fileName=FILE, keyId=key),
        "has no file": KINDS.FlatVer2BackingInfo(fileName=""),
    }
    for reason, backing in backings.items():
        for may_change in (True, False):
            problem = decode(backing, may_change=may_change).problem
            assert problem is not None
            assert problem.startswith(reason)


def test_disks_that_no_snapshot_keeps_still_are_read_only_of_machines_that_are_off() -> None:
    independent = KINDS.FlatVer2BackingInfo(fileName=FILE, diskMode="independent_nonpersistent")
    shared = KINDS.FlatVer2BackingInfo(
        fileName=FILE, diskMode="persistent", sharing="sharingMultiWriter"
    )
    assert "independent" in (decode(independent).problem or "")
    assert "several VMs" in (decode(shared).problem or "")
    plain = KINDS.FlatVer2BackingInfo(fileName=FILE, diskMode="persistent")
    assert "bus" in (decode(plain, shared="physicalSharing").problem or "")
    assert decode(plain).problem is None
    for backing in (independent, shared):
        assert decode(backing, may_change=False).problem is None


@pytest.mark.parametrize("kind", ["SeSparse", "SparseVer1", "SparseVer2", "FlatVer1"])
def test_other_kinds_of_files(kind: str) -> None:
    backing = getattr(KINDS, f"{kind}BackingInfo")(fileName=FILE, diskMode="persistent")
    disk = decode(backing)
    assert (disk.files, disk.problem) == ((FILE,), None)


def test_a_virtual_raw_device_mapping_is_left_to_the_transports() -> None:
    backing = KINDS.RawDiskMappingVer1BackingInfo(
        fileName=FILE, compatibilityMode="virtualMode", diskMode="persistent"
    )
    assert decode(backing).problem is None


def test_a_disk_without_a_controller_gets_a_number() -> None:
    disk = device(Wanted([FILE])).device
    assert disk is not None
    (found,) = disks_of([disk])
    assert found.name == "disk0"
