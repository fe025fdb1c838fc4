"""HotAdd over the simulated vCenter: what is attached, read, detached, refused and left alone."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from pyVmomi import vim

from tests.support.loop_devices import attached
from tests.support.vsphere.meddling import Answer, meddler
from tests.support.vsphere.proxy_machine import (
    PROXY,
    STORE,
    TARGET,
    Place,
    TestDisk,
    disks_of,
    file_of,
    files_of,
    guest_kernel,
    make_disks,
    transport,
)
from tests.system.vsphere.conftest import Vcenter, settings_for
from vmount.backends.base import BackendError
from vmount.datastores.path import DatastorePath
from vmount.errors import SourceError, VmountError
from vmount.state import Journal, StateDir
from vmount.state.undo_records import AttachedDisk, TemporaryFolder
from vmount.transports.hotadd import HotAddTransport
from vmount.vsphere.access import prepare
from vmount.vsphere.access_options import AccessOptions, LockMode
from vmount.vsphere.session import Session, connected
from vmount.vsphere.settings import ConnectionSettings

OWN = f"[{STORE}] DC0_H0_VM1/disk1.vmdk"
FOREIGN = f"[{STORE}] DC0_C0_RP0_VM0/disk1.vmdk"
SIZE = 300_032


class Site:
    """A transport to a machine's disks, and a second look at the machine that they are attached to."""

    def __init__(self, session: Session, way: HotAddTransport, journal: Journal) -> None:
        self.session = session
        self.way = way
        self.journal = journal

    async def attached(self) -> list[str]:
        """Return the files of the proxy's disks."""
        return await self.session.read(files_of, self.session.vm(PROXY))

    async def change(self, *changes: vim.vm.device.VirtualDeviceSpec) -> None:
        """Reconfigure the proxy as somebody else would."""
        spec = vim.vm.ConfigSpec(deviceChange=list(changes))
        task = await self.session.call(self.session.vm(PROXY).ReconfigVM_Task, spec)
        await self.session.wait_task(task, 10)


@pytest.fixture
def content() -> list[bytes]:
    return [random.Random(seed).randbytes(SIZE) for seed in range(8)]


@pytest.fixture
def disks(vcenter: Vcenter, content: list[bytes]) -> list[TestDisk]:
    return make_disks(vcenter, 8, content)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path / "machine")
    place.make()
    return place


@pytest.fixture
def kernel(vcenter: Vcenter, place: Place, disks: list[TestDisk]) -> Iterator[None]:
    with guest_kernel(vcenter, place, disks):
        yield


@asynccontextmanager
async def opened(
    settings: ConnectionSettings, tmp_path: Path, place: Place, vm: str = TARGET
) -> AsyncIterator[Site]:
    with StateDir(tmp_path / "state").journal() as journal:
        async with connected(settings) as session, trio.open_nursery() as nursery:
            yield Site(session, transport(session, nursery, journal, place, vm), journal)
            nursery.cancel_scope.cancel()


@pytest.mark.requirement("R2")
@pytest.mark.usefixtures("kernel")
async def test_a_disk_is_attached_read_and_detached(
    settings: ConnectionSettings,
    tmp_path: Path,
    place: Place,
    disks: list[TestDisk],
    content: list[bytes],
    vcenter: Vcenter,
) -> None:
    async with opened(settings, tmp_path, place) as site:
        disk = await site.way.open(disks[0].wanted)
        assert bytes(await disk.data.read(0, disk.data.size)) == content[0]
        assert await site.attached() == [OWN, disks[0].file]
        (device,) = [
            device
            for device in await site.session.read(disks_of, site.session.vm(PROXY))
            if file_of(device) == disks[0].file
        ]
        assert getattr(device.backing, "diskMode", None) == "independent_nonpersistent"
        mark, entry = site.journal.entries
        wwn = disks[0].uuid.replace("-", "").lower()
        assert mark.undo_record == TemporaryFolder(str(place.folder / "attached" / wwn))
        assert [path.name for path in (place.folder / "attached").iterdir()] == [wwn]
        assert isinstance(entry.undo_record, AttachedDisk)
        assert (entry.undo_record.vm, entry.undo_record.key) == (PROXY, device.key)
        scan = place.folder / "sys/class/scsi_host/host0/scan"
        assert scan.read_text() == "- - -"
        assert disk.distant is not None
        assert disk.distant.describe()["direct"] is True
        await disk.aclose()
        assert await site.attached() == [OWN]
        assert not site.journal.entries
        assert not list((place.folder / "attached").iterdir())
    assert disks[0].image.read_bytes() == content[0]
    changes = vcenter.called("ReconfigVM_Task")
    assert len(changes) == 2


