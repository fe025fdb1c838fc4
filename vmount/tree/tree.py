"""The namespace below the mount point.

Strategy: a file's FUSE inode number is computed, never stored: the volume's number in the upper 16 bits,
the inode number of its file system in the lower 48. Volume number 0 is the tree's own: the few
directories, block files and texts made here, kept in a list. So a lookup leaves nothing behind, and there
is nothing to forget.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, runtime_checkable
from urllib.parse import unquote_to_bytes

import trio

from vmount.blocks.file_map import BytesFile, FileMap, SourceFile, open_file
from vmount.blocks.memory import PROCESS, MemoryBudget, TooLarge
from vmount.parsers.errors import Corrupt, ParseError
from vmount.parsers.model import (
    VOLUME_SHIFT,
    Attrs,
    DirEntry,
    HiddenXattrs,
    Ino,
    LinkTargets,
    XAttr,
)
from vmount.tree.dismounted import Dismounted
from vmount.tree.listing import Listing, cost_of, is_unusable, shown, usable
from vmount.tree.shared import Shared

if TYPE_CHECKING:
    from vmount.guest.links import DriveLinks
    from vmount.parsers.model import FileData, Filesystem
    from vmount.parsers.reader import BlockSource

log = logging.getLogger(__name__)

INO_MASK = (1 << VOLUME_SHIFT) - 1
ROOT = 1
RAW_MODE = 0o400
"""Of block files: who may read one reads every file of a volume, whatever that file's mode."""
LONGEST_COUNT = 1.0
"""Seconds that counting what is free may hold up who asks (df)."""
MOST_TOO_LONG = 1000
"""Directories remembered as too long to be listed, so that each costs its time once."""
LARGEST_XATTR = 1 << 16
"""Bytes: XATTR_SIZE_MAX of Linux; a longer value cannot be given to a caller."""


@runtime_checkable
class CountsFree(Protocol):
    """A file system that counts what is free in a bitmap, because nothing else says it."""

    async def free_bytes(self) -> int:
        """Return how many bytes are free. Raises Corrupt, OSError."""
        ...


@dataclass(frozen=True)
class BlockFile:
    """A disk or volume shown as a file."""

    source: BlockSource


@dataclass(frozen=True)
class TextFile:
    """A file whose text is made when it is opened. `changing`: it differs from one time to the next."""

    render: Callable[[], bytes]
    changing: bool = False


