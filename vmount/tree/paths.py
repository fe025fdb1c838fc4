"""From a path to a file, as the kernel would walk it over the mount."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from vmount.parsers.model import MOST_LINKS
from vmount.tree.tree import INO_MASK, ROOT

if TYPE_CHECKING:
    from vmount.parsers.model import Attrs
    from vmount.tree.tree import Tree


async def resolve(tree: Tree, path: bytes, *, follow: bool = True) -> tuple[int, Attrs]:
    """Return the number and the attributes of the file at a path of the mount.

    A path may begin with the name of a volume: "disk0-p1/etc" is "volumes/disk0-p1/etc". Links are
    followed, the last component's only if `follow`; an absolute target is one of the same volume.
    Raises FileNotFoundError, NotADirectoryError or OSError(ELOOP), naming the path.
    """
    try:
        return await _Walk(tree).run(await _complete(tree, path), follow=follow)
    except OSError as error:
        if error.filename is None and error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            raise _oserror(error.errno or 0, path) from error
        raise


async def _complete(tree: Tree, path: bytes) -> bytes:
    first = path.lstrip(b"/").partition(b"/")[0]
    if first and await tree.lookup(ROOT, first) is None:
        volumes = await tree.lookup(ROOT, b"volumes")
        if volumes is not None and await tree.lookup(volumes[0], first) is not None:
            return b"volumes/" + path.lstrip(b"/")
    return path


class _Walk:
    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._links = 0
        # From the root to where the walk is; ".." takes one off.
        self._trail: list[tuple[int, Attrs]] = []

    async def run(self, path: bytes, *, follow: bool) -> tuple[int, Attrs]:
        self._trail = [(ROOT, await self._tree.attrs(ROOT))]
        pending = [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]
        while pending:
            name = pending.pop()
            here, attrs = self._trail[-1]
            if not stat.S_ISDIR(attrs.mode):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if name == b"..":
                self._trail[1:] = self._trail[1:-1]
                continue
            found = await self._tree.lookup(here, name)
            if found is None:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            if stat.S_ISLNK(found[1].mode) and (pending or follow):
                pending += await self._target(found[0])
            else:
                self._trail.append(found)
        return self._trail[-1]

    async def _target(self, link: int) -> list[bytes]:
        """Return the components of a link's target, the first one last."""
        self._links += 1
        if self._links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = await self._tree.readlink(link)
        if target.startswith(b"/"):
            volume = self._tree.volume(link)
            top = ROOT
            if volume is not None:
                top = volume.top or link & ~INO_MASK | volume.filesystem.root
            numbers = [number for number, _ in self._trail]
            if top in numbers:
                del self._trail[numbers.index(top) + 1 :]
        return [part for part in reversed(target.split(b"/")) if part not in (b"", b".")]


def _oserror(code: int, path: bytes) -> OSError:
    return OSError(code, os.strerror(code), os.fsdecode(path))
