"""What every transport is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.datastores.lun_choice import LunChoice
from vmount.disks.remote import RemoteOptions

if TYPE_CHECKING:
    import trio

    from vmount.runtime import Runtime
    from vmount.state import Journal
    from vmount.vsphere.session import Session


@dataclass(frozen=True)
class TransportOptions:
    """What the user wants of transports."""

    order: tuple[str, ...] = ()
    """Names, the first to be tried first; empty: all that are known."""
    datastores: Mapping[str, Path] = field(default_factory=dict)
    """Folders of this machine by the names of the datastores that are mounted there."""
    programs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Commands that serve a disk over NBD, by the names that the configuration file gives them."""
    remote: RemoteOptions = field(default_factory=RemoteOptions)
    force: bool = False
    """Open a chain whose parent has changed since."""
    luns: LunChoice = field(default_factory=LunChoice)
    """The devices that may be read as LUNs of datastores."""
    proxy_vm: str = ""
    """The machine that vmount runs in, as moRef, UUID or inventory path; empty: the firmware tells."""


@dataclass(frozen=True)
class Machine:
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
    options: TransportOptions
    volumes: Mapping[str, str] = field(default_factory=dict)
    """Names of datastores by what an ESXi host calls their volumes (/vmfs/volumes/...)."""
    journal: Journal | None = None
    """Where what must be undone is written down."""
