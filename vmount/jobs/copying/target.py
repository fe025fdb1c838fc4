"""The tree that copies go into, held by descriptors: no link in it is ever followed.

Who may write to the target may exchange its directories for links at any moment, so a path that was checked
proves nothing. The top is opened once. Each directory below it is opened from a descriptor above it, with
openat2(2) and RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS; each name is used relative to its directory's
descriptor. Kernels before 5.6 have no openat2, and some seccomp filters refuse it: there, the path is walked
name by name with O_NOFOLLOW, which is as safe and takes more calls.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

OPENAT2 = 437
"""The system call's number: the same on every architecture that CPython supports, see
syscall.tbl of Linux."""
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
"""Of linux/openat2.h."""
MOST_TRIES = 128
"""Of an openat2 that a rename elsewhere disturbs (EAGAIN)."""

MOST_OPEN = 64
"""Directories of a target that stay open: a copy returns to those it has just been in."""
LONGEST_PATH = 3072
"""Bytes of a path that are resolved at once; the kernel takes less than PATH_MAX, 4,096."""

DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NOT_SUPPORTED = frozenset({errno.ENOSYS, errno.EPERM})
"""openat2's answer where the kernel, or a seccomp filter, does not let it be used."""


class Identity(NamedTuple):
    """What tells one file from every other as long as it exists."""

    device: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """Return that of the file that a status is of."""
        return cls(status.st_dev, status.st_ino)


