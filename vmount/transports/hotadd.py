"""The transport `hotadd`: disks are attached to the VM that vmount runs in, and read as its block devices.

The device is known by the UUID of the disk, which it has as its WWN; never by the order in which devices
appear. Two disks of one UUID (a copied machine) cannot be told apart and are refused.

While a disk is attached, a folder named after its WWN stands in /run/vmount/attached: a rule of udev (in the
README) sees it and keeps other programs from mounting what is on the disk.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from vmount.backends.base import BackendError
from vmount.backends.block_device import open_direct
from vmount.backends.device_identity import BlockDevice, BlockDevices
from vmount.cache import CachedDisk
from vmount.disks.disk import OpenedDisk
from vmount.disks.remote import RemoteDisk
from vmount.errors import SourceError, explain
from vmount.state.undo_records import TemporaryFolder
from vmount.transports.base import TransportMode
from vmount.vsphere.attaching import Attached, Attacher
from vmount.vsphere.privileges import ADD_EXISTING_DISK, REMOVE_DISK
from vmount.vsphere.proxy import Firmware, find_proxy

if TYPE_CHECKING:
    from vmount.transports.base import ReadyVm, WantedDisk

log = logging.getLogger(__name__)

APPEARING = 30.0
"""Seconds for a device to appear once its disk is attached."""
LOOK_AGAIN = 0.1
"""Seconds between looking for it."""


@dataclass(frozen=True)
class ThisMachine:
    """Access to the VM that vmount runs in; tests replace it."""

    firmware: Firmware = field(default_factory=Firmware)
    devices: BlockDevices = field(default_factory=BlockDevices)
    marks: Path = Path("/run/vmount/attached")
    """Folder with a folder for each disk that is attached, for udev."""
    appearing: float = APPEARING


class HotAddTransport:
    """Attaches each disk, and takes it off when it is closed."""

    name = "hotadd"

    def __init__(self, machine: ReadyVm, here: ThisMachine | None = None) -> None:
        self._machine = machine
        self._here = here or ThisMachine()
        self._attacher: Attacher | None = None
        self._opening = trio.Lock()
        self._in_use: set[str] = set()
        """WWNs of the disks that are attached."""

    async def open(self, wanted: WantedDisk) -> OpenedDisk:
        """Attach a disk and open its device. Raises VmountError, BackendError."""
        machine, file = self._machine, str(wanted.file)
        async with AsyncExitStack() as stack:
            async with self._opening:
                attacher = await self._find_attacher()
                before = await trio.to_thread.run_sync(self._identities)
                if _wwn(wanted.uuid) in before | self._in_use:
                    raise _ambiguous(file, wanted.uuid)
                self._mark(stack, _wwn(wanted.uuid))
                attached = await attacher.attach(file, wanted.uuid)
                stack.push_async_callback(attacher.detach, attached)
                wwn = _wwn(attached.uuid)
                if not wwn:
                    raise SourceError(f"{file} has no UUID, by which its device is recognised")
                if wwn in before | self._in_use:
                    raise _ambiguous(file, attached.uuid)
                self._in_use.add(wwn)
                stack.callback(self._in_use.discard, wwn)
            device = await self._wait_for(wwn, attached)
            stack.callback(self._here.devices.forget, device)
            transport = await open_direct(device.path, machine.options.remote.direct)
            stack.push_async_callback(transport.aclose)
            if wanted.size and transport.size != wanted.size:
                raise BackendError(
                    f"{device.path} has {transport.size} bytes, the disk has {wanted.size}"
                )
            data = CachedDisk(transport, machine.nursery, machine.options.remote.cache)
            remote = RemoteDisk(self.name, transport, data)
            stack.push_async_callback(remote.aclose)
            return OpenedDisk("raw", data, stack.pop_all().aclose, distant=remote)
        raise AssertionError("not reached")

    async def aclose(self) -> None:
        """Do nothing: each disk is taken off when it is closed."""

    async def _find_attacher(self) -> Attacher:
        if self._attacher is None:
            machine = self._machine
            if machine.journal is None:
                raise SourceError("disks are not attached without a record to undo it")
            wanted = machine.options.proxy_vm
            proxy = await find_proxy(machine.session, self._here.firmware, wanted)
            if proxy == machine.vm:
                raise SourceError(
                    f"{proxy} is the VM that vmount runs in:"
                    " its own disks cannot be distinguished from attached ones"
                )
            self._attacher = Attacher(machine.session, proxy, machine.journal)
        return self._attacher

    async def _wait_for(self, wwn: str, attached: Attached) -> BlockDevice:
        """Return the device of a disk once it is there."""
        devices = self._here.devices
        with trio.move_on_after(self._here.appearing):
            while True:
                await trio.to_thread.run_sync(devices.rescan)
                found = await trio.to_thread.run_sync(devices.with_wwn, wwn)
                if len(found) == 1:
                    log.info("%s is %s", attached.place, found[0].path)
                    return found[0]
                await trio.sleep(LOOK_AGAIN)
        raise BackendError(
            f"attached as {attached.place}, but no device with WWN {wwn} appeared within"
            f" {self._here.appearing:g} s; set disk.EnableUUID = TRUE in the VM that vmount runs in"
        )

    def _mark(self, stack: AsyncExitStack, wwn: str) -> None:
        """Let udev know of a disk that is about to be attached, as far as this process may."""
        journal, mark = self._machine.journal, self._here.marks / wwn
        if journal is None or not wwn:
            return
        entry = journal.begin(TemporaryFolder(str(mark)))
        try:
            mark.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            log.info("%s: udev is not notified: %s", wwn, explain(error))
            entry.end()
            return

        def unmark() -> None:
            with suppress(OSError):
                mark.rmdir()
            entry.end()

        stack.callback(unmark)

    def _identities(self) -> set[str]:
        return {device.identity for device in self._here.devices.all()}


def why_no_proxy(firmware: Firmware | None = None) -> str:
    """Return why this machine cannot have disks attached, as far as it knows; "" if it can."""
    try:
        uuids = (firmware or Firmware()).uuids()
    except PermissionError:
        return "only root can read the UUID of this VM from its firmware"
    return "" if uuids else "this system is not a VM of vSphere"


async def _why_not_here() -> str:
    return why_no_proxy()


def _wwn(uuid: str) -> str:
    """Return the WWN that a disk of a UUID has."""
    return uuid.replace("-", "").replace(" ", "").lower()


def _ambiguous(file: str, uuid: str) -> SourceError:
    return SourceError(
        f"a disk with UUID {uuid} is already attached, and cannot be distinguished from {file}"
    )


MODES = (
    TransportMode(
        name="hotadd",
        needs="vmount runs in a VM of the inventory that has `disk.EnableUUID = TRUE`",
        remarks="disks are attached independent-nonpersistent and detached again; see below",
        open=HotAddTransport,
        why_unusable=_why_not_here,
        privileges=(ADD_EXISTING_DISK, REMOVE_DISK),
    ),
)
