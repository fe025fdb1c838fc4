"""Volume handles: what a program holds of each volume of a disk set, to mount it and to ask about it.

The words are those of VMware's mount library, so that a program written for it finds its way: a handle is
mounted and dismounted by itself, with a count of its mounts, and tells its type, its link and where the
guest has it.
"""

from __future__ import annotations

import enum
import re
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.errors import BusyError, MountError
from vmount.mounting.config import MountConfig
from vmount.mounting.fuse_library import require_fuse
from vmount.state import StateDir, default_state_dir
from vmount.state.temporary import make_folder
from vmount.vsphere.access_options import Quiesce

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.disk_set import OpenDiskSet
    from vmount.guest import Guest
    from vmount.mounting.server_process import Server
    from vmount.options import OpenOptions
    from vmount.sources.virtual_machine import VmInfo
    from vmount.state import Entry
    from vmount.volumes.find import Volume


class VolumeType(enum.StrEnum):
    """What a volume is made of."""

    WHOLE = "whole"
    """A disk without a partition table."""
    BASIC = "basic"
    """A partition of an MBR."""
    GPT = "gpt"
    DYNAMIC = "dynamic"
    """Windows' dynamic disks (LDM)."""
    LVM = "lvm"
    MD = "md"


class OsFamily(enum.StrEnum):
    """A kind of operating systems."""

    WINDOWS = "windows"
    LINUX = "linux"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class DiskSetInfo:
    """What can be said of a disk set as a whole."""

    read_only: bool
    """Always: there is nothing here that writes."""
    mountpoint: Path | None
    """Where its volumes are mounted; None while none has been."""


@dataclass(frozen=True)
class VolumeInfo:
    """What can be said of a volume."""

    type: VolumeType
    is_mounted: bool
    symbolic_link: Path | None
    """The directory of its files; None while it is not mounted."""
    guest_mount_points: tuple[str, ...]
    r"""Where the guest has it: "C:\", "/home"."""


@dataclass(frozen=True)
class OsInfo:
    """The guest's operating system. What is not known is empty, a number -1."""

    family: OsFamily
    name: str
    major_version: int
    minor_version: int
    is_64_bit: bool | None
    vendor: str
    edition: str
    os_folder: str
    r"""As the guest names it: "C:\Windows", "/"."""


class Mounting:
    """The serving process of a disk set: started with the first mount, ended with the set. Any thread may use it."""

    def __init__(
        self,
        sources: tuple[str, ...],
        options: OpenOptions,
        mountpoint: Path | None,
        state_dir: Path | None,
    ) -> None:
        self._sources = sources
        self._options = options
        self._wanted = mountpoint
        self._state_dir = state_dir or default_state_dir()
        self._server: Server | None = None
        self._journal = StateDir(self._state_dir).journal()
        self._own_folder: Path | None = None
        self._entry: Entry | None = None
        self._turn = threading.RLock()
        """Held while a volume is mounted or dismounted."""
        self._is_closed = False
        self.references: dict[str, int] = {}
        """How often each volume has been mounted and not dismounted."""
        self.paths: dict[str, Path] = {}
        """The directories of the volumes' files."""

    def share(self, machines: Sequence[VmInfo]) -> None:
        """Have the process read the snapshot that is there already, and take none of its own."""
        if len(machines) == 1 and machines[0].snapshot is not None:
            access = replace(
                self._options.access,
                snapshot=machines[0].snapshot,
                quiesce=Quiesce.NO,
                keep_snapshot=False,
            )
            self._options = replace(self._options, access=access)

    @property
    def mountpoint(self) -> Path | None:
        """Where it is mounted; None while it is not."""
        server = self._server
        return None if server is None else server.mountpoint

    def mount(self, volume: str) -> Path:
        """Mount a volume, or add a reference; return the directory of its files. Raises VmountError."""
        with self._turn:
            state = self._started().ask("mount", volume=volume)
            self.references[volume] = int(state["references"])
            self.paths[volume] = Path(state["path"])
            return self.paths[volume]

    def dismount(self, volume: str, *, force: bool) -> None:
        """Give a reference back, or all of them. Raises VmountError."""
        with self._turn:
            if not self.references.get(volume):
                raise MountError(f"{volume}: not mounted")
            state = self._started().dismount(volume, force=force)
            self.references[volume] = int(state["references"])

    def _started(self) -> Server:
        """Return the process; start it if there is none. Raises VmountError."""
        if self._is_closed:
            raise MountError("not mounted: the disk set is closed")
        if self._server is None:
            try:
                require_fuse()
                if self._wanted is None:
                    self._own_folder, self._entry = make_folder("vmount-", self._journal)
                mountpoint = (self._wanted or self._own_folder or Path()).absolute()
                config = MountConfig(self._sources, mountpoint, self._options, volumes=())
                from vmount.mounting.server_process import Server  # the program of a mount with it

                self._server = Server(config, self._state_dir)
            except BaseException:
                self._remove_folder()
                raise
        return self._server

    def close(self) -> None:
        """Unmount all. A second call does nothing."""
        with self._turn:
            self._is_closed = True
            self.references.clear()
            if self._server is not None:
                self._server.close()
                self._server = None
            self._remove_folder()
            self._journal.close()

    def _remove_folder(self) -> None:
        if self._own_folder is not None:
            with suppress(OSError):
                with suppress(FileNotFoundError):  # an interrupted call has removed it
                    self._own_folder.rmdir()
                if self._entry is not None:
                    self._entry.end()
            self._own_folder = self._entry = None


