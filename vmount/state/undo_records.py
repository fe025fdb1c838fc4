"""What a process does outside itself and must undo: the kinds of a journal's entries.

A undo record says all that is needed to undo it without the process that did it, and holds no secret: a server
is named as the user named it, and the cleaning process logs in again. Fields with a default are those that
are known only once the undo record is done; without them it is looked for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Server:
    """A vCenter or ESXi host, and how it was reached."""

    host: str
    port: int = 443
    user: str = ""
    thumbprint: str = ""
    """Of its certificate, where that is how it was trusted."""
    profile: str = ""
    """Of the configuration file."""
    instance: str = ""
    """What vCenter says that names it (about.instanceUuid): its names and addresses may be several."""


@dataclass(frozen=True)
class MountPoint:
    """A FUSE file system in the tree."""

    KIND: ClassVar[str] = "mount point"
    path: str
    sources: tuple[str, ...]

    def __str__(self) -> str:
        return f"mount point {self.path}"


@dataclass(frozen=True)
class RelocationLock:
    """Relocation of a virtual machine is disabled."""

    KIND: ClassVar[str] = "relocation lock"
    server: Server
    vm: str
    """Its moRef."""
    source_id: str
    is_held: bool = False
    """False: the server was asked, and may or may not have done it."""

    @property
    def is_known(self) -> bool:
        """Say whether the server has answered that it is done."""
        return self.is_held

    def __str__(self) -> str:
        return f"relocation lock of {self.vm}"


@dataclass(frozen=True)
class Snapshot:
    """A snapshot was taken."""

    KIND: ClassVar[str] = "snapshot"
    server: Server
    vm: str
    name: str
    """No other snapshot has it."""
    moref: str = ""

    @property
    def is_known(self) -> bool:
        """Say whether the server has answered that it is done."""
        return bool(self.moref)

    def __str__(self) -> str:
        return f"snapshot {self.moref or repr(self.name)} of {self.vm}"


@dataclass(frozen=True)
class AttachedDisk:
    """A disk of some machine is attached to the machine that vmount runs in."""

    KIND: ClassVar[str] = "attached disk"
    server: Server
    vm: str
    """The moRef of the machine it is attached to."""
    file: str
    """'[datastore] folder/name.vmdk'."""
    uuid: str = ""
    """Of the backing, as vSphere writes it."""
    key: int | None = None
    """Of the device."""

    @property
    def is_known(self) -> bool:
        """Say whether the server has answered that it is done."""
        return self.key is not None

    def __str__(self) -> str:
        return f"disk {self.file} attached to {self.vm}"


@dataclass(frozen=True)
class HelperProcess:
    """A process serves a disk for us. Its environment has `processes.MARK` set to `mark`."""

    KIND: ClassVar[str] = "helper process"
    name: str
    mark: str
    pid: int = 0
    started: int = 0
    """Clock ticks since boot."""

    def __str__(self) -> str:
        return f"process {self.pid or ''} ({self.name})".replace("process  ", "process ")


@dataclass(frozen=True)
class TemporaryFolder:
    """A folder of sockets or files that nobody but us uses."""

    KIND: ClassVar[str] = "temporary folder"
    path: str

    def __str__(self) -> str:
        return f"temporary folder {self.path}"


@dataclass(frozen=True)
class Unknown:
    """An entry that another version of vmount has written."""

    KIND: ClassVar[str] = "unknown"
    kind: str
    values: Any

    def __str__(self) -> str:
        return f"{self.kind!r}, written by another version of vmount"


UndoRecord = (
    MountPoint
    | RelocationLock
    | Snapshot
    | AttachedDisk
    | HelperProcess
    | TemporaryFolder
    | Unknown
)
KINDS = {
    cls.KIND: cls
    for cls in (MountPoint, RelocationLock, Snapshot, AttachedDisk, HelperProcess, TemporaryFolder)
}


def encode(undo_record: UndoRecord) -> dict[str, Any]:
    """Return what JSON can hold."""
    if isinstance(undo_record, Unknown):
        return {"kind": undo_record.kind, "values": undo_record.values}
    return {"kind": undo_record.KIND, "values": asdict(undo_record)}


def decode(fields: dict[str, Any]) -> UndoRecord:
    """Return what `encode` was given; Unknown for what this version does not know.

    Raises KeyError or TypeError for what no version has written.
    """
    kind, values = fields["kind"], fields["values"]
    if kind not in KINDS:
        return Unknown(kind, values)
    try:
        values = dict(values)
        if "server" in values:
            values["server"] = Server(**values["server"])
        if "sources" in values:
            values["sources"] = tuple(values["sources"])
        return KINDS[kind](**values)
    except TypeError:
        return Unknown(kind, fields["values"])
