"""`vmount VM MOUNTPOINT`: a machine of a simulated vCenter whose disks are real ones."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
import trio

from fixtures.machine import Machine
from tests.support.mounts.virtual_machines import (
    CHANGES,
    Vm,
    certificate,
    connection_to,
    digest,
    made_of,
    vcenter,
    vcsim,
    vm,
    vmount,
)
from tests.support.vsphere.disk_machines import STORE, create_machine
from tests.system.mounts.conftest import Vmount
from tests.system.mounts.test_machine import expected_of, walked
from tests.system.vsphere.conftest import Vcenter
from vmount.api import open_disks
from vmount.disk_set import OpenDiskSet
from vmount.options import OpenOptions
from vmount.runtime import TrioRuntime
from vmount.state import StateDir

__all__ = ["certificate", "made_of", "vcenter", "vcsim", "vm", "vmount"]

pytestmark = pytest.mark.mount


@pytest.mark.requirement("R2", "R36")
@pytest.mark.parametrize("way", ["https", "file"])
def test_a_machine_is_mounted_walked_and_left_alone(vmount: Vmount, vm: Vm, way: str) -> None:
    options = [f"--datastore={STORE}={vm.vcenter.datastores[STORE]}"] if way == "file" else []
    with vmount.mounted(vm.moref, *options) as mountpoint:
        assert vm.changes() == list(CHANGES[:3])
        info = json.loads((mountpoint / "info.json").read_text())
        for name, flat in vm.flat.items():
            assert digest(mountpoint / "disks" / f"{name}.raw") == digest(flat)
        names = vm.volumes()
        shown = {path.name for path in (mountpoint / "volumes").iterdir() if path.is_dir()}
        assert shown == set(names)
        for name, made in names.items():
            volume = vm.made_of.volumes[made]
            assert walked(mountpoint / "volumes" / name, volume) == expected_of(volume), name
    assert vm.changes() == list(CHANGES)
    vm.assert_left_alone()
    assert [disk["name"] for disk in info["disks"]] == list(vm.flat)
    for disk in info["disks"]:
        assert disk["transport"]["used"] == way
        refused = [refusal["name"] for refusal in disk["transport"]["refused"]]
        assert refused == ([] if way == "file" else ["san", "hotadd", "nbdssl", "nbd"])
        assert disk["problem"] is None
    assert len(info["disks"][2]["chain"]) == 32
    (machine,) = info["machines"]
    assert (machine["moref"], machine["name"]) == (vm.moref, "web01")
    assert machine["consistency"] == "crash-consistent"
    assert machine["locked"] is True
    assert not any(vmount.state.iterdir())


def test_info_ls_cat_and_cp_leave_it_alone(vmount: Vmount, vm: Vm, tmp_path: Path) -> None:
    shown = vmount.run("info", "-v", "web01").stdout.decode()
    assert f"web01 ({vm.moref})" in shown
    assert "not by nbdssl: VDDK is not installed" in " ".join(shown.split())
    info = json.loads(vmount.run("info", "--json", "DC0/vm/web01").stdout)
    assert [disk["size"] for disk in info["disks"]] == [
        flat.stat().st_size for flat in vm.flat.values()
    ]
    assert b"volumes" in vmount.run("ls", vm.moref).stdout
    raw = vmount.run("cat", vm.moref, "disks/scsi0-3.raw").stdout
    assert raw == vm.flat["scsi0-3"].read_bytes()
    vmount.run("cp", vm.moref, "disks/scsi1-0.raw", tmp_path / "copy")
    assert digest(tmp_path / "copy") == digest(vm.flat["scsi1-0"])
    vm.assert_left_alone()


@pytest.mark.requirement("R7")
@pytest.mark.parametrize("way", ["https", "file"])
async def test_the_end_of_all_tasks_leaves_it_alone(vm: Vm, tmp_path: Path, way: str) -> None:
    folders = {STORE: vm.vcenter.datastores[STORE]} if way == "file" else {}
    options = OpenOptions(connection=connection_to(vm.vcenter), datastores=folders)
    with StateDir(tmp_path / "state").journal() as journal:
        async with trio.open_nursery() as nursery:
            runtime = TrioRuntime(nursery)
            manager = await OpenDiskSet.open([vm.moref], runtime, options, journal)
            try:
                nursery.cancel_scope.cancel()
                await trio.sleep_forever()
            finally:
                await manager.aclose()
    vm.assert_left_alone()


def test_the_python_api_mounts_the_snapshot_that_it_reads(vm: Vm, tmp_path: Path) -> None:
    options = OpenOptions(connection=connection_to(vm.vcenter))
    with open_disks(vm.moref, options=options, state_dir=tmp_path / "state") as disks:
        name, made = next(iter(vm.volumes().items()))
        volume = vm.made_of.volumes[made]
        (handle,) = [handle for handle in disks.volume_handles() if handle.name == name]
        assert walked(handle.mount(), volume) == expected_of(volume)
        with disks.open("disks/scsi0-3.raw") as file:
            assert file.read() == vm.flat["scsi0-3"].read_bytes()
        assert vm.changes().count("CreateSnapshot_Task") == 1
    vm.assert_left_alone()


@pytest.mark.requirement("R7")
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_foreground(vmount: Vmount, vm: Vm, ending: signal.Signals) -> None:
    mountpoint = vmount.new_mountpoint()
    with subprocess.Popen(
        vmount.command("mount", "--foreground", "--json", vm.moref, mountpoint),
        stdout=subprocess.PIPE,
        env=vmount.environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        assert (mountpoint / "info.json").exists()
        process.send_signal(ending)
        assert process.wait(60) == 0
    assert not os.path.ismount(mountpoint)
    vm.assert_left_alone()


@pytest.mark.requirement("R50")
def test_an_unusable_disk_is_listed_and_the_others_are_mounted(
    vmount: Vmount, vcenter: Vcenter, made_of: Machine
) -> None:
    folder = made_of.vmx.parent
    size = made_of.disks["scsi0-0"].stat().st_size
    disks = {
        (0, 0): ([folder / "scsi0-0.vmdk"], size),
        (0, 1): ([folder / "scsi0-0.vmdk"], size),
        (0, 2): ([folder / "nvme0-0.vmdk"], size + 512),
    }
    moref = create_machine(vcenter, disks, modes={(0, 1): "independent_persistent"})
    with vmount.mounted(moref) as mountpoint:
        info = json.loads((mountpoint / "info.json").read_text())
        assert (mountpoint / "volumes/scsi0-0-p1").is_dir()
    problems = [disk["problem"] for disk in info["disks"]]
    assert problems[0] is None
    assert problems[1].startswith("independent")
    assert re.match(r"scsi0-2: no transport can read this disk: .*vSphere reports", problems[2])
    assert [refusal["name"] for refusal in info["disks"][2]["transport"]["refused"]] == [
        *("san", "hotadd", "nbdssl", "nbd", "https"),
    ]


@pytest.mark.requirement("R4")
def test_transports_are_tried_in_order(vmount: Vmount, vm: Vm) -> None:
    text = vmount.error("info", vm.moref, "--transport", "nbdssl:nbd", code=3)
    assert text.count("VDDK is not installed") == 6
    text = vmount.error("info", vm.moref, "--transport", "carrier-pigeon", code=2)
    assert "unknown: carrier-pigeon; known transports: file:" in text
    vm.assert_left_alone()


def test_what_is_neither_file_nor_machine(vmount: Vmount, vm: Vm) -> None:
    assert "no VM 'web02'" in vmount.error("info", "web02", code=3)
    assert "No such file" in vmount.error("info", "web02.vmdk", code=3)
    del vmount.environment["GOVC_URL"]
    text = vmount.error("info", "web01", code=3)
    assert text.startswith(
        "vmount: web01: No such file or directory, and no VM can be searched for"
    )
    assert "--vcenter" in text
