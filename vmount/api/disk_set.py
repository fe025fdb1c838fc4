"""The open disks of a machine as an object of Python: what `open_disks` gives."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from vmount.api import spelling
from vmount.api.bridge import Bridge, InlineBridge, TrioBridge
from vmount.api.file_reader import FileReader, as_os_errors
from vmount.api.files import FilesTogether
from vmount.api.handles import (
    DiskSetInfo,
    Mounting,
    OsInfo,
    VolumeHandle,
    dismount_all,
    os_info_of,
)
from vmount.disk_set import OpenDiskSet
from vmount.errors import SourceError
from vmount.options import OpenOptions
from vmount.parsers.model import Attrs
from vmount.sources.connection import with_connection
from vmount.sources.opening import absolute
from vmount.sources.registry import recognise
from vmount.sources.san import is_browsing
from vmount.state import StateDir, default_state_dir
from vmount.tree.builder import build_tree
from vmount.tree.info import as_json, describe

if TYPE_CHECKING:
    from types import TracebackType

    from vmount.disks.disk import Disk
    from vmount.state import Journal
    from vmount.volumes.find import Volume
    from vmount.volumes.unread import Unread

T = TypeVar("T")


class Entry(NamedTuple):
    """A name in a directory."""

    name: str
    attrs: Attrs | None
    """None if the file's own record is damaged."""


class DiskSet(FilesTogether):
    """The open disks of a machine. `open_disks` makes it; close it when done."""

    def __init__(
        self, manager: OpenDiskSet, bridge: Bridge, mounting: Mounting, journal: Journal
    ) -> None:
        info = as_json(describe(manager)).encode()
        top = b""
        if len(manager.sources) == 1 and is_browsing(manager.sources[0]):
            top = b"volumes/" + os.fsencode(manager.volumes[0].name)
        super().__init__(build_tree(manager, lambda: info, lambda: b"{}\n"), bridge, top)
        self._manager = manager
        self._journal = journal
        self._mounting = mounting
        self._handles = tuple(VolumeHandle(volume, manager, mounting) for volume in manager.volumes)

    @property
    def disks(self) -> tuple[Disk, ...]:
        """The disks in the order given."""
        return self._manager.disks

    @property
    def volumes(self) -> tuple[Volume, ...]:
        """The volumes, disk by disk."""
        return self._manager.volumes

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know, one sentence each."""
        return self._manager.warnings

    @property
    def unread(self) -> tuple[Unread, ...]:
        """The disks and volumes that cannot be read, and what the guest's own tree lacks of them.

        Nothing that is listed, found or compared in this set says anything of them.
        """
        return self._manager.unread

    def info(self) -> dict[str, Any]:
        """Return what info.json in a mount says."""
        return describe(self._manager)

    # As VMware's mount library has it

    def set_info(self) -> DiskSetInfo:
        """Return whether the set is read-only (it is) and where it is mounted."""
        return DiskSetInfo(True, self._mounting.mountpoint)

    def os_info(self) -> OsInfo:
        """Return what is known of the guest's operating system."""
        return os_info_of(self._manager.guest)

    def volume_handles(self) -> tuple[VolumeHandle, ...]:
        """Return a handle of each volume, in the order of `volumes`: those that cannot be read too."""
        return self._handles

    def dismount_all(self, *, force: bool = False) -> None:
        """Dismount all volumes. Raises BusyError if one is in use, unless forced."""
        dismount_all(self._handles, force=force)

    # Paths as users write them (vmount.api.spelling)

    def expand(self, text: str) -> list[str]:
        r"""Return the paths of files that a text names: a path of the mount or of the guest
        (`C:\Users\ann`, `/home/ann`), with patterns. Raises FileNotFoundError with advice, OSError."""
        return spelling.expand(self, text)

    def locate(self, text: str) -> str:
        """Return the path of the file that a text names, as `expand` does without patterns."""
        return spelling.locate(self, text)

    def tops(self) -> frozenset[str]:
        """Return the names at the top of what a mount shows; none of a datastore that is browsed."""
        if self._top:
            return frozenset()
        return frozenset(os.fsdecode(name) for name in self._tree.tops())

    def is_caseless(self, path: str | bytes) -> bool:
        """Say whether the guest matches names in a directory without regard to case. Raises OSError."""
        volume = self._tree.volume(self._resolve(path, follow=True)[0])
        return volume is not None and volume.filesystem.info.fstype in spelling.CASELESS

    def stream_names(self, path: str | bytes) -> list[str]:
        """Return the names of a file's alternate streams. Raises OSError."""
        file = self._at(path, follow=False)
        if file.stream or not self._has_streams(file.number):
            return []
        with as_os_errors(path):
            return [each.stream for each in self._bridge.run(lambda: self._all_streams(file))]

    # Files

    def stat(self, path: str | bytes, *, follow: bool = True) -> Attrs:
        """Return a file's attributes. Raises OSError."""
        return self._at(path, follow=follow).attrs

    def number(self, path: str | bytes) -> int:
        """Return what tells a file from all others of the set; hard links have one number. Raises OSError.

        A volume's files have other numbers below root/.
        """
        return self._resolve(path, follow=False)[0]

    def listdir(self, path: str | bytes = "/") -> list[Entry]:
        """Return what a directory holds. Raises OSError."""
        number, _ = self._resolve(path, follow=True)
        with as_os_errors(path):
            listing = self._bridge.run(lambda: self._tree.listdir(number))
        return [Entry(os.fsdecode(entry.name), entry.attrs) for entry in listing.entries]

    def readlink(self, path: str | bytes) -> str:
        """Return the target of a symbolic link. Raises OSError."""
        number, _ = self._resolve(path, follow=False)
        with as_os_errors(path):
            return os.fsdecode(self._bridge.run(lambda: self._tree.readlink(number)))

    def xattrs(self, path: str | bytes) -> Mapping[str, bytes]:
        """Return a file's extended attributes. Raises OSError."""
        number, _ = self._resolve(path, follow=False)
        with as_os_errors(path):
            return self._bridge.run(lambda: self._xattrs(number))

    def open(self, path: str | bytes) -> FileReader:
        """Open a file for reading: a binary file object. Raises OSError."""
        file = self._at(path, follow=True)
        if stat.S_ISDIR(file.attrs.mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fsdecode(path))
        if not stat.S_ISREG(file.attrs.mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fsdecode(path))
        with as_os_errors(path):
            content = self._bridge.run(lambda: self._open(file.number, os.fsencode(file.stream)))
        return FileReader(content, os.fsdecode(path), self._bridge)

    def walk(
        self, path: str | bytes = "/", on_error: Callable[[OSError], None] | None = None
    ) -> Iterator[tuple[str, list[Entry]]]:
        """Yield each directory below a path, that of the path first, with what it holds.

        A directory that cannot be listed, or that the walk has been in already (damage can put one
        inside itself), is passed over and its OSError given to `on_error`; without that it is raised.
        """
        pending, entered = [os.fsdecode(path)], set[int]()
        while pending:
            here = pending.pop()
            try:
                number, _ = self._resolve(here, follow=True)
                if number in entered:
                    raise OSError(errno.ELOOP, "a directory that was listed already", here)
                entered.add(number)
                entries = self.listdir(here)
            except OSError as error:
                if on_error is None:
                    raise
                on_error(error)
                continue
            yield here, entries
            pending += [
                f"{here.rstrip('/')}/{entry.name}"
                for entry in reversed(entries)
                if entry.attrs is not None and stat.S_ISDIR(entry.attrs.mode)
            ]

    def close(self) -> None:
        """Unmount what is mounted and release the sources. A second call does nothing."""
        self._bridge.give_up()
        self._mounting.close()
        self._bridge.run(self._manager.aclose)
        self._bridge.close()
        self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def _xattrs(self, number: int) -> dict[str, bytes]:
        found = await self._tree.xattrs(number)
        return {
            os.fsdecode(name): await self._tree.xattr_value(number, value)
            for name, value in found.items()
        }


