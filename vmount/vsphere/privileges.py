"""The privileges that vmount needs, each by vSphere's own name.

Each transport says which of them it needs (`vmount.transports.registry`).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vmount.vsphere.session import Session
    from vmount.vsphere.virtual_machine import VirtualMachine


class Where(enum.Enum):
    """On what a privilege is needed."""

    MACHINE = "the VM"
    PROXY = "the VM that vmount runs in"
    DATASTORE = "its datastores"
    VCENTER = "the vCenter itself"


class Privilege(NamedTuple):
    """A privilege."""

    id: str
    title: str
    """As the vSphere Client shows it."""
    where: Where


CREATE_SNAPSHOT = Privilege(
    "VirtualMachine.State.CreateSnapshot", "Snapshot management: Create snapshot", Where.MACHINE
)
REMOVE_SNAPSHOT = Privilege(
    "VirtualMachine.State.RemoveSnapshot", "Snapshot management: Remove snapshot", Where.MACHINE
)
DISK_RANDOM_READ = Privilege(
    "VirtualMachine.Provisioning.DiskRandomRead",
    "Provisioning: Allow read-only disk access",
    Where.MACHINE,
)
GET_VM_FILES = Privilege(
    "VirtualMachine.Provisioning.GetVmFiles",
    "Provisioning: Allow virtual machine download",
    Where.MACHINE,
)
BROWSE_DATASTORE = Privilege("Datastore.Browse", "Datastore: Browse datastore", Where.DATASTORE)
FILE_MANAGEMENT = Privilege(
    "Datastore.FileManagement", "Datastore: Low level file operations", Where.DATASTORE
)
ADD_EXISTING_DISK = Privilege(
    "VirtualMachine.Config.AddExistingDisk",
    "Change configuration: Add existing disk",
    Where.PROXY,
)
REMOVE_DISK = Privilege(
    "VirtualMachine.Config.RemoveDisk", "Change configuration: Remove disk", Where.PROXY
)
DISABLE_METHODS = Privilege("Global.DisableMethods", "Global: Disable methods", Where.VCENTER)
ENABLE_METHODS = Privilege("Global.EnableMethods", "Global: Enable methods", Where.VCENTER)

FOR_SNAPSHOT = (CREATE_SNAPSHOT, REMOVE_SNAPSHOT)
"""What a snapshot of a running VM takes."""
FOR_LOCK = (DISABLE_METHODS, ENABLE_METHODS)
"""What the relocation lock takes."""


async def granted(
    session: Session, vm: VirtualMachine, wanted: Sequence[Privilege], proxy: str | None = None
) -> Mapping[Privilege, tuple[str, ...]]:
    """Return for each privilege where it is lacking: nowhere, or objects by what people call them.

    `proxy` is the moRef of the VM that vmount runs in; None: what is needed on it is not asked for.

    Raises VsphereError.
    """
    from pyVmomi import vim

    machine: Any = session.vm(vm.moref)
    places: dict[Where, list[tuple[str, Any]]] = {
        Where.MACHINE: [(vm.path, machine)],
        Where.PROXY: [] if proxy is None else [(proxy, session.vm(proxy))],
        Where.DATASTORE: [
            (f"datastore {store.name}", vim.Datastore(store.moref, session.stub))
            for store in vm.datastores
        ],
        Where.VCENTER: [("the vCenter (top of the inventory)", session.content.rootFolder)],
    }
    entities = [entity for found in places.values() for _, entity in found]
    has = await session.read(_ask, session, entities, [privilege.id for privilege in wanted])
    return {
        privilege: tuple(
            name
            for name, entity in places[privilege.where]
            if (entity._moId, privilege.id) not in has  # noqa: SLF001 (no other way to it)
        )
        for privilege in wanted
    }


def _ask(session: Session, entities: list[Any], privileges: list[str]) -> set[tuple[str, str]]:
    manager: Any = session.content.authorizationManager
    return {
        (answer.entity._moId, one.privId)  # noqa: SLF001 (no other way to it)
        for answer in manager.HasPrivilegeOnEntities(entities, session.key, privileges)
        for one in answer.privAvailability
        if one.isGranted
    }
