"""The adapter between pyfuse3 and the tree, and nothing else.

Facts about pyfuse3 that this file is shaped by: any exception but FUSEError ends the whole mount, so
every operation is guarded; a reply shorter than asked is the end of the file to the kernel, so a read is
whole or an error; a listing is always asked for with attributes; `flush` answered with ENOSYS, which is
pyfuse3's default, is asked once.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar, cast

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError

from vmount.blocks.file_map import FileMap
from vmount.errors import errno_of
from vmount.parsers.errors import ParseError
from vmount.parsers.model import VOLUME_SHIFT, Attrs
from vmount.parsers.reader import Buffer
from vmount.tree.dismounted import ClosedFile
from vmount.tree.listing import Listing
from vmount.tree.tree import INO_MASK, ROOT, Tree
from vmount.tree.walk_ahead import WalkAhead

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

FOREVER = 86400.0 * 365
"""Seconds that the kernel may keep names and attributes: the source cannot change."""

WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Owner:
    """To whom the files belong: to `uid` and `gid`, or as in the guest if they are None."""

    uid: int | None
    gid: int | None
    permissions: int | None = None
    """Of all files but links; None: their own."""


BY_HANDLE = frozenset({"read", "readdir"})
"""Operations whose first argument is a handle; the others' is an inode number."""

SMALL_FILE = 128 << 10
"""Bytes of a file that is handed to the kernel whole when it is opened."""
MOST_HANDED_OVER = 1 << 17
"""Files remembered as handed over."""

MOST_REPORTS = 10_000
"""Troubles logged in the life of a mount; a disk that is all damage must not fill the log."""


def guarded(operation: F) -> F:
    """Turn whatever an operation raises into an errno: nothing may end the mount."""

    @functools.wraps(operation)
    async def run(self: FuseOps, *args: Any) -> Any:
        try:
            return await operation(self, *args)
        except (ParseError, OSError) as error:
            code = errno_of(error)
            if code not in EXPECTED:
                self.report(operation.__name__, args, error)
            raise FUSEError(code) from error
        except FUSEError:
            raise
        except Exception as error:
            log.exception("%s: a bug in vmount", operation.__name__)
            raise FUSEError(errno.EIO) from error

    return cast("F", run)


EXPECTED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ESTALE})
"""Answers to questions, not troubles: no log line."""