@dataclass(frozen=True)
class Directory:
    """A directory of the tree's own. The children are numbers of nodes or of volumes' roots."""

    children: dict[bytes, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: bytes


Node: TypeAlias = Directory | BlockFile | TextFile | Link


@dataclass(frozen=True)
class MountedVolume:
    """A volume whose files are shown; one that is shown in several places is several of these."""

    name: str
    of: str
    """The volume's own name."""
    filesystem: Filesystem
    data: BlockSource
    top: int | None = None
    """Where the absolute links on it start; None: at its own root."""
    links: DriveLinks | None = None
    """Finds what is meant by its links that name drives."""
    covered: dict[Ino, int] = field(default_factory=dict)
    """Numbers of other volumes' roots that are shown in place of its directories."""

    @property
    def translates_links(self) -> bool:
        """Whether the target of a link is another text than the one that is stored."""
        return isinstance(self.filesystem, LinkTargets)


class _Place(NamedTuple):
    """Where something of a volume is shown: a name in a directory of the tree's own."""

    parent: int
    name: bytes
    number: int


class Tree:
    """All that is below the mount point; numbers in, values out. Methods raise as Filesystem's do."""

    def __init__(self, raw_mode: int = RAW_MODE, memory: MemoryBudget = PROCESS) -> None:
        """`raw_mode` is the mode of block files, of which each shows all files of a volume. What is open
        counts as held in `memory`.
        """
        self._raw_mode = raw_mode
        self._memory = memory
        self._files: Shared[tuple[int, bytes], FileMap] = Shared()
        self._listings: Shared[int, Listing] = Shared()
        self._too_long: dict[int, str] = {}
        """Directories that no listing can be made of, and what to say."""
        self._free: dict[int, int] = {}
        """Bytes, by the id of the file system, of those that had to be counted."""
        self._nodes: list[Node | None] = [None]
        self._volumes: list[MountedVolume | None] = [None]
        self._places: dict[str, list[_Place]] = {}
        self._numbers: dict[str, list[int]] = {}
        self._hidden: dict[int, MountedVolume] = {}
        self.shown_as: dict[str, str] = {}
        """Names below volumes/ by those of the volumes."""
        self._made = time.time_ns()
        self.add(None, b"", Directory())

    # Building

    def add(self, parent: int | None, name: bytes, node: Node) -> int:
        """Add a node below a directory of the tree's own and return its number."""
        number = len(self._nodes)
        self._nodes.append(node)
        if parent is not None:
            self._directory(parent).children[name] = number
        return number

    def add_volume(self, parent: int, name: bytes, volume: MountedVolume) -> int:
        """Show the files of a volume as a directory below one of the tree's own; return its number."""
        number = self._number_volume(volume)
        self._place(volume.of, parent, name, number)
        return number

    def add_link(self, parent: int, name: bytes, link: Link, volume: str) -> None:
        """Add a link that is there as long as a volume is."""
        number = self.add(None, b"", link)
        self._place(volume, parent, name, number)

    def cover(self, directory: int, volume: MountedVolume) -> int:
        """Show the files of a volume in place of a directory of another; return the number of its root."""
        number = self._number_volume(volume)
        below = self.volume(directory)
        assert below is not None
        below.covered[directory & INO_MASK] = number
        return number

    def hide(self, volume: str) -> list[tuple[int, bytes]]:
        """Show nothing of a volume any more: what is still asked of it fails with ESTALE.

        Return the names that are gone, each with the number of its directory. A directory that the
        volume covers stays covered.
        """
        for index in self.numbers_of(volume):
            whole = self._volumes[index]
            assert whole is not None
            self._hidden[index] = whole
            nothing = Dismounted(whole.filesystem.root)
            self._volumes[index] = replace(whole, filesystem=nothing, links=None, covered={})
        for parent, name, _ in self._places[volume]:
            del self._directory(parent).children[name]
        return [(parent, name) for parent, name, _ in self._places[volume]]

    def reveal(self, volume: str) -> list[tuple[int, bytes]]:
        """Show again what was hidden, under the same numbers; return the names as `hide` does."""
        for index in self.numbers_of(volume):
            self._volumes[index] = self._hidden.pop(index)
        for parent, name, number in self._places[volume]:
            self._directory(parent).children[name] = number
        return [(parent, name) for parent, name, _ in self._places[volume]]

    def numbers_of(self, volume: str) -> list[int]:
        """Return the upper parts of the numbers of a volume's files: one for each place of it."""
        return self._numbers.get(volume, [])

    def _place(self, volume: str, parent: int, name: bytes, number: int) -> None:
        self._directory(parent).children[name] = number
        self._places.setdefault(volume, []).append(_Place(parent, name, number))

    def _number_volume(self, volume: MountedVolume) -> int:
        self._numbers.setdefault(volume.of, []).append(len(self._volumes))
        self._volumes.append(volume)
        return len(self._volumes) - 1 << VOLUME_SHIFT | volume.filesystem.root

    # Reading

    def tops(self) -> list[bytes]:
        """Return the names at the top."""
        return list(self._directory(ROOT).children)

    def volume(self, number: int) -> MountedVolume | None:
        """Return the volume that a number belongs to, None for the tree's own."""
        return self._volumes[number >> VOLUME_SHIFT]

    def block_source(self, number: int) -> BlockSource | None:
        """Return the disk or volume that a block file shows, None for any other file."""
        node = None if number >> VOLUME_SHIFT else self._nodes[number]
        return node.source if isinstance(node, BlockFile) else None

    async def space(self) -> tuple[int, int]:
        """Return the size of all volumes shown, and what is free on them, in bytes.

        What is free may have to be counted in a volume's bitmap, once. A volume whose bitmap is damaged, or not
        read within LONGEST_COUNT, has as much as its file system says without it.
        """
        filesystems = {
            id(volume.filesystem): volume.filesystem
            for volume in self._volumes
            if volume is not None
        }
        size = free = 0
        with trio.move_on_after(LONGEST_COUNT):
            for key, filesystem in filesystems.items():
                if key not in self._free and isinstance(filesystem, CountsFree):
                    try:
                        self._free[key] = await filesystem.free_bytes()
                    except (ParseError, OSError) as error:
                        log.debug("free space is not known: %s", error)
                        self._free[key] = filesystem.info.free
        for key, filesystem in filesystems.items():
            size += filesystem.info.size
            free += self._free.get(key, filesystem.info.free)
        return size, free

    def is_changing(self, number: int) -> bool:
        """Say whether a file's content differs from one time to the next."""
        if number >> VOLUME_SHIFT:
            return False
        node = self._nodes[number]
        return isinstance(node, TextFile) and node.changing

    async def attrs(self, number: int) -> Attrs:
        """Return a file's attributes; `Attrs.ino` is without the volume's number."""
        volume = self.volume(number)
        if volume is None:
            return self._own_attrs(number)
        return await _sized(volume, await volume.filesystem.attrs(number & INO_MASK))

    async def lookup(self, parent: int, name: bytes) -> tuple[int, Attrs] | None:
        """Return the number and the attributes of a directory's entry, None if there is none."""
        volume = self.volume(parent)
        if volume is None:
            number = self._directory(parent).children.get(name)
            return None if number is None else (number, await self.attrs(number))
        attrs = await volume.filesystem.lookup(parent & INO_MASK, name)
        if attrs is None and b"%" in name:
            meant = unquote_to_bytes(name)
            if is_unusable(meant) and shown(meant) == name:
                attrs = await volume.filesystem.lookup(parent & INO_MASK, meant)
        if attrs is None:
            return None
        if attrs.ino in volume.covered:
            number = volume.covered[attrs.ino]
            return number, await self.attrs(number)
        return parent & ~INO_MASK | attrs.ino, await _sized(volume, attrs)

    async def listdir(self, number: int) -> Listing:
        """Return what a directory holds."""
        volume = self.volume(number)
        if volume is not None:
            if number >> VOLUME_SHIFT in self._hidden:
                return await self._list(volume, number)
            listing = await self._listings.get(number, lambda: self._list(volume, number))
            if volume.covered and any(entry.ino in volume.covered for entry in listing.entries):
                base, found = listing.base, listing.entries
                return Listing(0, [await self._uncovered(entry, base, volume) for entry in found])
            return listing
        entries = []
        for name, child in self._directory(number).children.items():
            entries.append(await self._named(name, child))
        return Listing(0, entries)

    async def _list(self, volume: MountedVolume, number: int) -> Listing:
        if number in self._too_long:
            raise OSError(errno.ENOMEM, self._too_long[number])
        try:
            found = usable(await volume.filesystem.listdir(number & INO_MASK))
            if volume.translates_links and any(entry.kind == stat.S_IFLNK for entry in found):
                found = [await _sized_entry(volume, entry) for entry in found]
            listing = Listing(number & ~INO_MASK, found)
            self._memory.hold(listing, cost_of(found), f"a directory of {len(found)} names")
        except TooLarge as error:
            if error.wanted > self._memory.most_held and len(self._too_long) < MOST_TOO_LONG:
                self._too_long[number] = error.reason
            raise
        return listing

    async def _named(self, name: bytes, child: int) -> DirEntry:
        """Return an entry of a directory of our own. A volume without a root costs the others nothing."""
        try:
            attrs = await self.attrs(child)
        except (ParseError, OSError):
            return DirEntry(name, child, stat.S_IFDIR, None)
        return DirEntry(name, child, stat.S_IFMT(attrs.mode), attrs)

    async def open(
        self, number: int, stream: bytes = b"", known: FileData | None = None
    ) -> FileMap:
        """Open a regular file, or an alternate stream of one; opened again, it is the same object.

        `known`: where its bytes are, as the file system has said before.
        """
        volume = self.volume(number)
        if volume is not None:
            if number >> VOLUME_SHIFT in self._hidden:
                return await self._open(volume, number, stream, known)
            return await self._files.get(
                (number, stream), lambda: self._open(volume, number, stream, known)
            )
        match self._node(number):
            case BlockFile(source):
                return SourceFile(source)
            case TextFile(render):
                return BytesFile(render())
            case Directory():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            case Link():
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    async def _open(
        self, volume: MountedVolume, number: int, stream: bytes, known: FileData | None
    ) -> FileMap:
        data = known or await volume.filesystem.data(number & INO_MASK, stream)
        return open_file(volume.data, data, self._memory)

    async def readlink(self, number: int) -> bytes:
        """Return the target of a symbolic link."""
        volume = self.volume(number)
        if volume is not None:
            return await _readlink(volume, number & INO_MASK)
        node = self._node(number)
        if not isinstance(node, Link):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return node.target

    async def xattrs(self, number: int) -> Mapping[bytes, XAttr]:
        """Return a file's extended attributes."""
        volume = self.volume(number)
        return {} if volume is None else await volume.filesystem.xattrs(number & INO_MASK)

    async def xattr(self, number: int, name: bytes) -> XAttr | None:
        """Return one extended attribute of a file, also of those that are given only when asked for."""
        volume = self.volume(number)
        if volume is None:
            return None
        filesystem = volume.filesystem
        if isinstance(filesystem, HiddenXattrs) and name.startswith(filesystem.hidden_prefix):
            value = await filesystem.hidden_xattr(number & INO_MASK, name)
            return None if value is None else XAttr(value)
        return (await filesystem.xattrs(number & INO_MASK)).get(name)

    async def xattr_value(self, number: int, value: XAttr) -> bytes:
        """Return the value of an extended attribute of a file. Raises OSError(E2BIG), ParseError."""
        volume = self.volume(number)
        if isinstance(value.value, bytes) or volume is None:
            assert isinstance(value.value, bytes)
            return value.value
        if isinstance(value.value, ParseError):
            raise value.value.with_traceback(None)
        content = open_file(volume.data, value.value)
        if content.size > LARGEST_XATTR:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        return bytes(await content.read(0, content.size))

    async def _uncovered(self, entry: DirEntry, base: int, volume: MountedVolume) -> DirEntry:
        """Return an entry as it is shown, with its whole number."""
        number = volume.covered.get(entry.ino)
        if number is None:
            return entry._replace(ino=base | entry.ino)
        if number >> VOLUME_SHIFT in self._hidden:
            return DirEntry(entry.name, number, stat.S_IFDIR, None)
        return DirEntry(entry.name, number, stat.S_IFDIR, await self.attrs(number))

    def _node(self, number: int) -> Node:
        node = self._nodes[number] if number < len(self._nodes) else None
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return node

    def _directory(self, number: int) -> Directory:
        node = self._node(number)
        if not isinstance(node, Directory):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return node

    def _is_directory(self, number: int) -> bool:
        return bool(number >> VOLUME_SHIFT) or isinstance(self._nodes[number], Directory)

    def _own_attrs(self, number: int) -> Attrs:
        mode, nlink, size = stat.S_IFREG | 0o444, 1, 0
        match self._node(number):
            case Directory(children):
                folders = (child for child in children.values() if self._is_directory(child))
                mode, nlink = stat.S_IFDIR | 0o755, 2 + sum(1 for _ in folders)
            case BlockFile(source):
                mode, size = stat.S_IFREG | self._raw_mode, source.size
            case TextFile(render):
                size = len(render())
            case Link(target):
                mode, size = stat.S_IFLNK | 0o777, len(target)
        made = self._made
        return Attrs(
            number, mode, nlink, os.getuid(), os.getgid(), size, size, 0, made, made, made, made
        )


async def _sized_entry(volume: MountedVolume, entry: DirEntry) -> DirEntry:
    if entry.attrs is None or entry.kind != stat.S_IFLNK:
        return entry
    return entry._replace(attrs=await _sized(volume, entry.attrs))


async def _sized(volume: MountedVolume, attrs: Attrs) -> Attrs:
    """Return a file's attributes; those of a link with the length of the target that `readlink` gives.

    Programs read as many bytes of a target as `lstat` says (cpio), and would cut it off. A link whose
    target cannot be read keeps the size that is stored: reading it says what is wrong.
    """
    if not stat.S_ISLNK(attrs.mode) or not volume.translates_links:
        return attrs
    try:
        return attrs._replace(size=len(await _readlink(volume, attrs.ino)))
    except (ParseError, OSError):
        return attrs


async def _readlink(volume: MountedVolume, ino: Ino) -> bytes:
    target = None
    if volume.links is not None and isinstance(volume.filesystem, LinkTargets):
        target = await volume.links.target(volume.filesystem, ino, volume.name)
    if target is None:
        target = await volume.filesystem.readlink(ino)
    if b"\0" in target:
        raise Corrupt("target of a symbolic link", expected="no NUL", actual=repr(target[:80]))
    return target