@pytest.mark.requirement("R29")
@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("at_once", [True, False])
async def test_eight_disks(
    settings: ConnectionSettings,
    tmp_path: Path,
    place: Place,
    disks: list[TestDisk],
    content: list[bytes],
    at_once: bool,
) -> None:
    async with opened(settings, tmp_path, place) as site:
        found: dict[str, bytes] = {}

        async def read(disk: TestDisk) -> None:
            here = await site.way.open(disk.wanted)
            if at_once:
                open_now.add(disk.file)
                if len(open_now) == len(disks):
                    all_open.set()
                await all_open.wait()
            found[disk.file] = bytes(await here.data.read(0, here.data.size))
            await here.aclose()

        open_now: set[str] = set()
        all_open = trio.Event()
        if at_once:
            async with trio.open_nursery() as nursery:
                for disk in disks:
                    nursery.start_soon(read, disk)
        else:
            for disk in disks:
                await read(disk)
        assert found == {disk.file: content[index] for index, disk in enumerate(disks)}
        assert await site.attached() == [OWN]
        assert not site.journal.entries


@pytest.mark.requirement("R52")
@pytest.mark.usefixtures("kernel")
async def test_controllers_0_and_3(
    settings: ConnectionSettings,
    tmp_path: Path,
    place: Place,
    disks: list[TestDisk],
    content: list[bytes],
) -> None:
    """Controller 0 has two units free of its sixteen, controller 3 the rest; 1 is shared, 2 is not there."""
    async with opened(settings, tmp_path, place) as site:
        await site.change(controller(1, "virtualSharing"), controller(3))
        await site.change(*[cdrom(unit) for unit in range(2, 15) if unit != 7])
        here = [await site.way.open(disk.wanted) for disk in disks[:4]]
        for index, disk in enumerate(here):
            assert bytes(await disk.data.read(0, SIZE)) == content[index]
        proxy = site.session.vm(PROXY)
        units = await site.session.read(addresses_of, proxy)
        assert units == [(0, 0), (0, 1), (0, 15), (3, 0), (3, 1)]
        for disk in reversed(here):
            await disk.aclose()


@pytest.mark.usefixtures("kernel")
async def test_no_free_unit_is_a_reason(
    settings: ConnectionSettings, tmp_path: Path, place: Place, disks: list[TestDisk]
) -> None:
    async with opened(settings, tmp_path, place) as site:
        await site.change(*[cdrom(unit) for unit in range(1, 16) if unit != 7])
        with pytest.raises(SourceError, match="no SCSI controller of vm-60 has a free unit"):
            await site.way.open(disks[0].wanted)
        assert not site.journal.entries


@pytest.mark.requirement("R50")
@pytest.mark.usefixtures("kernel")
async def test_what_cannot_be_attached_is_a_reason(
    settings: ConnectionSettings, tmp_path: Path, place: Place, disks: list[TestDisk]
) -> None:
    async with opened(settings, tmp_path, place) as site:
        missing = DatastorePath(STORE, "DC0_H0_VM0/missing.vmdk")
        with pytest.raises(SourceError, match=r"attaching to vm-60: .*FileNotFound"):
            await site.way.open(replace(disks[0].wanted, file=missing))
        assert not site.journal.entries
        disk = await site.way.open(disks[1].wanted)
        await disk.aclose()