def open_disks(
    *sources: str | os.PathLike[str],
    options: OpenOptions | None = None,
    mountpoint: str | os.PathLike[str] | None = None,
    state_dir: str | os.PathLike[str] | None = None,
) -> DiskSet:
    """Open the disks that the sources name: VMDKs, .vmx files, raw images, URIs of NBD
    servers, https:// addresses, disks on LUNs (san:), and machines of a vCenter or host by moRef, name, UUID or inventory path:
    which server that is, the options say, or else govc's environment or the configuration file.

    What is mounted later is mounted at `mountpoint`, an empty directory; by default at one made for it
    and removed afterwards. Running mounts are recorded in `state_dir`. Raises SourceError if a source
    cannot be opened.
    """
    if not sources:
        raise SourceError("no source given")
    names = [os.fspath(source) for source in sources]
    options = options or OpenOptions()
    options = with_connection(options, names)
    mounting = Mounting(
        tuple(map(absolute, names)),
        options,
        None if mountpoint is None else Path(mountpoint),
        None if state_dir is None else Path(state_dir),
    )
    is_distant = any(recognise(name).is_remote for name in names)
    bridge: Bridge = TrioBridge() if is_distant else InlineBridge()
    journal = StateDir(Path(state_dir or default_state_dir())).journal()
    try:
        manager = bridge.run(lambda: OpenDiskSet.open(names, bridge.runtime, options, journal))
        mounting.share(manager.machines)
        return DiskSet(manager, bridge, mounting, journal)
    except BaseException:
        bridge.close()
        journal.close()
        raise
