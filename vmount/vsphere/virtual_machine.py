"""What vSphere knows of one machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vmount.vsphere.errors import ObjectGone, from_fault
from vmount.vsphere.names import datacenter_of, decode_name, path_of
from vmount.vsphere.properties import Properties, retrieve
from vmount.vsphere.snapshot_tree import Power, SnapshotNode, read_tree
from vmount.vsphere.virtual_disks import VirtualDisk, disks_of

if TYPE_CHECKING:
    from pyVmomi import vim

    from vmount.vsphere.session import Session

CONNECTED = "connected"
DEVICES = "config.hardware.device"


@dataclass(frozen=True)
class Guest:
    """The guest, as the configuration and VMware Tools tell of it."""

    name: str
    """Of the operating system: "Ubuntu Linux (64-bit)"."""
    host_name: str
    address: str


@dataclass(frozen=True)
class Host:
    """The ESXi host that a machine is on."""

    moref: str
    name: str
    """As vCenter names it, by which it can be reached as a rule."""
    connection: str
    """ "connected" if all is well."""


@dataclass(frozen=True)
class Datastore:
    """A datastore that a machine has files on."""

    moref: str
    name: str
    kind: str
    """VMFS, NFS, NFS41, vsan, VVOL ..."""
    url: str
    is_accessible: bool


@dataclass(frozen=True)
class VirtualMachine:
    """A machine at one moment."""

    moref: str
    name: str
    path: str
    """In the inventory: "/DC0/vm/folder/name", with % / and backslash in names encoded."""
    bios_uuid: str
    instance_uuid: str
    power: Power
    connection: str
    """ "connected" if vSphere can read its configuration."""
    is_template: bool
    vmx: str
    """Its configuration file: "[datastore] folder/name.vmx"."""
    datacenter: str
    """The inventory path of its data centre, without a leading "/": the dcPath of /folder."""
    host: Host | None
    guest: Guest
    datastores: tuple[Datastore, ...]
    snapshots: tuple[SnapshotNode, ...]
    """Parents before children."""
    disks: tuple[VirtualDisk, ...]
    """As they are now, without a snapshot."""


async def read_machine(session: Session, moref: str) -> VirtualMachine:
    """Read all of it, in one round trip.

    Raises ObjectGone if there is none, PermissionDenied if its disks may not be seen.
    """
    found = await session.read(_retrieve, session, session.vm(moref))
    by_moref = {one.moref: one for one in found}
    if moref not in by_moref:
        raise ObjectGone(f"{session.settings.address}: VM {moref} does not exist, or no longer")
    vm = by_moref[moref]
    if (fault := vm.refused.get(DEVICES)) is not None:
        raise from_fault(fault, session.settings.address, session.settings.user) from fault
    return _machine(vm, by_moref)


def _retrieve(session: Session, vm: vim.VirtualMachine) -> list[Properties]:
    from pyVmomi import vim, vmodl

    query = vmodl.query.PropertyCollector
    again = query.SelectionSpec(name="above")

    def step(path: str, *more: Any, name: str | None = None) -> Any:
        kind = vim.ManagedEntity if path == "parent" else vim.VirtualMachine
        return query.TraversalSpec(
            name=name, type=kind, path=path, skip=False, selectSet=list(more)
        )

    start = query.ObjectSpec(
        obj=vm,
        selectSet=[
            step("parent", again, name="above"),
            step("parentVApp", again),
            step("runtime.host"),
            step("datastore"),
        ],
    )
    wanted: dict[type, tuple[str, ...]] = {
        vim.VirtualMachine: _MACHINE,
        vim.ManagedEntity: ("name", "parent"),
        vim.HostSystem: ("name", "parent", "runtime.connectionState"),
        vim.Datastore: ("name", "parent", *_DATASTORE),
    }
    return retrieve(session.content.propertyCollector, [start], wanted)


_DATASTORE = ("summary.type", "summary.url", "summary.accessible")
_MACHINE = (
    "name",
    "parent",
    "parentVApp",
    "config.uuid",
    "config.instanceUuid",
    "config.template",
    "config.guestFullName",
    "config.files.vmPathName",
    DEVICES,
    "runtime.powerState",
    "runtime.connectionState",
    "runtime.host",
    "guest.hostName",
    "guest.ipAddress",
    "snapshot",
    "datastore",
)


def _machine(vm: Properties, others: dict[str, Properties]) -> VirtualMachine:
    power = Power(str(vm.get("runtime.powerState", Power.OFF.value)))
    return VirtualMachine(
        moref=vm.moref,
        name=decode_name(vm.get("name", "?")),
        path=path_of(vm, others),
        bios_uuid=vm.get("config.uuid", ""),
        instance_uuid=vm.get("config.instanceUuid", ""),
        power=power,
        connection=str(vm.get("runtime.connectionState", CONNECTED)),
        is_template=bool(vm.get("config.template")),
        vmx=vm.get("config.files.vmPathName", ""),
        datacenter=datacenter_of(vm, others),
        host=_host(vm, others),
        guest=Guest(
            vm.get("config.guestFullName", ""),
            vm.get("guest.hostName", ""),
            vm.get("guest.ipAddress", ""),
        ),
        datastores=tuple(_datastore(others[key]) for key in _morefs(vm, "datastore", others)),
        snapshots=tuple(read_tree(vm.get("snapshot"))),
        disks=disks_of(vm.get(DEVICES) or (), may_change=power is not Power.OFF),
    )


def _host(vm: Properties, others: dict[str, Properties]) -> Host | None:
    host = vm.get("runtime.host")
    if host is None or host._moId not in others:  # noqa: SLF001 (no other way to it)
        return None
    found = others[host._moId]  # noqa: SLF001
    state = str(found.get("runtime.connectionState", CONNECTED))
    return Host(found.moref, decode_name(found.get("name", "?")), state)


def _datastore(store: Properties) -> Datastore:
    return Datastore(
        store.moref,
        decode_name(store.get("name", "?")),
        store.get("summary.type", ""),
        store.get("summary.url", ""),
        bool(store.get("summary.accessible", True)),
    )


def _morefs(vm: Properties, name: str, others: dict[str, Properties]) -> list[str]:
    found = [reference._moId for reference in vm.get(name) or ()]  # noqa: SLF001
    return [moref for moref in found if moref in others]
