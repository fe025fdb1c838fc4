"""The namespace below the mount point.

Strategy: a file's FUSE inode number is computed, never stored: the volume's number in the upper 16 bits,
the inode number of its file system in the lower 48. Volume number 0 is the tree's own: the few
directories, block files and texts made here, kept in a list. So a lookup leaves nothing behind, and there
is nothing to forget.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote_to_bytes

from parsers.model import Attrs, DirEntry, XAttr
from vmount.disks import path_component, unique_name
from vmount.filemap import BytesFile, FileMap, SourceFile, open_file

if TYPE_CHECKING:
    from parsers.model import Filesystem
    from parsers.reader import BlockSource
    from vmount.manager import MountManager

VOLUME_SHIFT = 48
INO_MASK = (1 << VOLUME_SHIFT) - 1
ROOT = 1
LARGEST_XATTR = 1 << 16
"""Bytes: XATTR_SIZE_MAX of Linux; a longer value cannot be given to a caller."""


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


Node: TypeAlias = Directory | BlockFile | TextFile


@dataclass(frozen=True)
class MountedVolume:
    """A volume whose files are shown."""

    name: str
    filesystem: Filesystem
    data: BlockSource


class Listing:
    """What a directory holds. The number of an entry is `base` | DirEntry.ino."""

    __slots__ = ("base", "entries")

    def __init__(self, base: int, entries: Sequence[DirEntry]) -> None:
        self.base = base
        self.entries = entries


class Tree:
    """All that is below the mount point; numbers in, values out. Methods raise as Filesystem's do."""

    def __init__(self) -> None:
        self._nodes: list[Node | None] = [None]
        self._volumes: list[MountedVolume | None] = [None]
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

    def add_volume(self, parent: int, name: bytes, volume: MountedVolume) -> None:
        """Show the files of a volume as a directory below one of the tree's own."""
        number = len(self._volumes)
        self._volumes.append(volume)
        self._directory(parent).children[name] = number << VOLUME_SHIFT | volume.filesystem.root

    # Reading

    def volume(self, number: int) -> MountedVolume | None:
        """Return the volume that a number belongs to, None for the tree's own."""
        return self._volumes[number >> VOLUME_SHIFT]

    def block_source(self, number: int) -> BlockSource | None:
        """Return the disk or volume that a block file shows, None for any other file."""
        node = None if number >> VOLUME_SHIFT else self._nodes[number]
        return node.source if isinstance(node, BlockFile) else None

    def space(self) -> tuple[int, int]:
        """Return the size of all volumes shown, and what is free on them, in bytes."""
        infos = [volume.filesystem.info for volume in self._volumes if volume is not None]
        return sum(info.size for info in infos), sum(info.free for info in infos)

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
        return await volume.filesystem.attrs(number & INO_MASK)

    async def lookup(self, parent: int, name: bytes) -> tuple[int, Attrs] | None:
        """Return the number and the attributes of a directory's entry, None if there is none."""
        volume = self.volume(parent)
        if volume is None:
            number = self._directory(parent).children.get(name)
            return None if number is None else (number, await self.attrs(number))
        attrs = await volume.filesystem.lookup(parent & INO_MASK, name)
        if attrs is None and b"%" in name:
            attrs = await volume.filesystem.lookup(parent & INO_MASK, unquote_to_bytes(name))
        return None if attrs is None else (parent & ~INO_MASK | attrs.ino, attrs)

    async def listdir(self, number: int) -> Listing:
        """Return what a directory holds."""
        volume = self.volume(number)
        if volume is not None:
            found = await volume.filesystem.listdir(number & INO_MASK)
            return Listing(number & ~INO_MASK, _usable(found))
        entries = []
        for name, child in self._directory(number).children.items():
            attrs = await self.attrs(child)
            entries.append(DirEntry(name, child, stat.S_IFMT(attrs.mode), attrs))
        return Listing(0, entries)

    async def open(self, number: int) -> FileMap:
        """Open a regular file."""
        volume = self.volume(number)
        if volume is not None:
            return open_file(volume.data, await volume.filesystem.data(number & INO_MASK))
        match self._node(number):
            case BlockFile(source):
                return SourceFile(source)
            case TextFile(render):
                return BytesFile(render())
            case Directory():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))

    async def readlink(self, number: int) -> bytes:
        """Return the target of a symbolic link."""
        volume = self.volume(number)
        if volume is None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return await volume.filesystem.readlink(number & INO_MASK)

    async def xattrs(self, number: int) -> Mapping[bytes, XAttr]:
        """Return a file's extended attributes."""
        volume = self.volume(number)
        return {} if volume is None else await volume.filesystem.xattrs(number & INO_MASK)

    async def xattr_value(self, number: int, value: XAttr) -> bytes:
        """Return the value of an extended attribute of a file. Raises OSError(E2BIG)."""
        volume = self.volume(number)
        if isinstance(value.value, bytes) or volume is None:
            assert isinstance(value.value, bytes)
            return value.value
        content = open_file(volume.data, value.value)
        if content.size > LARGEST_XATTR:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        return bytes(await content.read(0, content.size))

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
                size = source.size
            case TextFile(render):
                size = len(render())
        made = self._made
        return Attrs(
            number, mode, nlink, os.getuid(), os.getgid(), size, size, 0, made, made, made, made
        )


def _usable(entries: Sequence[DirEntry]) -> Sequence[DirEntry]:
    """Percent-encode names that no path can hold: damage, or somebody's attempt to lead a copy astray."""
    if any(_is_unusable(entry.name) for entry in entries):
        return [
            entry._replace(name=os.fsencode(path_component(os.fsdecode(entry.name))))
            if _is_unusable(entry.name)
            else entry
            for entry in entries
        ]
    return entries


def _is_unusable(name: bytes) -> bool:
    return b"/" in name or b"\0" in name or name in {b"", b".", b".."}


def build_tree(
    manager: MountManager, info: Callable[[], bytes], status: Callable[[], bytes]
) -> Tree:
    """Lay out what a mount shows: info.json, disks/, volumes/ and the hidden .vmount/.

    `drives/` and `root/` are further directories of links into `volumes/`.
    """
    tree = Tree()
    tree.add(ROOT, b"info.json", TextFile(info))
    disks = tree.add(ROOT, b"disks", Directory())
    for disk in manager.disks:
        if disk.data is not None:
            tree.add(disks, os.fsencode(f"{disk.name}.raw"), BlockFile(disk.data))
    volumes = tree.add(ROOT, b"volumes", Directory())
    taken: set[str] = set()
    for volume in manager.volumes:
        if volume.data is None:
            continue
        name = unique_name(path_component(volume.name), taken)
        tree.add(volumes, os.fsencode(f"{name}.raw"), BlockFile(volume.data))
        if volume.filesystem is not None:
            shown = MountedVolume(name, volume.filesystem, volume.data)
            tree.add_volume(volumes, os.fsencode(name), shown)
    control = tree.add(ROOT, b".vmount", Directory())
    tree.add(control, b"status.json", TextFile(status, changing=True))
    return tree