@pytest.mark.requirement("R49")
@pytest.mark.usefixtures("kernel")
async def test_disks_of_others_are_left_alone(
    settings: ConnectionSettings, tmp_path: Path, place: Place, disks: list[TestDisk]
) -> None:
    async with opened(settings, tmp_path, place) as site:
        await site.change(disk_of(FOREIGN, 5), disk_of(disks[1].file, 6))
        disk = await site.way.open(disks[0].wanted)
        with pytest.raises(SourceError, match="already attached"):
            await site.way.open(disks[1].wanted)
        await disk.aclose()
        assert await site.attached() == [OWN, FOREIGN, disks[1].file]


@pytest.mark.requirement("R49")
@pytest.mark.usefixtures("kernel")
async def test_the_machine_itself_is_refused(
    settings: ConnectionSettings, tmp_path: Path, place: Place, disks: list[TestDisk]
) -> None:
    async with opened(settings, tmp_path, place, vm=PROXY) as site:
        with pytest.raises(SourceError, match="the VM that vmount runs in"):
            await site.way.open(disks[0].wanted)


async def test_a_disk_of_the_same_uuid_is_refused(
    settings: ConnectionSettings, tmp_path: Path, place: Place, disks: list[TestDisk]
) -> None:
    """Somebody has attached a copy of the machine: the device that is there is not the one that is wanted."""
    copy = tmp_path / "copy.img"
    copy.write_bytes(bytes(SIZE))
    with attached(copy) as device:
        (place.links / disks[0].link).symlink_to(device)
        async with opened(settings, tmp_path, place) as site:
            with pytest.raises(SourceError, match="cannot be distinguished"):
                await site.way.open(disks[0].wanted)
            with pytest.raises(SourceError, match="has no UUID"):
                await site.way.open(replace(disks[0].wanted, uuid=""))
            assert await site.attached() == [OWN]


async def test_a_device_that_does_not_appear(
    settings: ConnectionSettings, tmp_path: Path, place: Place, disks: list[TestDisk]
) -> None:
    """As in a machine without disk.EnableUUID."""
    async with opened(settings, tmp_path, replace(place, appearing=0.3)) as site:
        with pytest.raises(BackendError, match=r"disk\.EnableUUID"):
            await site.way.open(disks[0].wanted)
        assert await site.attached() == [OWN]
        assert not site.journal.entries


@pytest.mark.usefixtures("kernel")
async def test_a_disk_of_another_size_is_not_read(
    settings: ConnectionSettings, tmp_path: Path, place: Place, disks: list[TestDisk]
) -> None:
    async with opened(settings, tmp_path, place) as site:
        with pytest.raises(BackendError, match=f"has {SIZE} bytes, the disk has {SIZE * 2}"):
            await site.way.open(replace(disks[0].wanted, size=SIZE * 2))
        assert await site.attached() == [OWN]


@pytest.mark.parametrize(
    "told",
    ["", "00000000-0000-4000-8000-000000000001", "not a number"],
    ids=["none", "other", "odd"],
)
async def test_a_machine_that_is_not_in_the_inventory(
    settings: ConnectionSettings, tmp_path: Path, disks: list[TestDisk], told: str
) -> None:
    place = Place(tmp_path / "elsewhere")
    place.make(told)
    async with opened(settings, tmp_path, place) as site:
        with pytest.raises(VmountError, match="proxy_vm"):
            await site.way.open(disks[0].wanted)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("product_uuid", "06553639-0a5a-d05f-be10-9586ad53aaad"),
        ("product_serial", "VMware-39 36 55 06 5a 0a 5f d0-be 10 95 86 ad 53 aa ad"),
    ],
)
async def test_the_orders_of_bytes_in_which_firmware_tells_the_uuid(
    settings: ConnectionSettings,
    tmp_path: Path,
    place: Place,
    disks: list[TestDisk],
    file: str,
    told: str,
) -> None:
    (place.folder / "dmi/product_uuid").write_text("")
    (place.folder / "dmi" / file).write_text(told)
    async with opened(settings, tmp_path, place) as site:
        disk = await site.way.open(disks[0].wanted)
        await disk.aclose()


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    "name", [PROXY, "/DC0/vm/DC0_H0_VM1", "39365506-5a0a-5fd0-be10-9586ad53aaad"]
)
async def test_the_machine_is_named(
    settings: ConnectionSettings, tmp_path: Path, place: Place, disks: list[TestDisk], name: str
) -> None:
    (place.folder / "dmi/product_uuid").unlink()
    with StateDir(tmp_path / "state").journal() as journal:
        async with connected(settings) as session, trio.open_nursery() as nursery:
            way = transport(session, nursery, journal, place, proxy_vm=name)
            disk = await way.open(disks[0].wanted)
            await disk.aclose()
            nursery.cancel_scope.cancel()


