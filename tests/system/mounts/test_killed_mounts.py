"""R7, R9: the command that mounts a machine, killed and interrupted on its way: cleanup leaves nothing."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from tests.support.vsphere.meddling import Meddler, meddler
from tests.system.mounts.conftest import Vmount
from tests.system.vsphere.conftest import PASSWORD, USER, Vcenter, certificate, vcenter, vcsim
from vmount.mounting.mountinfo import find_mount

__all__ = ["certificate", "vcenter", "vcsim"]

pytestmark = pytest.mark.mount

VM = "vm-57"
PATIENCE = 60.0
MIB = 1 << 20
DESCRIPTOR = """# Disk DescriptorFile
version=1
CID=12345678
parentCID=ffffffff
createType="vmfs"

RW 2048 VMFS "disk1-flat.vmdk"

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
"""
PAIRS = {"DisableMethods": "EnableMethods", "CreateSnapshot_Task": "RemoveSnapshot_Task"}


class Site:
    """A machine with a real disk, in a vCenter behind a meddler."""

    def __init__(self, vmount: Vmount, vcenter: Vcenter, meddler: Meddler) -> None:
        self.vmount, self.vcenter, self.meddler = vmount, vcenter, meddler
        self.mountpoint = vmount.new_mountpoint()
        folder = vcenter.datastores["LocalDS_0"] / "DC0_H0_VM0"
        (folder / "disk1.vmdk").write_text(DESCRIPTOR)
        self.content = os.urandom(4096) * (MIB // 4096)
        (folder / "disk1-flat.vmdk").write_bytes(self.content)

    def reach(self, port: int) -> None:
        """Have the command talk to this port from now on."""
        self.vmount.environment |= {
            "GOVC_URL": f"{self.vcenter.host}:{port}",
            "GOVC_USERNAME": USER,
            "GOVC_PASSWORD": PASSWORD,
            "GOVC_TLS_CA_CERTS": str(self.vcenter.certificate),
        }

    @contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        """Start a mount that stays in the foreground; it does not outlive the block."""
        with subprocess.Popen(
            self.vmount.command("--foreground", "--json", VM, self.mountpoint),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | self.vmount.environment,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def is_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait until the mount answers; False if the process ends before."""
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], PATIENCE)
        assert readable
        return bool(process.stdout.readline())

    def clean_up(self) -> dict[str, list[dict[str, str]]]:
        """Run `vmount cleanup`, past the meddler; return what it says."""
        self.reach(self.vcenter.port)
        done = self.vmount.run("cleanup", "--json", "--vcenter", self.address)
        assert PASSWORD.encode() not in done.stdout + done.stderr
        report: dict[str, list[dict[str, str]]] = json.loads(done.stdout)
        return report

    @property
    def address(self) -> str:
        return f"{self.vcenter.host}:{self.vcenter.port}"

    def assert_nothing_is_left(self) -> None:
        for do, undo in PAIRS.items():
            assert len(self.vcenter.called(do)) == len(self.vcenter.called(undo)), do
        assert find_mount(str(self.mountpoint)) is None
        assert not self.vmount.state.exists() or not list(self.vmount.state.iterdir())


@pytest.fixture
def site(vmount: Vmount, vcenter: Vcenter, certificate: tuple[Path, Path]) -> Iterator[Site]:
    with meddler(vcenter, certificate[1]) as state:
        yield Site(vmount, vcenter, state)


def run_through(site: Site) -> None:
    """Mount, read and unmount undisturbed."""
    site.reach(site.meddler.port)
    site.meddler.reset()
    with site.started() as process:
        assert site.is_ready(process)
        (disk,) = (site.mountpoint / "disks").iterdir()
        assert disk.read_bytes() == site.content
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        assert process.wait(PATIENCE) == 0
        told = [json.loads(line)["level"] for line in process.stderr.read().splitlines()]
        assert set(told) <= {"warning"}
    site.assert_nothing_is_left()
    assert not site.clean_up()["cleaned"]


