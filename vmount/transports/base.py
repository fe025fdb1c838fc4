"""What a transport is, and what it is given.

A *transport* is what `--transport` names: one way to read the disks of a VM in vSphere. Its `TransportMode`
tells what it needs, and makes a `Transport` for one VM, which opens disks or says why not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import trio

    from vmount.datastores.path import DatastorePath
    from vmount.disks.disk import OpenedDisk
    from vmount.options import OpenOptions
    from vmount.runtime import Runtime
    from vmount.state import Journal
    from vmount.vsphere.privileges import Privilege
    from vmount.vsphere.session import Session

T_co = TypeVar("T_co", covariant=True)

NO_FILES = frozenset({"vsan", "vvol"})
"""Kinds of datastores, in lower case, whose disks are not files that can be downloaded."""


@dataclass(frozen=True)
class WantedDisk:
    """A disk of a machine, as vSphere tells of it."""

    name: str
    """Its controller address: "scsi0-0"."""
    file: DatastorePath
    """Of the state to be read."""
    size: int = 0
    """Bytes; 0 if that is not known."""
    key: int | None = None
    """Of the device in its machine."""
    uuid: str = ""
    """Of the disk's backing."""


class Closable(Protocol):
    """What a transport opens."""

    @property
    def aclose(self) -> Callable[[], Awaitable[None]]:
        """Lets go of it."""
        ...


class Transport(Protocol[T_co]):
    """A transport applied to one VM."""

    @property
    def name(self) -> str:
        """As `--transport` names it: "https"."""
        ...

    async def open(self, wanted: WantedDisk) -> T_co:
        """Open a disk; nothing stays open when it cannot be.

        Raises OSError, ParseError or VmountError with the reason.
        """
        ...

    async def aclose(self) -> None:
        """Let go of what the disks shared; they are closed before. A second call does nothing."""
        ...


@dataclass(frozen=True)
class ReadyVm:
    """A machine that is ready to be read: locked, its snapshot taken."""

    vm: str
    """Its moRef."""
    snapshot: str | None
    """The moRef of the snapshot that is read; None: the machine is powered off."""
    datacenter: str
    """Inventory path of the data centre that it is in, without the leading slash."""
    session: Session
    runtime: Runtime
    nursery: trio.Nursery
    """For background tasks; it outlives the disks."""
    options: OpenOptions
    volumes: Mapping[str, str] = field(default_factory=dict)
    """Names of datastores by what an ESXi host calls their volumes (/vmfs/volumes/...)."""
    journal: Journal | None = None
    """Where what must be undone is written down."""


async def always_usable() -> str:
    """Return no reason: the transport needs nothing of this system."""
    return ""


@dataclass(frozen=True)
class TransportMode:
    """A transport before it is applied to a VM. `vmount doctor`, --help and the documentation read it."""

    name: str
    """As `--transport` names it."""
    needs: str
    """What must be given on this system and in vSphere, for the documentation (Markdown)."""
    remarks: str
    """What else a user should know (Markdown)."""
    open: Callable[[ReadyVm], Transport[OpenedDisk]]
    """Applies it to a VM."""
    why_unusable: Callable[[], Awaitable[str]] = always_usable
    """Tells why it cannot be used on this system; "" if it can."""
    privileges: tuple[Privilege, ...] = ()
    """What the user must be granted in vSphere."""
    ports: tuple[int, ...] = ()
    """TCP ports of the ESXi host that must answer, besides the server's own."""
    closed_to: frozenset[str] = frozenset()
    """Kinds of datastores, in lower case, whose disks it cannot read."""
    by_default: bool = True
    """Whether it is tried when the user names no transport."""