class VolumeHandle:
    """A volume of an open disk set, which stays open as long as there is a handle, unless it is closed."""

    def __init__(
        self, volume: Volume, manager: OpenDiskSet, mounting: Mounting, keep: object = None
    ) -> None:
        """`keep` lives as long as the handle: the disk set."""
        self.volume = volume
        """What is known of it: name, size, file system, label ..."""
        self._manager = manager
        self._mounting = mounting
        self._keep = keep

    @property
    def name(self) -> str:
        """As a mount shows it."""
        return self.volume.name

    @property
    def references(self) -> int:
        """How often it has been mounted and not dismounted."""
        return self._mounting.references.get(self.name, 0)

    def info(self) -> VolumeInfo:
        """Return what can be said of the volume."""
        points = self._manager.guest.mount_points.get(self.name, ())
        mounted = self.references > 0
        link = self._mounting.paths[self.name] if mounted else None
        return VolumeInfo(_type_of(self.volume, self._manager), mounted, link, tuple(points))

    def mount(self) -> Path:
        """Mount the volume, or add a reference; return the directory of its files.

        Raises SourceError if its files cannot be read, MountError if it cannot be mounted.
        """
        return self._mounting.mount(self.name)

    def dismount(self, *, force: bool = False) -> None:
        """Give a reference back; with the last one, or with `force`, the files go.

        Raises BusyError, naming who has files of it open, unless forced: then these get errors. Raises
        MountError if it is not mounted.
        """
        self._mounting.dismount(self.name, force=force)

    def __repr__(self) -> str:
        fstype = self.volume.fstype or "no readable file system"
        return f"<VolumeHandle {self.name!r}: {fstype}, {self.volume.size} bytes>"


def dismount_all(handles: tuple[VolumeHandle, ...], *, force: bool) -> None:
    """Dismount all volumes, the last one first. Raises BusyError when all that can go are gone."""
    busy: list[BusyError] = []
    for handle in reversed(handles):
        while handle.references:
            try:
                handle.dismount(force=force)
            except BusyError as error:
                busy.append(error)
                break
    if busy:
        raise busy[0]


def os_info_of(guest: Guest) -> OsInfo:
    """Return what is known of the guest's main operating system."""
    if not guest.systems:
        return OsInfo(OsFamily.UNKNOWN, "", -1, -1, None, "", "", "")
    system = guest.systems[0]
    numbers = [int(part) for part in re.findall(r"\d+", system.version)[:2]]
    major, minor = (*numbers, -1, -1)[:2]
    return OsInfo(
        OsFamily(system.family),
        system.name,
        major,
        minor,
        None if system.bits is None else system.bits == 64,
        system.vendor,
        system.edition,
        system.system_folder,
    )


def _type_of(volume: Volume, manager: OpenDiskSet) -> VolumeType:
    if volume.kind == "ldm":
        return VolumeType.DYNAMIC
    if volume.kind != "partition":
        return VolumeType(volume.kind)
    disk = volume.extents[0].disk
    tables = {content.disk.name: content.table for content in manager.contents}
    table = tables[disk]
    assert table is not None
    return VolumeType.GPT if table.scheme == "gpt" else VolumeType.BASIC
