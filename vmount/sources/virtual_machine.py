"""A virtual machine in vCenter or on an ESXi host as a source: its disks, for as long as they are read.

The order is fixed: session, relocation lock, snapshot, disks; and backwards when it is closed, whatever ends
the reading. A disk that no transport can read is listed with the reasons.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from vmount.datastores.path import DatastorePath, DatastorePathError
from vmount.disks.disk import Disk, OpenedDisk, Refusal, disk_of
from vmount.errors import SourceError
from vmount.parsers.errors import ParseError
from vmount.parsers.vmdk.chain import ParentChanged
from vmount.transports.base import ReadyVm, Transport, WantedDisk
from vmount.transports.negotiate import NoTransport, negotiate
from vmount.transports.registry import transports_for

if TYPE_CHECKING:
    from vmount.options import OpenOptions
    from vmount.runtime import Runtime
    from vmount.state import Journal
    from vmount.vsphere.access import Access
    from vmount.vsphere.session import Session
    from vmount.vsphere.virtual_disks import VirtualDisk
    from vmount.vsphere.virtual_machine import VirtualMachine

log = logging.getLogger(__name__)

SECTOR = 512


@dataclass(frozen=True)
class VmInfo:
    """Facts about an open VM. Fits JSON by `dataclasses.asdict`."""

    moref: str
    name: str
    server: str
    snapshot: str | None
    """Its moRef; None: none was needed."""
    snapshot_name: str | None
    consistency: str
    """ "powered off", "crash-consistent" or "quiesced"."""
    locked: bool
    """Whether it is kept from being relocated."""


class OpenVm:
    """A machine that is being read. Made by `open`, ended by `aclose`."""

    def __init__(self) -> None:
        self.disks: list[Disk] = []
        self.info: VmInfo
        self._stack = AsyncExitStack()

    @classmethod
    async def open(
        cls,
        name: str,
        runtime: Runtime,
        journal: Journal | None,
        options: OpenOptions,
    ) -> OpenVm:
        """Find a machine by moRef, name, UUID or path, make it ready to be read, and open its disks.

        Raises VmountError; then it is left as it was.
        """
        if options.connection is None:
            reason = options.no_connection or "no vCenter or ESXi host is configured"
            raise SourceError(
                f"{name}: No such file or directory, and no VM can be searched for: {reason}",
                remedy=options.no_connection_remedy,
            )
        assert journal is not None, "opening a VM needs a state folder for its undo records"
        machine = cls()
        try:
            await machine._open(name, runtime, journal, options)
        except BaseException:
            await machine.aclose()
            raise
        return machine

    async def aclose(self) -> None:
        """Close the disks, undo what was done to the machine, log out. A second call does nothing."""
        with trio.CancelScope(shield=True):
            await self._stack.pop_all().aclose()

    async def _open(
        self,
        name: str,
        runtime: Runtime,
        journal: Journal,
        options: OpenOptions,
    ) -> None:
        # Imported here: this takes pyvmomi with it.
        from vmount.vsphere.access import prepare
        from vmount.vsphere.inventory import find_vm
        from vmount.vsphere.session import connected

        nursery = runtime.nursery
        assert nursery is not None, "a VM needs an event loop"
        assert options.connection is not None
        session = await self._stack.enter_async_context(connected(options.connection))
        alive = trio.CancelScope()
        self._stack.callback(alive.cancel)
        nursery.start_soon(_keep_alive, session, alive)
        vm = await find_vm(session, name)
        access = await self._stack.enter_async_context(
            prepare(session, vm.moref, options.access, journal, nursery)
        )
        self.info = _info(session, vm, access)
        machine = ReadyVm(
            vm=vm.moref,
            snapshot=self.info.snapshot,
            datacenter=vm.datacenter,
            session=session,
            runtime=runtime,
            nursery=nursery,
            options=options,
            volumes=_volumes(vm),
            journal=journal,
        )
        await self._open_disks(vm.name, machine, access)

    async def _open_disks(self, name: str, machine: ReadyVm, access: Access) -> None:
        from vmount.vsphere.access import Consistency
        from vmount.vsphere.virtual_disks import disks_of
        from vmount.vsphere.watch import WatchedDisk

        is_off = access.consistency is Consistency.POWERED_OFF
        found = disks_of(access.config.hardware.device, may_change=not is_off)
        if not found:
            raise SourceError(f"{name}: has no virtual disk")
        disks = machine.options.disks.of(name, found, lambda disk: disk.name)
        transports = transports_for(machine)
        for transport in transports:
            self._stack.push_async_callback(transport.aclose)
        opened = await machine.runtime.gather(
            [partial(self._open_disk, disk, transports) for disk in disks]
        )
        if all(disk.data is None for disk in opened):
            raise SourceError("; ".join(disk.problem or "" for disk in opened))
        # Others may remove the snapshot, or switch the machine on: nothing is read then.
        self.disks = [
            disk
            if disk.data is None
            else replace(disk, data=WatchedDisk(disk.data, access.stability))
            for disk in opened
        ]

    async def _open_disk(self, disk: VirtualDisk, transports: list[Transport[OpenedDisk]]) -> Disk:
        """Open a disk, or say why it cannot be read."""
        refused: tuple[Refusal, ...] = ()
        try:
            if disk.problem is not None:
                raise SourceError(disk.problem)
            wanted = WantedDisk(
                disk.name, DatastorePath.parse(disk.file), disk.size, disk.key, disk.uuid
            )
            found = await negotiate(wanted, transports, _verify)
        except NoTransport as error:
            problem, refused = str(error), error.refused
        except ParentChanged as error:
            problem = f"{error}; the option force reads it all the same"
        except (SourceError, ParseError, DatastorePathError) as error:
            problem = str(error)
        else:
            self._stack.push_async_callback(found.opened.aclose)
            return disk_of(disk.name, disk.file, found.transport, found.opened, found.refused)
        return Disk(disk.name, disk.file, "unknown", None, refused=refused, problem=problem)


async def _verify(wanted: WantedDisk, opened: OpenedDisk) -> None:
    """Raise SourceError or OSError unless the disk is what vSphere tells of, and can be read."""
    data = opened.data
    if wanted.size and data.size != wanted.size:
        raise SourceError(f"has {data.size} bytes, but vSphere reports {wanted.size}")
    await data.read(0, min(SECTOR, data.size))


def _info(session: Session, vm: VirtualMachine, access: Access) -> VmInfo:
    snapshot = access.snapshot
    return VmInfo(
        moref=vm.moref,
        name=vm.name,
        server=session.settings.address,
        snapshot=None if snapshot is None else snapshot.moref,
        snapshot_name=None if snapshot is None else snapshot.name,
        consistency=access.consistency.value,
        locked=access.is_locked,
    )


async def _keep_alive(session: Session, scope: trio.CancelScope) -> None:
    with scope:
        await session.keep_alive()


def _volumes(vm: VirtualMachine) -> dict[str, str]:
    """Return the names of the machine's datastores by those that an ESXi host has for their volumes."""
    return {
        store.url.rstrip("/").rpartition("/")[2]: store.name for store in vm.datastores if store.url
    }
