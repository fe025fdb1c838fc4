"""Every transport runs the suite of Transport: over a folder, LUNs, and a simulated vCenter."""

from __future__ import annotations

import random
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest
import trio

from fixtures import vmdk
from tests.contracts.transport import TransportContract
from tests.support.datastores.vmfs_luns import copy_of, put, unpack
from tests.support.loop_devices import attached
from tests.support.vsphere.proxy_machine import (
    Place,
    TestDisk,
    guest_kernel,
    make_disks,
)
from tests.support.vsphere.proxy_machine import transport as hotadd_transport
from tests.system.datastores.conftest import STORE, small
from tests.system.vsphere.conftest import Vcenter, certificate, settings, vcenter, vcsim
from vmount.datastores.lun_choice import LunChoice
from vmount.datastores.path import DatastorePath
from vmount.options import OpenOptions
from vmount.runtime import TrioRuntime
from vmount.state import StateDir
from vmount.transports.base import ReadyVm, WantedDisk
from vmount.transports.datastore import DatastoreTransport
from vmount.transports.file import file_transport
from vmount.transports.hotadd import HotAddTransport
from vmount.transports.https import https_transport
from vmount.transports.program import ConfiguredTransport
from vmount.transports.san import san_transport
from vmount.vsphere.session import Session, connected
from vmount.vsphere.settings import ConnectionSettings

__all__ = ["certificate", "settings", "small", "vcenter", "vcsim"]

LUN_DESCRIPTOR = b"""# Disk DescriptorFile
version=1
CID=1234abcd
parentCID=ffffffff
createType="vmfs"
RW 262144 VMFS "bigger"
"""
PROGRAM = ("nbdkit", "--foreground", "--readonly", "--unix", "{socket}", "file")


def ready(session: Session | None, nursery: trio.Nursery, options: OpenOptions) -> ReadyVm:
    asked = cast("Session", session)  # file and san ask no server
    return ReadyVm("vm-1", None, "DC0", asked, TrioRuntime(nursery), nursery, options)


@pytest.fixture
async def session(settings: ConnectionSettings) -> AsyncIterator[Session]:
    async with connected(settings) as session:
        yield session


class TestFile(TransportContract):
    @pytest.fixture
    def disk(self, small: vmdk.Disk) -> tuple[WantedDisk, bytes]:
        wanted = WantedDisk("scsi0-0", DatastorePath("store", small.path.name))
        return wanted, small.flat.read_bytes()

    @pytest.fixture
    def transport(self, small: vmdk.Disk, nursery: trio.Nursery) -> DatastoreTransport:
        options = OpenOptions(datastores={"store": small.path.parent})
        return file_transport(ready(None, nursery, options))


class TestSan(TransportContract):
    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[Path]:
        image = copy_of(unpack(tmp_path)[6], tmp_path / "lun.img")
        put(image, "normal.vmdk", LUN_DESCRIPTOR.ljust(473, b"\n"))
        put(image, "bigger", random.Random(6).randbytes(3 << 20))
        with attached(image) as device:
            yield device

    @pytest.fixture
    def disk(self) -> tuple[WantedDisk, bytes]:
        content = random.Random(6).randbytes(3 << 20).ljust(128 << 20, b"\0")
        return WantedDisk("scsi0-0", DatastorePath("vmfs6", "normal.vmdk")), content

    @pytest.fixture
    async def transport(
        self, device: Path, nursery: trio.Nursery
    ) -> AsyncIterator[DatastoreTransport]:
        options = OpenOptions(luns=LunChoice((str(device),)))
        transport = san_transport(ready(None, nursery, options))
        yield transport
        await transport.aclose()


@pytest.fixture
def stored(vcenter: Vcenter, small: vmdk.Disk) -> tuple[WantedDisk, bytes]:
    """A disk in a datastore of the simulated vCenter."""
    shutil.copytree(small.path.parent, vcenter.datastores[STORE] / "web")
    wanted = WantedDisk("scsi0-0", DatastorePath(STORE, f"web/{small.path.name}"))
    return wanted, small.flat.read_bytes()


class TestHttps(TransportContract):
    @pytest.fixture
    def disk(self, stored: tuple[WantedDisk, bytes]) -> tuple[WantedDisk, bytes]:
        return stored

    @pytest.fixture
    async def transport(
        self, session: Session, nursery: trio.Nursery
    ) -> AsyncIterator[DatastoreTransport]:
        transport = https_transport(ready(session, nursery, OpenOptions()))
        yield transport
        await transport.aclose()


class TestProgram(TransportContract):
    @pytest.fixture
    def disk(self, vcenter: Vcenter, small: vmdk.Disk) -> tuple[WantedDisk, bytes]:
        (vcenter.datastores[STORE] / "web").mkdir()
        shutil.copy(small.flat, vcenter.datastores[STORE] / "web/disk.raw")
        wanted = WantedDisk("scsi0-0", DatastorePath(STORE, "web/disk.raw"))
        return wanted, small.flat.read_bytes()

    @pytest.fixture
    def transport(
        self, vcenter: Vcenter, session: Session, nursery: trio.Nursery
    ) -> ConfiguredTransport:
        command = (*PROGRAM, f"{vcenter.datastores[STORE]}/{{path}}")
        options = OpenOptions(programs={"mine": command})
        return ConfiguredTransport("mine", ready(session, nursery, options))


class TestHotAdd(TransportContract):
    async def settle(self, request: pytest.FixtureRequest) -> None:
        links = request.getfixturevalue("place").links
        with trio.fail_after(30):
            while list(links.iterdir()):
                await trio.lowlevel.checkpoint()

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        place = Place(tmp_path / "machine")
        place.make()
        return place

    @pytest.fixture
    def disks(self, vcenter: Vcenter) -> list[TestDisk]:
        return make_disks(vcenter, 1, [random.Random(1).randbytes(300_032)])

    @pytest.fixture
    def disk(self, disks: list[TestDisk]) -> tuple[WantedDisk, bytes]:
        return disks[0].wanted, random.Random(1).randbytes(300_032)

    @pytest.fixture
    async def transport(
        self,
        vcenter: Vcenter,
        session: Session,
        nursery: trio.Nursery,
        disks: list[TestDisk],
        place: Place,
        tmp_path: Path,
    ) -> AsyncIterator[HotAddTransport]:
        with guest_kernel(vcenter, place, disks), StateDir(tmp_path / "state").journal() as journal:
            yield hotadd_transport(session, nursery, journal, place)