class _How(ctypes.Structure):
    """struct open_how."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_libc = ctypes.CDLL(None, use_errno=True)


def open_beneath(directory: int, path: str) -> int:
    """Open a directory below another one (O_PATH). Raises OSError, ELOOP for a link in the path.

    `path` is relative, at most LONGEST_PATH bytes long, and has no "..".
    """
    # Without O_NOFOLLOW, the last name is refused with ELOOP as the others are.
    how = _How(
        DIRECTORY & ~os.O_NOFOLLOW, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
    )
    name = ctypes.c_char_p(os.fsencode(path))
    size = ctypes.c_size_t(ctypes.sizeof(how))
    for _ in range(MOST_TRIES):
        opened: int = _libc.syscall(
            ctypes.c_long(OPENAT2), ctypes.c_int(directory), name, ctypes.byref(how), size
        )
        if opened >= 0:
            return opened
        number = ctypes.get_errno()
        if number in NOT_SUPPORTED:
            return open_by_names(directory, path)
        if number not in (errno.EAGAIN, errno.EINTR):
            raise OSError(number, os.strerror(number))
    raise OSError(errno.EAGAIN, "the target keeps changing")


def open_by_names(directory: int, path: str) -> int:
    """Do as `open_beneath` without openat2."""
    names = path.split("/")
    if not {"", ".", ".."}.isdisjoint(names):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    here = directory
    for name in names:
        try:
            below = os.open(name, DIRECTORY, dir_fd=here)
        except NotADirectoryError as error:
            found = os.stat(name, dir_fd=here, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error
            raise
        finally:
            if here != directory:
                os.close(here)
        here = below
    return here


class TargetTree:
    """A directory that is open, and those below it."""

    def __init__(self, top: Path) -> None:
        """Open it: this once, links are followed. Raises OSError."""
        self.shown = str(top)
        self._top = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: OrderedDict[str, int] = OrderedDict()

    def path_of(self, path: str) -> str:
        """Return the path that is shown for one below the top."""
        if not path:
            return self.shown
        return path if self.shown == "." else f"{self.shown.rstrip('/')}/{path}"

    def close(self) -> None:
        """Close all of it."""
        while self._open:
            os.close(self._open.popitem()[1])
        os.close(self._top)

    def descriptor(self, path: str) -> int:
        """Return a descriptor (O_PATH) of a directory; "" is the top. Raises OSError.

        It is the tree's own, and stays open until MOST_OPEN others were asked for.
        """
        if not path:
            return self._top
        known = self._open.get(path)
        if known is not None:
            self._open.move_to_end(path)
            return known
        try:
            opened = self._walk(path)
        except OSError as error:
            if error.errno == errno.ELOOP:
                error.strerror = "is a symbolic link, not a directory"
            error.filename = self.path_of(path)
            raise
        self._open[path] = opened
        if len(self._open) > MOST_OPEN:
            os.close(self._open.popitem(last=False)[1])
        return opened

    def _walk(self, path: str) -> int:
        """Open a directory, from the one above it if that is open, else from the top."""
        above, _, name = path.rpartition("/")
        start = self._open.get(above) if above else None
        here, rest = (self._top, path) if start is None else (start, name)
        first = here
        while True:
            piece, rest = _first_piece(rest)
            try:
                below = open_beneath(here, piece)
            finally:
                if here != first:
                    os.close(here)
            if not rest:
                return below
            here = below


def _first_piece(path: str) -> tuple[str, str]:
    """Split a path where the kernel can no longer take it whole."""
    # A character is at most four bytes long.
    if len(path) * 4 <= LONGEST_PATH:
        return path, ""
    piece, slash, _ = path[: LONGEST_PATH // 4].rpartition("/")
    if not slash:
        piece = path.partition("/")[0]
    return piece, path[len(piece) + 1 :]


class Place(NamedTuple):
    """Where a copy is, or will be."""

    tree: TargetTree
    path: str
    """Below the top; "" is the top itself."""

    def __str__(self) -> str:
        """Return the path that is shown for it."""
        return self.tree.path_of(self.path)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def folder(self) -> int:
        """Return the descriptor of the directory that it is in: see TargetTree.descriptor.

        Raises OSError, IsADirectoryError for the top, which cannot be replaced.
        """
        if self.name in ("", ".", "..") or "\0" in self.path:
            raise IsADirectoryError(errno.EISDIR, "a directory of that name exists", str(self))
        return self.tree.descriptor(self.path.rpartition("/")[0])

    def below(self, path: str) -> Place:
        """Return the place of a path below this one, which begins with a slash."""
        return Place(self.tree, f"{self.path}{path}" if self.path else path[1:])

    def lstat(self) -> os.stat_result:
        """Return the status of what is there. Raises OSError."""
        if not self.path:
            return os.fstat(self.tree.descriptor(""))
        return os.stat(self.name, dir_fd=self.folder(), follow_symlinks=False)

    def open(self) -> int:
        """Open what is there, a link itself (O_PATH); the caller closes it. Raises OSError."""
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        if not self.path:
            return os.open(".", flags, dir_fd=self.tree.descriptor(""))
        try:
            return os.open(self.name, flags, dir_fd=self.folder())
        except OSError as error:
            error.filename = str(self)
            raise

    def make_room(self) -> None:
        """Remove the file that is there, if there is one. Raises OSError."""
        folder = self.folder()
        try:
            os.unlink(self.name, dir_fd=folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            error.filename = str(self)
            raise

    def make_directory(self) -> Identity:
        """Make a directory that is closed to others for now, or take the one that is there.

        Raises OSError: FileExistsError for a file, ELOOP for a link, also one to a directory.
        """
        if self.path:
            folder = self.folder()
            try:
                os.mkdir(self.name, 0o700, dir_fd=folder)
            except FileExistsError as error:
                kind = os.stat(self.name, dir_fd=folder, follow_symlinks=False).st_mode
                if stat.S_ISLNK(kind):
                    text = "a symbolic link of that name exists; remove it, or copy to its target"
                    raise OSError(errno.ELOOP, text, str(self)) from error
                if not stat.S_ISDIR(kind):
                    raise FileExistsError(
                        errno.EEXIST, os.strerror(errno.EEXIST), str(self)
                    ) from error
            except OSError as error:
                error.filename = str(self)
                raise
        return Identity.of(os.fstat(self.tree.descriptor(self.path)))
