"""Attaching a machine's disk to the machine that vmount runs in.

The disk is attached independent-nonpersistent: whatever happened to write to it, the file would not change.
Each is written down before it is attached, and only what is written down is ever taken off. One change of
the machine at a time, as vSphere requires; tasks of other programs are awaited.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import trio
from pyVmomi import vim, vmodl

from vmount.errors import SourceError, VmountError
from vmount.state.undo_records import AttachedDisk
from vmount.vsphere.attached_disks import detach
from vmount.vsphere.errors import VsphereError, reason
from vmount.vsphere.recorded import server_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vmount.state import Entry, Journal
    from vmount.vsphere.session import Session

log = logging.getLogger(__name__)

ATTACH_LIMIT = 120.0
"""Seconds to wait for a disk to be attached."""
ATTEMPTS = 10
"""Times that attaching is tried while others change the machine."""
PAUSE = 0.5
"""Seconds before it is tried again; twice as many each time, up to LONGEST_PAUSE."""
LONGEST_PAUSE = 5.0
UNITS = 16
"""Of a SCSI controller. Newer paravirtual ones have 64; no machine needs them to be backed up."""
CONTROLLERS = 4
"""SCSI controllers of a machine: buses 0 to 3."""

BUSY = (vim.fault.TaskInProgress, vim.fault.ConcurrentAccess)
"""Another program is changing the VM."""
TAKEN = (vim.fault.InvalidDeviceSpec,)
"""Another program has just taken the unit, if another unit is free now; otherwise the disk is the problem."""


class Place(NamedTuple):
    """A free unit."""

    controller: int
    """Its key."""
    bus: int
    unit: int

    def __str__(self) -> str:
        return f"scsi{self.bus}:{self.unit}"


@dataclass(frozen=True)
class Attached:
    """A disk that vmount has attached."""

    entry: Entry
    place: Place
    uuid: str
    """Of the backing, as vSphere writes it; "" if it has none."""


class Attacher:
    """Attaches disks to one machine. Each is to be detached again."""

    def __init__(self, session: Session, proxy: str, journal: Journal) -> None:
        """`proxy` is the moRef of the machine that vmount runs in."""
        self.proxy = proxy
        self._session = session
        self._journal = journal
        self._change = trio.Lock()

    async def attach(self, file: str, uuid: str = "") -> Attached:
        """Attach the disk of a descriptor, "[datastore] folder/file.vmdk".

        Raises VmountError with the reason if it is refused, and what the session raises; then it is not
        attached, or the journal says that it may be. A cancellation waits.
        """
        disk = AttachedDisk(server_of(self._session), self.proxy, file, uuid)
        async with self._change:
            with trio.CancelScope(shield=True):
                attached = await self._attach(disk)
        return attached

    async def detach(self, attached: Attached) -> None:
        """Detach a disk; a failure is reported and stays in the journal. Cancellation does not interrupt it."""
        with trio.CancelScope(shield=True):
            async with self._change:
                await self._detach(attached.entry)

    async def _attach(self, disk: AttachedDisk) -> Attached:
        pause = PAUSE
        before: Place | None = None
        for attempt in range(1, ATTEMPTS + 1):
            place = await self._session.call(_free_place, self._session.vm(self.proxy), disk.file)
            entry = self._journal.begin(disk)
            try:
                await self._reconfigure(disk, place)
                return await self._identify(entry, disk, place)
            except VmountError as error:
                fault = error.__cause__
                if not isinstance(fault, vmodl.MethodFault) or isinstance(
                    fault, vmodl.RuntimeFault
                ):
                    await self._make_sure(entry, disk, place, is_over=fault is not None)
                    raise
                entry.end()
                may_pass = isinstance(fault, BUSY) or (isinstance(fault, TAKEN) and place != before)
                if attempt == ATTEMPTS or not may_pass:
                    raise SourceError(f"attaching to {self.proxy}: {error.message}") from error
                log.info("%s: %s is not yet attached: %s", self.proxy, disk.file, reason(fault))
            before = place
            await trio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        raise AssertionError("the last attempt raises or returns")

    async def _reconfigure(self, disk: AttachedDisk, place: Place) -> None:
        task = await self._session.call(_ask, self._session.vm(self.proxy), disk, place)
        await self._session.wait_task(task, ATTACH_LIMIT)

    async def _identify(self, entry: Entry, disk: AttachedDisk, place: Place) -> Attached:
        """Learn the name of the new device, for detaching it."""
        try:
            key, uuid = await self._session.call(
                _device_at, self._session.vm(self.proxy), place, disk
            )
        except VsphereError as error:
            raise SourceError(f"{disk} not found there: {error.message}") from None
        entry.update(AttachedDisk(disk.server, disk.vm, disk.file, uuid or disk.uuid, key))
        log.info("%s: attached %s as %s", self.proxy, disk.file, place)
        return Attached(entry, place, uuid or disk.uuid)

    async def _make_sure(
        self, entry: Entry, disk: AttachedDisk, place: Place, *, is_over: bool
    ) -> None:
        """Take a disk off of which nobody knows whether it was attached.

        Unless the request `is_over`, it may still be on its way: the journal then keeps the disk.
        """
        try:
            key, uuid = await self._session.call(
                _device_at, self._session.vm(self.proxy), place, disk
            )
        except SourceError:
            if is_over:
                entry.end()
        except VmountError as error:
            log.error("%s may remain: %s; run: vmount cleanup", disk, error.message)
        else:
            entry.update(AttachedDisk(disk.server, disk.vm, disk.file, uuid or disk.uuid, key))
            await self._detach(entry)

    async def _detach(self, entry: Entry) -> None:
        disk = entry.undo_record
        assert isinstance(disk, AttachedDisk)
        pause = PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await detach(self._session, disk)
            except VmountError as error:
                if isinstance(error.__cause__, BUSY) and attempt < ATTEMPTS:
                    await trio.sleep(pause)
                    pause = min(pause * 2, LONGEST_PAUSE)
                    continue
                log.error("%s remains attached: %s; run: vmount cleanup", disk, error.message)
                return
            entry.end()
            return


def _free_place(vm: vim.VirtualMachine, file: str) -> Place:
    """Return a free unit. Raises SourceError if there is none, or the file is attached already."""
    config = vm.config
    devices = [] if config is None else config.hardware.device
    for device in devices:
        if getattr(device.backing, "fileName", None) == file:
            raise SourceError(f"{file} is already attached to {vm._moId}, but not by vmount")  # noqa: SLF001
    for place in _free_places(devices):
        return place
    raise SourceError(
        f"no SCSI controller of {vm._moId} has a free unit",  # noqa: SLF001
        remedy=f"add a controller: a VM can have {CONTROLLERS}",
    )


def _free_places(devices: Iterable[Any]) -> Iterator[Place]:
    devices = list(devices)
    controllers = [
        device
        for device in devices
        if isinstance(device, vim.vm.device.VirtualSCSIController)
        # A nonpersistent disk cannot be on a bus that machines share.
        and (device.sharedBus or "noSharing") == "noSharing"
    ]
    for controller in sorted(controllers, key=lambda one: one.busNumber):
        taken = {device.unitNumber for device in devices if device.controllerKey == controller.key}
        own = controller.scsiCtlrUnitNumber
        taken.add(7 if own is None else own)
        for unit in range(UNITS):
            if unit not in taken:
                yield Place(controller.key, controller.busNumber, unit)


def _ask(vm: vim.VirtualMachine, disk: AttachedDisk, place: Place) -> Any:
    backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
        fileName=disk.file,
        diskMode=vim.vm.device.VirtualDiskOption.DiskMode.independent_nonpersistent,
    )
    device = vim.vm.device.VirtualDisk(
        key=-1,
        controllerKey=place.controller,
        unitNumber=place.unit,
        backing=backing,
        capacityInKB=0,  # that of the file
    )
    # No fileOperation: the file is there, and is not vmount's.
    change = vim.vm.device.VirtualDeviceSpec(
        operation=vim.vm.device.VirtualDeviceSpec.Operation.add, device=device
    )
    return vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change]))


def _device_at(vm: vim.VirtualMachine, place: Place, disk: AttachedDisk) -> tuple[int, str]:
    """Return key and backing UUID of what was attached. Raises SourceError if it is not there."""
    config = vm.config
    for device in [] if config is None else config.hardware.device:
        if (
            isinstance(device, vim.vm.device.VirtualDisk)
            and (device.controllerKey, device.unitNumber) == (place.controller, place.unit)
            and getattr(device.backing, "fileName", None) == disk.file
        ):
            return device.key, getattr(device.backing, "uuid", None) or ""
    raise SourceError(f"{disk.file} was attached to {disk.vm} as {place}, but it is not there")