class FuseOps(pyfuse3.Operations):
    """The operations of the mount. `walker` lists directories and opens files: the tree, or whoever
    asks ahead of it."""

    def __init__(self, tree: Tree, walker: Tree | WalkAhead, owner: Owner) -> None:
        super().__init__()
        self._tree = tree
        self._walker = walker
        self._owner = owner
        self._files: dict[int, FileMap] = {}
        self._listings: dict[int, tuple[int, Listing | None]] = {}
        self._handles = count(1)
        self._numbers: dict[int, int] = {}
        self._opened: dict[int, int] = {}
        """How many handles an open file has."""
        self._handed_over: set[int] = set()
        self._reported: set[tuple[int, str]] = set()
        self.started = trio.Event()
        """Set when the kernel has said hello: from then on requests are answered."""
        self.bytes_read = 0
        """Bytes given to readers so far."""

    def init(self) -> None:
        """Take note that the kernel has begun to ask."""
        self.started.set()

    @property
    def open_files(self) -> int:
        """Files and directories open now."""
        return len(self._files) + len(self._listings)

    def has_open(self, volumes: Sequence[int]) -> bool:
        """Say whether a file or directory of these volumes (numbers as in the tree) is open."""
        return any(number >> VOLUME_SHIFT in volumes for number in self._numbers.values())

    def cut_off(self, volumes: Sequence[int]) -> None:
        """Let every further read of the open files of these volumes fail."""
        for handle, number in self._numbers.items():
            if number >> VOLUME_SHIFT in volumes and handle in self._files:
                self._files[handle] = ClosedFile(self._files[handle].size)

    async def forget_names(self, names: Sequence[tuple[int, bytes]]) -> None:
        """Let the kernel ask again for names that it may keep for ever."""
        for parent, name in names:
            with contextlib.suppress(OSError):  # the kernel does not know it
                await trio.to_thread.run_sync(pyfuse3.invalidate_entry, parent, name)
                await trio.to_thread.run_sync(pyfuse3.invalidate_inode, parent, True)

    def report(self, operation: str, args: tuple[Any, ...], error: Exception) -> None:
        """Log an object's trouble, once."""
        number = self._numbers.get(args[0], ROOT) if operation in BY_HANDLE else args[0]
        key = (number, str(error))
        if key in self._reported or len(self._reported) > MOST_REPORTS:
            return
        self._reported.add(key)
        volume = self._tree.volume(number)
        where = f"{volume.name}: inode {number & INO_MASK}: " if volume is not None else ""
        log.warning("%s%s: %s", where, operation, error)

    # Names and attributes

    @guarded
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> EntryAttributes:
        found = await self._tree.lookup(parent_inode, name)
        if found is None:
            # Inode 0 tells the kernel to remember that there is no such name.
            missing = EntryAttributes()
            missing.st_ino = 0
            missing.entry_timeout = FOREVER
            return missing
        return self._entry(EntryAttributes(), *found)

    @guarded
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        return self._entry(EntryAttributes(), inode, await self._tree.attrs(inode))

    @guarded
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        return await self._tree.readlink(inode)

    # Directories

    @guarded
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        handle = next(self._handles)
        self._listings[handle] = (inode, None)
        self._numbers[handle] = inode
        return handle

    @guarded
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        inode, listing = self._listings[fh]
        if listing is None:
            listing = await self._walker.listdir(inode)
            self._listings[fh] = (inode, listing)
        entry = EntryAttributes()
        entry.entry_timeout = entry.attr_timeout = FOREVER
        base, reply = listing.base, pyfuse3.readdir_reply
        # What is set once for all does not hold for the tree's own files, which may change.
        fill = self._fill if base >> VOLUME_SHIFT else self._entry
        for index in range(start_id, len(listing.entries)):
            name, ino, kind, attrs = listing.entries[index]
            if attrs is None:
                if not reply(token, name, self._damaged(base | ino, kind), index + 1):
                    return
                continue
            fill(entry, base | ino, attrs)
            if not reply(token, name, entry, index + 1):
                return

    @guarded
    async def releasedir(self, fh: int) -> None:
        self._listings.pop(fh, None)
        self._numbers.pop(fh, None)

    # Files

    @guarded
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> FileInfo:
        if flags & WRITING:
            raise FUSEError(errno.EROFS)
        content = await self._walker.open(inode)
        changing = self._tree.is_changing(inode)
        if content.size <= SMALL_FILE and not changing:
            self._hand_over(inode, content)
        handle = next(self._handles)
        self._files[handle] = content
        self._numbers[handle] = inode
        self._opened[inode] = self._opened.get(inode, 0) + 1
        return FileInfo(fh=handle, direct_io=changing, keep_cache=not changing)

    @guarded
    async def read(self, fh: int, off: int, size: int) -> Buffer:  # type: ignore[override]  # any buffer will do
        content = self._files[fh]
        data = content.try_read(off, size)
        if data is None:
            data = await content.read(off, size)
        self.bytes_read += len(data)
        return data

    @guarded
    async def release(self, fh: int) -> None:
        self._files.pop(fh, None)
        inode = self._numbers.pop(fh, 0)
        left = self._opened.pop(inode, 1) - 1
        if left:
            self._opened[inode] = left

    def _hand_over(self, inode: int, content: FileMap) -> None:
        """Put a small file into the kernel's page cache before it asks: no request of its own is left.

        Only on the first open, and while nobody else has the file open: the kernel may then hold one of
        its pages locked, waiting for us, and we would wait for the page.
        """
        if inode in self._handed_over or inode in self._opened:
            return
        data = content.try_read(0, content.size)
        if not data:
            return
        with contextlib.suppress(OSError):
            pyfuse3.notify_store(inode, 0, data)  # type: ignore[arg-type]  # any buffer will do
            self.bytes_read += len(data)
        if len(self._handed_over) >= MOST_HANDED_OVER:
            self._handed_over.clear()
        self._handed_over.add(inode)

    # Extended attributes

    @guarded
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> list[bytes]:
        return list(await self._tree.xattrs(inode))

    @guarded
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        value = await self._tree.xattr(inode, name)
        if value is None:
            raise FUSEError(pyfuse3.ENOATTR)
        return await self._tree.xattr_value(inode, value)

    # The whole

    @guarded
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        data = pyfuse3.StatvfsData()
        size, free = await self._tree.space()
        data.f_bsize = data.f_frsize = 4096
        data.f_blocks = size // 4096
        data.f_bfree = data.f_bavail = free // 4096
        data.f_namemax = 255 * 3
        return data

    def _damaged(self, number: int, kind: int) -> EntryAttributes:
        """Return an entry whose name is there; its own lookup will fail, and say why."""
        nothing = Attrs(0, kind or stat.S_IFREG, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        entry = self._fill(EntryAttributes(), number, nothing)
        entry.entry_timeout = entry.attr_timeout = 0
        return entry

    def _entry(self, entry: EntryAttributes, number: int, attrs: Attrs) -> EntryAttributes:
        """Fill an entry and say how long the kernel may keep it."""
        lasts = number >> VOLUME_SHIFT or not self._tree.is_changing(number)
        entry.entry_timeout = FOREVER
        entry.attr_timeout = FOREVER if lasts else 0
        return self._fill(entry, number, attrs)

    def _fill(self, entry: EntryAttributes, number: int, attrs: Attrs) -> EntryAttributes:
        (_, mode, nlink, uid, gid, size, allocated, rdev, atime, mtime, ctime, _) = attrs
        owner = self._owner
        entry.st_ino = number
        if owner.permissions is not None and not stat.S_ISLNK(mode):
            # Of what is not the guest's, the block files for one, nothing is opened that is closed.
            theirs = 0o777 if number >> VOLUME_SHIFT else mode
            mode = stat.S_IFMT(mode) | owner.permissions & theirs
        entry.st_mode = mode
        entry.st_nlink = nlink
        entry.st_uid = uid if owner.uid is None else owner.uid
        entry.st_gid = gid if owner.gid is None else owner.gid
        entry.st_rdev = rdev
        entry.st_size = size
        entry.st_blocks = (allocated + 511) >> 9
        entry.st_atime_ns = atime
        entry.st_mtime_ns = mtime
        entry.st_ctime_ns = ctime
        return entry