@pytest.mark.requirement("R5")
async def test_the_licence_is_a_reason(
    vcenter: Vcenter,
    certificate: tuple[Path, Path],
    tmp_path: Path,
    place: Place,
    disks: list[TestDisk],
) -> None:
    with meddler(vcenter, certificate[1]) as meddling:
        meddling.method, meddling.answer = "ReconfigVM_Task", Answer.RESTRICTED
        settings = replace(settings_for(vcenter), port=meddling.port)
        async with opened(settings, tmp_path, place) as site:
            with pytest.raises(VmountError, match="licence does not allow"):
                await site.way.open(disks[0].wanted)
            assert await site.attached() == [OWN]
            assert not site.journal.entries


@pytest.mark.requirement("R51", "R54")
@pytest.mark.usefixtures("kernel")
async def test_the_order_of_calls(
    settings: ConnectionSettings,
    tmp_path: Path,
    place: Place,
    disks: list[TestDisk],
    content: list[bytes],
    vcenter: Vcenter,
) -> None:
    """Nothing but attaching and detaching changes a machine, and disks are off before the snapshot goes."""
    with StateDir(tmp_path / "state").journal() as journal:
        async with connected(settings) as session, trio.open_nursery() as nursery:
            async with prepare(session, TARGET, AccessOptions(lock=LockMode.REQUIRE), journal):
                way = transport(session, nursery, journal, place)
                opened = [await way.open(disk.wanted) for disk in disks[:2]]
                for disk, expected in zip(opened, content, strict=False):
                    assert bytes(await disk.data.read(0, SIZE)) == expected
                    await disk.aclose()
            nursery.cancel_scope.cancel()
    changes = [
        "DisableMethods",
        "CreateSnapshot_Task",
        "ReconfigVM_Task",
        "RemoveSnapshot_Task",
        "EnableMethods",
    ]
    order = [call["method"] for call in vcenter.called(*changes)]
    assert order == [*changes[:2], *(["ReconfigVM_Task"] * 4), *changes[3:]]


def addresses_of(vm: vim.VirtualMachine) -> list[tuple[int, int | None]]:
    """Return bus and unit of a machine's disks."""
    assert vm.config is not None
    buses = {
        device.key: device.busNumber
        for device in vm.config.hardware.device
        if isinstance(device, vim.vm.device.VirtualSCSIController)
    }
    return [(buses[device.controllerKey or 0], device.unitNumber) for device in disks_of(vm)]


def controller(bus: int, sharing: str = "noSharing") -> vim.vm.device.VirtualDeviceSpec:
    device = vim.vm.device.ParaVirtualSCSIController(
        key=-10 - bus, busNumber=bus, sharedBus=sharing, scsiCtlrUnitNumber=7
    )
    return vim.vm.device.VirtualDeviceSpec(operation="add", device=device)


def cdrom(unit: int) -> vim.vm.device.VirtualDeviceSpec:
    backing = vim.vm.device.VirtualCdrom.RemotePassthroughBackingInfo(deviceName="")
    device = vim.vm.device.VirtualCdrom(
        key=-100 - unit, controllerKey=202, unitNumber=unit, backing=backing
    )
    return vim.vm.device.VirtualDeviceSpec(operation="add", device=device)


def disk_of(file: str, unit: int) -> vim.vm.device.VirtualDeviceSpec:
    backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(fileName=file, diskMode="persistent")
    device = vim.vm.device.VirtualDisk(
        key=-1, controllerKey=202, unitNumber=unit, backing=backing, capacityInKB=0
    )
    return vim.vm.device.VirtualDeviceSpec(operation="add", device=device)
