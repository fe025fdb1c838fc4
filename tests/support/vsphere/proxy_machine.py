"""The machine that vmount runs in, as a simulated one: loop devices stand for the disks attached to it.

What a guest's kernel and udev do is done by a thread that looks at the simulated machine's hardware: where a
known file is attached, a link of the disk's WWN to a loop device over that file appears.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import trio
from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim

from tests.support.loop_devices import attached
from tests.system.vsphere.conftest import PASSWORD, USER, Vcenter, settings_for
from vmount.backends.device_identity import BlockDevices
from vmount.datastores.path import DatastorePath
from vmount.errors import VmountError
from vmount.options import OpenOptions
from vmount.runtime import TrioRuntime
from vmount.state import Journal, StateDir
from vmount.transports.base import ReadyVm, WantedDisk
from vmount.transports.hotadd import HotAddTransport, ThisMachine
from vmount.vsphere.proxy import Firmware
from vmount.vsphere.session import Session, connected

TARGET, PROXY = "vm-57", "vm-60"
PROXY_UUID = "39365506-5a0a-5fd0-be10-9586ad53aaad"
STORE = "LocalDS_0"
LOOK_EVERY = 0.02
"""Seconds."""


@dataclass(frozen=True)
class Place:
    """The folders of the machine, of the same shape as Linux has them."""

    folder: Path
    appearing: float = 10.0

    @property
    def links(self) -> Path:
        return self.folder / "by-id"

    def make(self, uuid: str = PROXY_UUID) -> None:
        """Make them; `uuid` is what the firmware says."""
        for name in ("by-id", "sys/class/scsi_host/host0", "sys/class/block", "dmi", "net/eth0"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "sys/class/scsi_host/host0/scan").touch()
        (self.folder / "dmi/product_uuid").write_text(f"{uuid}\n")

    def here(self) -> ThisMachine:
        return ThisMachine(
            Firmware(self.folder / "dmi", self.folder / "net"),
            BlockDevices(self.links, self.folder / "dev", self.folder / "sys"),
            self.folder / "attached",
            self.appearing,
        )


@dataclass(frozen=True)
class TestDisk:
    """A disk of the machine to be read."""

    __test__ = False
    name: str
    file: str
    uuid: str
    image: Path
    """Its content."""

    @property
    def wanted(self) -> WantedDisk:
        size = self.image.stat().st_size
        return WantedDisk(self.name, DatastorePath.parse(self.file), size, 2000, self.uuid)

    @property
    def link(self) -> str:
        return f"scsi-3{self.uuid.replace('-', '').lower()}"


def make_disks(vcenter: Vcenter, count: int, content: Sequence[bytes]) -> list[TestDisk]:
    """Put disks into the datastore, beside those of the machine to be read."""
    folder = vcenter.datastores[STORE] / "DC0_H0_VM0"
    disks = []
    for index in range(count):
        (folder / f"data{index}.vmdk").write_text("# Disk DescriptorFile\n")
        image = folder / f"data{index}-flat.vmdk"
        image.write_bytes(content[index])
        uuid = f"6000C29a-bb61-5d7c-60d3-9e3c4b1d{index:04x}"
        file = f"[{STORE}] DC0_H0_VM0/data{index}.vmdk"
        disks.append(TestDisk(f"scsi{index % 4}-{index}", file, uuid, image))
    return disks


@contextmanager
def guest_kernel(vcenter: Vcenter, place: Place, disks: Sequence[TestDisk]) -> Iterator[None]:
    """Let devices come and go with what is attached to the machine."""
    stop = threading.Event()
    service = SmartConnect(
        host=vcenter.host,
        port=vcenter.port,
        user=USER,
        pwd=PASSWORD,
        sslContext=vcenter.trusting(),
    )
    machine = vim.VirtualMachine(PROXY, service._stub)
    with ExitStack() as stack:
        devices = {disk.file: stack.enter_context(attached(disk.image)) for disk in disks}

        def look() -> None:
            while not stop.wait(LOOK_EVERY):
                files = files_of(machine)
                for disk in disks:
                    link = place.links / disk.link
                    if disk.file in files and not link.is_symlink():
                        link.symlink_to(devices[disk.file])
                    elif disk.file not in files:
                        link.unlink(missing_ok=True)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            Disconnect(service)


def files_of(vm: vim.VirtualMachine) -> list[str]:
    """Return the files of the disks that are attached to a machine."""
    return [file_of(device) for device in disks_of(vm)]


def file_of(disk: vim.vm.device.VirtualDisk) -> str:
    return str(getattr(disk.backing, "fileName", ""))


def disks_of(vm: vim.VirtualMachine) -> list[vim.vm.device.VirtualDisk]:
    config = vm.config
    assert config is not None
    return [
        device for device in config.hardware.device if isinstance(device, vim.vm.device.VirtualDisk)
    ]


def transport(
    session: Session,
    nursery: trio.Nursery,
    journal: Journal | None,
    place: Place,
    vm: str = TARGET,
    proxy_vm: str = "",
) -> HotAddTransport:
    """Return the transport to a machine's disks."""
    options = OpenOptions(proxy_vm=proxy_vm)
    machine = ReadyVm(
        vm, None, "DC0", session, TrioRuntime(nursery), nursery, options, journal=journal
    )
    return HotAddTransport(machine, place.here())


def use_disks(
    vcenter: Vcenter,
    port: int,
    state: Path,
    place: Place,
    disks: Sequence[TestDisk],
    pipe: Connection,
) -> None:
    """Open disks one after the other, say "ready", and close them: for a process of its own."""
    from dataclasses import replace

    settings = replace(settings_for(vcenter), port=port)

    async def use() -> None:
        with StateDir(state).journal() as journal:
            async with connected(settings) as session, trio.open_nursery() as nursery:
                way = transport(session, nursery, journal, place)
                opened = [await way.open(disk.wanted) for disk in disks]
                pipe.send("ready")
                for disk in opened:
                    await disk.aclose()
                nursery.cancel_scope.cancel()

    try:
        trio.run(use)
        pipe.send("ended")
    except* VmountError as group:
        pipe.send(f"error: {group.exceptions[0]}")
