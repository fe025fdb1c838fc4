"""How sources are opened: the one object that commands fill and that reaches everything that opens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vmount.datastores.lun_choice import LunChoice
from vmount.disks.choice import DiskChoice
from vmount.disks.remote import RemoteOptions
from vmount.errors import Remedy
from vmount.parsers.detect import FilesystemOptions
from vmount.vsphere.access_options import AccessOptions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vmount.vsphere.settings import ConnectionSettings

FORCE = Remedy("to read it anyway, use --force", "to read it anyway, use OpenOptions(force=True)")


@dataclass(frozen=True)
class OpenOptions:
    """How sources are opened. Every field has a default that suits most."""

    force: bool = False
    """Open a snapshot chain whose parent has changed since."""
    drives: Mapping[str, str] = field(default_factory=dict)
    """Names of volumes by the drive letters that they are to have."""
    filesystems: FilesystemOptions = field(default_factory=FilesystemOptions)
    """How volumes are shown, by format."""
    disks: DiskChoice = field(default_factory=DiskChoice)
    """Which disks of VMs are opened. A source that is one disk is always opened."""
    remote: RemoteOptions = field(default_factory=RemoteOptions)
    """Deadlines, caches and connections of distant disks."""
    connection: ConnectionSettings | None = None
    """The vCenter or ESXi host in which VMs are looked for; None: no source can be a VM."""
    no_connection: str = ""
    """Why `connection` is None."""
    no_connection_remedy: str | Remedy = ""
    """What to do about that."""
    access: AccessOptions = field(default_factory=AccessOptions)
    """Snapshot and relocation lock of a VM."""
    transports: tuple[str, ...] = ()
    """Names of transports, the first to be tried first; empty: all that are tried by default."""
    datastores: Mapping[str, Path] = field(default_factory=dict)
    """Folders of this system by the names of the datastores that are mounted there."""
    programs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Commands that serve a disk over NBD, by the names that the configuration file gives them."""
    luns: LunChoice = field(default_factory=LunChoice)
    """The devices that may be read as LUNs of datastores."""
    proxy_vm: str = ""
    """The VM that vmount runs in, as moRef, UUID or inventory path; empty: the firmware tells."""
