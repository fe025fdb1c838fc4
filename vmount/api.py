"""The Python API: the disks of a machine without FUSE and without an event loop.

    with open_disks("web01.vmdk") as disks:
        for volume in disks.volumes:
            print(volume.name, volume.fstype)
        print(disks.listdir("disk0-p1/Users"))
        with disks.open("disk0-p1/Users/ann/notes.txt") as file:
            data = file.read()

A program that needs a mount has one for as long as the set is open, volume by volume:

    with open_disks("web01.vmdk") as disks:
        for handle in disks.volume_handles():
            print(handle.mount())

Paths are those of the mount ("volumes/disk0-p1/Users", "disks/disk0.raw"); "volumes/" may be left out.
They are str or bytes; names that are not UTF-8 round-trip as in `os.fsdecode`. A set is to be used from
one thread at a time.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from parsers.errors import ParseError
from parsers.model import Attrs
from parsers.reader import Span
from vmount.bridge import Bridge, InlineBridge, TrioBridge
from vmount.errors import SourceError
from vmount.handles import (
    DiskSetInfo,
    Mounting,
    OsFamily,
    OsInfo,
    VolumeHandle,
    VolumeInfo,
    VolumeType,
    dismount_all,
    os_info_of,
)
from vmount.info import as_json, describe
from vmount.manager import MountManager
from vmount.paths import resolve
from vmount.remote import is_remote
from vmount.sources import OpenOptions, absolute
from vmount.tree_builder import build_tree

if TYPE_CHECKING:
    from types import TracebackType

    from vmount.disks import Disk
    from vmount.filemap import FileMap
    from vmount.volumes import Volume

READ_SIZE = 1 << 20
"""Bytes that a file opened here reads ahead of its caller."""


FOLDERS_KEPT = 4096
"""Directories whose paths are remembered."""


class Entry(NamedTuple):
    """A name in a directory."""

    name: str
    attrs: Attrs | None
    """None if the file's own record is damaged."""


class DiskSet:
    """The open disks of a machine. `open_disks` makes it; close it when done."""

    def __init__(self, manager: MountManager, bridge: Bridge, mounting: Mounting) -> None:
        self._manager = manager
        self._bridge = bridge
        self._mounting = mounting
        self._handles = tuple(VolumeHandle(volume, manager, mounting) for volume in manager.volumes)
        info = as_json(describe(manager)).encode()
        self._tree = build_tree(manager, lambda: info, lambda: b"{}\n")
        self._folders: dict[bytes, int] = {}

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

    # Files

    def stat(self, path: str | bytes, *, follow: bool = True) -> Attrs:
        """Return a file's attributes. Raises OSError."""
        return self._resolve(path, follow=follow)[1]

    def number(self, path: str | bytes) -> int:
        """Return what tells a file from all others of the set; hard links have one number. Raises OSError.

        A volume's files have other numbers below root/.
        """
        return self._resolve(path, follow=False)[0]

    def listdir(self, path: str | bytes = "/") -> list[Entry]:
        """Return what a directory holds. Raises OSError."""
        number, _ = self._resolve(path, follow=True)
        with _told(path):
            listing = self._bridge.run(lambda: self._tree.listdir(number))
        return [Entry(os.fsdecode(entry.name), entry.attrs) for entry in listing.entries]

    def readlink(self, path: str | bytes) -> str:
        """Return the target of a symbolic link. Raises OSError."""
        number, _ = self._resolve(path, follow=False)
        with _told(path):
            return os.fsdecode(self._bridge.run(lambda: self._tree.readlink(number)))

    def xattrs(self, path: str | bytes) -> Mapping[str, bytes]:
        """Return a file's extended attributes. Raises OSError."""
        number, _ = self._resolve(path, follow=False)
        with _told(path):
            return self._bridge.run(lambda: self._xattrs(number))

    def open(self, path: str | bytes) -> FileReader:
        """Open a file for reading: a binary file object. Raises OSError."""
        number, attrs = self._resolve(path, follow=True)
        if stat.S_ISDIR(attrs.mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fsdecode(path))
        if not stat.S_ISREG(attrs.mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fsdecode(path))
        with _told(path):
            content = self._bridge.run(lambda: self._tree.open(number))
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
        self._mounting.close()
        self._bridge.run(self._manager.aclose)
        self._bridge.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _resolve(self, path: str | bytes, *, follow: bool) -> tuple[int, Attrs]:
        with _told(path):
            return self._bridge.run(lambda: self._find(os.fsencode(path), follow=follow))

    async def _find(self, path: bytes, *, follow: bool) -> tuple[int, Attrs]:
        """Return the file at a path: by its directory, where that was just used, else from the root."""
        folder, _, name = path.rpartition(b"/")
        above = self._folders.get(folder)
        if above is not None and name not in (b"", b".", b".."):
            found = await self._tree.lookup(above, name)
            if found is not None and not (follow and stat.S_ISLNK(found[1].mode)):
                return found
        number, attrs = await resolve(self._tree, path, follow=follow)
        if stat.S_ISDIR(attrs.mode):
            if len(self._folders) >= FOLDERS_KEPT:
                self._folders.clear()
            self._folders[path.rstrip(b"/")] = number
        return number, attrs

    async def _xattrs(self, number: int) -> dict[str, bytes]:
        found = await self._tree.xattrs(number)
        return {
            os.fsdecode(name): await self._tree.xattr_value(number, value)
            for name, value in found.items()
        }