@pytest.mark.requirement("R7", "R9")
@pytest.mark.slow
def test_killed_on_the_way(site: Site) -> None:
    """At every other call, SOAP and /folder, before and after the server has seen it; at every one of
    SOAP in tests/vsphere/test_undoing.py."""
    run_through(site)
    left = 0
    for number in count(1, 2):
        site.reach(site.meddler.port)
        site.meddler.reset()
        site.meddler.number, site.meddler.is_forwarded = number, number % 4 == 1
        with site.started() as process:
            site.meddler.action = process.kill
            if site.is_ready(process):
                process.send_signal(signal.SIGTERM)
            ending = process.wait(PATIENCE)
        site.meddler.reset()
        report = site.clean_up()
        assert not report["remaining"]
        left += len(report["cleaned"])
        site.assert_nothing_is_left()
        if ending == 0:
            break
        assert ending == -signal.SIGKILL
    assert site.clean_up() == {"schema": 1, "cleaned": [], "remaining": []}
    assert number > 20
    assert left > number / 2


@pytest.mark.requirement("R7")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("method", ["DisableMethods", "CreateSnapshot_Task"])
def test_interrupted_before_it_is_mounted(site: Site, number: signal.Signals, method: str) -> None:
    site.reach(site.meddler.port)
    site.meddler.method, site.meddler.is_forwarded = method, True
    with site.started() as process:
        site.meddler.aside = partial(process.send_signal, number)
        assert not site.is_ready(process)
        assert process.wait(PATIENCE) != 0
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    site.assert_nothing_is_left()


@pytest.mark.requirement("R7")
def test_an_aborted_connection_of_the_kernel(site: Site) -> None:
    site.reach(site.vcenter.port)
    with site.started() as process:
        assert site.is_ready(process)
        subprocess.run(["umount", "--force", site.mountpoint], check=True)
        assert process.wait(PATIENCE) is not None
    site.assert_nothing_is_left()


@pytest.mark.requirement("R9")
def test_a_dead_mount_is_unmounted_and_its_machine_cleaned_up(site: Site) -> None:
    site.reach(site.vcenter.port)
    with site.started() as process:
        assert site.is_ready(process)
        process.kill()
        assert process.wait(PATIENCE) == -signal.SIGKILL
    assert find_mount(str(site.mountpoint)) is not None
    report = site.clean_up()
    assert [outcome["kind"] for outcome in report["cleaned"]] == [
        "mount point",
        "snapshot",
        "relocation lock",
    ]
    site.assert_nothing_is_left()


@pytest.mark.requirement("R8")
def test_two_mounts_of_one_machine(site: Site) -> None:
    site.reach(site.vcenter.port)
    first, second = site.mountpoint, site.vmount.new_mountpoint()
    site.vmount.run(VM, first)
    site.vmount.run(VM, second)
    site.vmount.run("umount", first)
    assert not site.vcenter.called("EnableMethods")
    assert len(site.vcenter.called("RemoveSnapshot_Task")) == 1
    (disk,) = (second / "disks").iterdir()
    assert disk.read_bytes() == site.content
    site.vmount.run("umount", second)
    site.assert_nothing_is_left()


def test_umount_says_what_could_not_be_undone(site: Site) -> None:
    site.reach(site.meddler.port)
    site.vmount.run(VM, site.mountpoint)
    site.meddler.method = "RemoveSnapshot_Task"
    line = site.vmount.error("umount", site.mountpoint, code=1)
    assert "unmounted, but process" in line
    assert "snapshot-" in line
    assert "run: vmount cleanup" in line
    assert not site.clean_up()["remaining"]
    site.assert_nothing_is_left()


def test_of_a_killed_mount_status_and_umount_say_what_remains(site: Site) -> None:
    site.reach(site.vcenter.port)
    with site.started() as process:
        assert site.is_ready(process)
        process.kill()
        assert process.wait(PATIENCE) == -signal.SIGKILL
    shown = site.vmount.run("status", site.mountpoint).stdout.decode()
    assert "snapshot-" in shown
    assert "run: vmount cleanup" in shown
    line = site.vmount.error("umount", site.mountpoint, code=1)
    assert "snapshot-" in line
    assert "relocation lock" in line
    assert "run: vmount cleanup" in line
    assert not site.clean_up()["remaining"]
    site.assert_nothing_is_left()
