"""From a path of the mount to the file that has it: one file at a time, names exactly as on the disk.

What the guest calls a file, `vmount.api.spelling` finds out with these answers.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from vmount.api.file_reader import as_os_errors
from vmount.api.spelling import CASELESS
from vmount.parsers.lru import Lru
from vmount.parsers.model import Attrs, FileData, HiddenXattrs, Streams
from vmount.tree.paths import resolve
from vmount.tree.read_ahead import ReadAhead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.api.bridge import Bridge
    from vmount.blocks.file_map import FileMap
    from vmount.tree.listing import Listing
    from vmount.tree.tree import Tree

FOLDERS_KEPT = 4096
"""Directories whose paths are remembered."""
STREAM_PREFIX = b"user."
"""Of the names of extended attributes that are alternate streams on NTFS."""
EXECUTABLE = 0o111


class Entry(NamedTuple):
    """A name in a directory."""

    name: str
    attrs: Attrs | None
    """None if the file's own record is damaged."""


class FileRef(NamedTuple):
    """A file, or a directory, that was met below a directory."""

    path: str
    number: int
    """Tells it from all other files of the set; hard links have one number."""
    attrs: Attrs
    stream: str = ""
    """The name of an alternate stream, if it is one; its path is then "file:stream"."""


class Lookup:
    """The files of a tree by their paths. Any thread may call it; the bridge runs one call at a time."""

    def __init__(self, tree: Tree, bridge: Bridge, top: bytes = b"") -> None:
        """`top` is where paths are looked for first: the root of a datastore that is browsed."""
        self.tree = tree
        self.bridge = bridge
        self._top = top
        self._folders: Lru[bytes, int] = Lru(FOLDERS_KEPT)

    def at(self, path: str | bytes, *, follow: bool) -> FileRef:
        """Return what is at a path, which may be that of an alternate stream. Raises OSError."""
        with as_os_errors(path):
            return self.bridge.run(lambda: self._find_ref(os.fsencode(path), follow=follow))

    # What vmount.api.spelling asks

    def tops(self) -> frozenset[str]:
        """Return the names at the top of what a mount shows; none of a datastore that is browsed."""
        if self._top:
            return frozenset()
        return frozenset(os.fsdecode(name) for name in self.tree.tops())

    def stat(self, path: str | bytes, *, follow: bool = True) -> Attrs:
        """Return a file's attributes. Raises OSError."""
        return self.at(path, follow=follow).attrs

    def listdir(self, path: str | bytes) -> list[Entry]:
        """Return what a directory holds. Raises OSError."""
        listing = self.listing(path)
        return [Entry(os.fsdecode(entry.name), entry.attrs) for entry in listing.entries]

    def is_caseless(self, path: str | bytes) -> bool:
        """Say whether the guest matches names in a directory without regard to case. Raises OSError."""
        return self.ignores_case(self.at(path, follow=True).number)

    def stream_names(self, path: str | bytes) -> list[str]:
        """Return the names of a file's alternate streams. Raises OSError."""
        file = self.at(path, follow=False)
        if file.stream or not self.has_streams(file.number):
            return []
        with as_os_errors(path):
            return [each.stream for each in self.bridge.run(lambda: self.streams_of(file))]

    # What is at a path

    def listing(self, path: str | bytes) -> Listing:
        """Return what a directory holds, as the tree has it. Raises OSError."""
        number = self.at(path, follow=True).number
        return self.listing_of(number, path)

    def listing_of(self, number: int, path: str | bytes) -> Listing:
        """Return what the directory of a number holds; `path` is for errors. Raises OSError."""
        with as_os_errors(path):
            return self.bridge.run(lambda: self.tree.listdir(number))

    def readlink(self, path: str | bytes) -> str:
        """Return the target of a symbolic link. Raises OSError."""
        number = self.at(path, follow=False).number
        with as_os_errors(path):
            return os.fsdecode(self.bridge.run(lambda: self.tree.readlink(number)))

    def xattrs(self, path: str | bytes) -> dict[str, bytes]:
        """Return a file's extended attributes. Raises OSError."""
        number = self.at(path, follow=False).number
        with as_os_errors(path):
            return self.bridge.run(lambda: self._xattrs(number))

    def content(self, file: FileRef) -> FileMap:
        """Open a file. Raises OSError."""
        if stat.S_ISDIR(file.attrs.mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), file.path)
        if not stat.S_ISREG(file.attrs.mode):
            raise OSError(errno.EINVAL, "not a regular file", file.path)
        with as_os_errors(file.path):
            return self.bridge.run(lambda: self.open(file.number, os.fsencode(file.stream)))

    # Of the number of a file

    def has_streams(self, number: int) -> bool:
        """Say whether the files of a file's volume can have alternate streams."""
        volume = self.tree.volume(number)
        return volume is not None and isinstance(volume.filesystem, Streams)

    def unlisted_xattrs(self, number: int) -> Sequence[bytes]:
        """Return the names of attributes that `xattrs` does not list and a restored file should have."""
        volume = self.tree.volume(number)
        if volume is None or not isinstance(volume.filesystem, HiddenXattrs):
            return ()
        return volume.filesystem.restorable

    def ignores_case(self, number: int) -> bool:
        """Say whether the guest matches the names on a file's volume without regard to case."""
        volume = self.tree.volume(number)
        return volume is not None and volume.filesystem.info.fstype in CASELESS

    async def open(self, number: int, stream: bytes = b"") -> FileMap:
        """Open a file; on a distant disk it is read ahead of a caller that reads it in order."""
        content = await self.tree.open(number, stream)
        volume = self.tree.volume(number)
        if volume is None or self.bridge.runtime.nursery is None:
            return content
        return ReadAhead(content, volume.data)

    async def streams_of(self, file: FileRef) -> list[FileRef]:
        """Return the alternate streams of a file on NTFS. Raises OSError, ParseError."""
        found = []
        for name, (value,) in (await self.tree.xattrs(file.number)).items():
            if name.startswith(STREAM_PREFIX):
                stream = os.fsdecode(name.removeprefix(STREAM_PREFIX))
                size = 0
                if isinstance(value, bytes):
                    size = len(value)
                elif isinstance(value, FileData):
                    size = value.size
                # Else opening it says what is wrong.
                attrs = stream_attrs(file.attrs, size)
                found.append(FileRef(f"{file.path}:{stream}", file.number, attrs, stream))
        return found

    async def _xattrs(self, number: int) -> dict[str, bytes]:
        found = await self.tree.xattrs(number)
        return {
            os.fsdecode(name): await self.tree.xattr_value(number, value)
            for name, value in found.items()
        }

    async def _find_ref(self, path: bytes, *, follow: bool) -> FileRef:
        try:
            number, attrs = await self._find(path, follow=follow)
        except FileNotFoundError:
            found = await self._find_stream(path)
            if found is None:
                raise
            return found
        return FileRef(os.fsdecode(path), number, attrs)

    async def _find_stream(self, path: bytes) -> FileRef | None:
        """Return the alternate stream at a path. Neither names nor streams have colons in Windows; what
        another system wrote may have."""
        folder, slash, name = path.rpartition(b"/")
        for at in (at for at, byte in enumerate(name) if byte == ord(":")):
            file, stream = folder + slash + name[:at], os.fsdecode(name[at + 1 :])
            try:
                number, attrs = await self._find(file, follow=False)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if self.has_streams(number):
                for found in await self.streams_of(FileRef(os.fsdecode(file), number, attrs)):
                    if found.stream == stream:
                        return found
        return None

    async def _find(self, path: bytes, *, follow: bool) -> tuple[int, Attrs]:
        """Return the file at a path: by its directory, where that was just used, else from the root."""
        folder, _, name = path.rpartition(b"/")
        above = self._folders.get(folder)
        found = None
        if above is not None and name not in (b"", b".", b".."):
            found = await self.tree.lookup(above, name)
        if found is None or (follow and stat.S_ISLNK(found[1].mode)):
            found = await self._walk_to(path, follow=follow)
        if stat.S_ISDIR(found[1].mode):
            self._folders.put(path.rstrip(b"/"), found[0])
        return found

    async def _walk_to(self, path: bytes, *, follow: bool) -> tuple[int, Attrs]:
        if self._top:
            with suppress(FileNotFoundError):
                return await resolve(self.tree, self._top + b"/" + path, follow=follow)
        return await resolve(self.tree, path, follow=follow)


def stream_attrs(attrs: Attrs, size: int) -> Attrs:
    """Return the attributes of an alternate stream of so many bytes: a plain file, of its file's owner."""
    mode = stat.S_IFREG | (stat.S_IMODE(attrs.mode) & ~EXECUTABLE)
    return attrs._replace(mode=mode, nlink=1, size=size, allocated=size, rdev=0)
