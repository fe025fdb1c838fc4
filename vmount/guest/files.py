"""Reading a guest's own files, by their paths."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from vmount.blocks.file_map import open_file
from vmount.parsers.errors import Unsupported
from vmount.parsers.model import MOST_LINKS
from vmount.parsers.reader import check_bounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.blocks.file_map import FileMap
    from vmount.parsers.model import Attrs, Filesystem, Ino
    from vmount.parsers.reader import BlockSource, Buffer, Span
    from vmount.volumes.find import Volume

LARGEST_TEXT = 1 << 20
"""Bytes: fstab and os-release are texts of a few KiB."""

LONGEST_PATH = 4096
"""Bytes: PATH_MAX of Linux."""

MOST_LOOKUPS = 10_000
"""In one tree: the paths that are looked up have a few names each, and links may multiply what is hostile."""


class GuestFile:
    """A file of a guest as a Reader."""

    def __init__(self, content: FileMap, source: BlockSource) -> None:
        self.size = content.size
        self._content = content
        self._source = source

    async def read(self, offset: int, length: int) -> Buffer:
        """Return exactly `length` bytes."""
        check_bounds(offset, length, self.size)
        return await self._content.read(offset, length)

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Hand the hint on to where the file lies."""
        self._source.prefetch(
            [part for span in spans for part in self._content.where(span.offset, span.length)]
        )


async def open_guest_file(volume: Volume, ino: Ino) -> GuestFile:
    """Open a regular file of a volume with files."""
    filesystem, source = opened(volume)
    return GuestFile(open_file(source, await filesystem.data(ino)), source)


async def read_text(volume: Volume, ino: Ino) -> bytes:
    """Return the content of a small file, cut where it is longer than it has a reason to be."""
    file = await open_guest_file(volume, ino)
    return bytes(await file.read(0, min(file.size, LARGEST_TEXT)))


async def find_file(volume: Volume, *names: str) -> Attrs | None:
    """Return the attributes of the file at a path below a volume's root; links are not followed."""
    filesystem, _ = opened(volume)
    attrs: Attrs | None = await filesystem.attrs(filesystem.root)
    for name in names:
        if attrs is None or not stat.S_ISDIR(attrs.mode):
            return None
        attrs = await filesystem.lookup(attrs.ino, name.encode())
    return attrs


def opened(volume: Volume) -> tuple[Filesystem, BlockSource]:
    """Return the file system and the bytes of a volume that has both."""
    assert volume.filesystem is not None
    assert volume.data is not None
    return volume.filesystem, volume.data


class Place(NamedTuple):
    """A file in a GuestTree."""

    mount: int
    """Index in `GuestTree.mounts`."""
    attrs: Attrs


@dataclass
class Mount:
    """A volume in a GuestTree, and the directories of it that others cover."""

    volume: Volume
    covered: dict[Ino, int] = field(default_factory=dict)
    """Index of the mount that covers a directory."""


class GuestTree:
    """Volumes mounted in one another as a Linux guest sees them. Paths are the guest's; links are followed."""

    def __init__(self, root: Volume) -> None:
        self.mounts = [Mount(root)]
        self._lookups = 0

    def mount(self, volume: Volume, place: Place) -> None:
        """Cover a directory with a volume."""
        self.mounts[place.mount].covered[place.attrs.ino] = len(self.mounts)
        self.mounts.append(Mount(volume))

    async def find(self, path: bytes) -> Place | None:
        """Return the file at a path, None if there is none. Raises OSError(ELOOP, ENAMETOOLONG)."""
        if len(path) > LONGEST_PATH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        trail = [await self._top(0)]
        pending = _components(path)
        links = 0
        while pending:
            name = pending.pop()
            here = trail[-1]
            if name == b"..":
                trail[1:] = trail[1:-1]
                continue
            if not stat.S_ISDIR(here.attrs.mode):
                return None
            self._lookups += 1
            if self._lookups > MOST_LOOKUPS:
                raise Unsupported(
                    f"more than {MOST_LOOKUPS} names looked up on the path to a guest's files"
                )
            mount = self.mounts[here.mount]
            filesystem, _ = opened(mount.volume)
            attrs = await filesystem.lookup(here.attrs.ino, name)
            if attrs is None:
                return None
            if stat.S_ISLNK(attrs.mode):
                links += 1
                if links > MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fsdecode(path))
                target = await filesystem.readlink(attrs.ino)
                if target.startswith(b"/"):
                    del trail[1:]
                pending += _components(target)
            elif attrs.ino in mount.covered:
                trail.append(await self._top(mount.covered[attrs.ino]))
            else:
                trail.append(Place(here.mount, attrs))
        return trail[-1]

    async def read(self, path: bytes) -> bytes | None:
        """Return the content of a small regular file, None if there is no such file."""
        place = await self.find(path)
        if place is None or not stat.S_ISREG(place.attrs.mode):
            return None
        return await read_text(self.mounts[place.mount].volume, place.attrs.ino)

    async def _top(self, index: int) -> Place:
        filesystem, _ = opened(self.mounts[index].volume)
        return Place(index, await filesystem.attrs(filesystem.root))


def guest_text(text: str) -> str:
    """Return what a guest says of itself as a terminal may have it."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def _components(path: bytes) -> list[bytes]:
    """Return the names of a path, the first one last."""
    return [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]