class FileReader(io.BufferedReader):
    """A file on a disk, as a binary file object."""

    def __init__(self, content: FileMap, path: str, bridge: Bridge) -> None:
        super().__init__(_RawFile(content, path, bridge), READ_SIZE)
        self._content = content

    def spans(self) -> Sequence[Span]:
        """Return the parts that may hold something else than zeros, in order."""
        return self._content.spans()


class _RawFile(io.RawIOBase):
    def __init__(self, content: FileMap, path: str, bridge: Bridge) -> None:
        super().__init__()
        self.name = path
        self._bridge = bridge
        self._content = content
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._content.size}[
            whence
        ]
        if base + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self.name)
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        with _told(self.name):
            data = self._bridge.run(lambda: self._content.read(self._position, len(view)))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)


def open_disks(
    *sources: str | os.PathLike[str],
    options: OpenOptions | None = None,
    mountpoint: str | os.PathLike[str] | None = None,
    state_dir: str | os.PathLike[str] | None = None,
) -> DiskSet:
    """Open the disks that the sources name: VMDKs, .vmx files, raw images, URIs of NBD servers.

    What is mounted later is mounted at `mountpoint`, an empty directory; by default at one made for it
    and removed afterwards. Running mounts are recorded in `state_dir`. Raises SourceError if a source
    cannot be opened.
    """
    if not sources:
        raise SourceError("no source given")
    names = [os.fspath(source) for source in sources]
    options = options or OpenOptions()
    mounting = Mounting(
        tuple(map(absolute, names)),
        options,
        None if mountpoint is None else Path(mountpoint),
        None if state_dir is None else Path(state_dir),
    )
    bridge: Bridge = TrioBridge() if any(map(is_remote, names)) else InlineBridge()
    try:
        manager = bridge.run(lambda: MountManager.open(names, bridge.runtime, options))
        return DiskSet(manager, bridge, mounting)
    except BaseException:
        bridge.close()
        raise


@contextmanager
def _told(path: str | bytes) -> Iterator[None]:
    """Let errors of the parsers come out as OSErrors that name the path."""
    try:
        yield
    except ParseError as error:
        raise OSError(errno.EIO, str(error), os.fsdecode(path)) from error
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, os.fsdecode(path)) from error
        raise


__all__ = [
    "DiskSet",
    "DiskSetInfo",
    "Entry",
    "FileReader",
    "OsFamily",
    "OsInfo",
    "VolumeHandle",
    "VolumeInfo",
    "VolumeType",
    "open_disks",
]
