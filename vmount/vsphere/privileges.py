"""The privileges that vmount needs, each by vSphere's own name; the README has the same table."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmount.vsphere.session import Session
    from vmount.vsphere.virtual_machine import VirtualMachine


class Where(enum.Enum):
    """On what a privilege is needed."""

    MACHINE = "the machine"
    DATASTORE = "its datastores"
    VCENTER = "the vCenter itself"


class Use(enum.StrEnum):
    """What a privilege is needed for."""

    SNAPSHOT = "a snapshot of a running machine"
    NBD = "the transports nbd and nbdssl"
    HTTPS = "the transport https"
    HOTADD = "the transport hotadd (on the machine that vmount runs in)"
    LOCK = "the relocation lock"


class Privilege(NamedTuple):
    """A privilege."""

    id: str
    title: str
    """As the vSphere Client shows it."""
    where: Where
    use: Use


PRIVILEGES = (
    Privilege(
        "VirtualMachine.State.CreateSnapshot",
        "Snapshot management: Create snapshot",
        Where.MACHINE,
        Use.SNAPSHOT,
    ),
    Privilege(
        "VirtualMachine.State.RemoveSnapshot",
        "Snapshot management: Remove snapshot",
        Where.MACHINE,
        Use.SNAPSHOT,
    ),
    Privilege(
        "VirtualMachine.Provisioning.DiskRandomRead",
        "Provisioning: Allow read-only disk access",
        Where.MACHINE,
        Use.NBD,
    ),
    Privilege(
        "VirtualMachine.Provisioning.GetVmFiles",
        "Provisioning: Allow virtual machine download",
        Where.MACHINE,
        Use.NBD,
    ),
    Privilege("Datastore.Browse", "Datastore: Browse datastore", Where.DATASTORE, Use.HTTPS),
    Privilege(
        "Datastore.FileManagement",
        "Datastore: Low level file operations",
        Where.DATASTORE,
        Use.HTTPS,
    ),
    Privilege(
        "VirtualMachine.Config.AddExistingDisk",
        "Change configuration: Add existing disk",
        Where.MACHINE,
        Use.HOTADD,
    ),
    Privilege(
        "VirtualMachine.Config.RemoveDisk",
        "Change configuration: Remove disk",
        Where.MACHINE,
        Use.HOTADD,
    ),
    Privilege("Global.DisableMethods", "Global: Disable methods", Where.VCENTER, Use.LOCK),
    Privilege("Global.EnableMethods", "Global: Enable methods", Where.VCENTER, Use.LOCK),
)


async def granted(
    session: Session, vm: VirtualMachine, wanted: tuple[Privilege, ...] = PRIVILEGES
) -> Mapping[Privilege, tuple[str, ...]]:
    """Return for each privilege where it is lacking: nowhere, or objects by what people call them.

    Raises VsphereError.
    """
    from pyVmomi import vim

    machine: Any = session.vm(vm.moref)
    places: dict[Where, list[tuple[str, Any]]] = {
        Where.MACHINE: [(vm.path, machine)],
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
