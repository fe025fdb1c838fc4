"""A local folder, such as a mount, as a file source: what copying and scanning need."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vmount.api import Entry, FileRef, spelling
from vmount.api.file_reader import SmallFile
from vmount.disks.disk import path_component
from vmount.errors import ListingError
from vmount.parsers.model import VOLUME_SHIFT, Attrs
from vmount.parsers.reader import Span
from vmount.volumes.unread import DISK, VOLUME, Unread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vmount.volumes.find import Volume

T = TypeVar("T")

STREAM_PREFIX = "user."
"""Of the extended attributes in which a mount of NTFS has the alternate streams."""

UNLISTED = ("system.ntfs_acl", "system.ntfs_attrib", "system.ntfs_crtime")
"""Attributes that a mount of NTFS, by vmount or ntfs-3g, gives only when asked, and a restore should have."""
OF_NTFS = "system.ntfs_attrib"
"""An extended attribute that every file of a mount of NTFS has: vmount's and ntfs-3g's."""


class FolderFile(io.FileIO):
    """An open file. Its descriptor may be passed on."""

    def spans(self) -> Sequence[Span]:
        """Return the parts that may hold something else than zeros: a FUSE mount does not tell."""
        size = os.fstat(self.fileno()).st_size
        return [Span(0, size)] if size else []


class FolderSet:
    """The files of a folder. Paths are below it. Making one raises OSError."""

    volumes: tuple[Volume, ...] = ()

    def __init__(self, top: Path) -> None:
        self._top = top
        self._has_streams: dict[int, bool] = {}
        self.unread = self._find_unread()
        """The disks and volumes that cannot be read, where this is a mount of vmount, or a part of one.

        Volumes that are dismounted at present are among them. Found out here: a process that is confined to
        the folder may not look at what is above it.
        """

    def _find_unread(self) -> tuple[Unread, ...]:
        top = mount_of(self._top)
        if top is None:
            return ()
        info = _info_of(top)
        found = [Unread(item["kind"], item["path"], item["reason"]) for item in info["unread"]]
        shown = [volume["tree"] for volume in info["volumes"] if volume["tree"] is not None]
        found += [
            Unread(VOLUME, tree, "not mounted")
            for tree in shown
            if not (top / "volumes" / path_component(tree.removeprefix("volumes/"))).is_dir()
        ]
        here = self._top.relative_to(top).parts
        return tuple(
            item._replace(path="/".join(parts[len(here) :]))
            if here and (parts := item.path.split("/"))[: len(here)] == list(here)
            else item
            for item in found
            if not here or _is_below(item, here)
        )

    def expand(self, text: str) -> list[str]:
        """Return the paths that a text names; in a mount it may be a path of the guest. Raises OSError."""
        return spelling.expand(self, text)

    def tops(self) -> frozenset[str]:
        """Return the names at the top of a mount; none of another folder."""
        return frozenset(os.listdir(self._top) if is_mount(self._top) else ())  # noqa: PTH208

    def is_caseless(self, path: str) -> bool:
        """Say whether the guest matches names in a directory of a mount without regard to case."""
        first, _, rest = path.strip("/").partition("/")
        if first == "drives":
            return bool(rest)
        return first == "volumes" and rest.partition("/")[0] in self._caseless

    def ignores_case(self, file: FileRef) -> bool:
        """Say whether the guest matches names where a file is without regard to case."""
        return self.is_caseless(file.path)

    def stream_names(self, _path: str) -> list[str]:
        """Return nothing: streams that a mount shows as files have names of their own."""
        return []

    @cached_property
    def _caseless(self) -> frozenset[str]:
        """The volumes of a mount whose names match without regard to case."""
        if not is_mount(self._top):
            return frozenset()
        info = _info_of(self._top)
        return frozenset(
            volume["name"] for volume in info["volumes"] if volume["fstype"] in spelling.CASELESS
        )

    def stat(self, path: str, *, follow: bool = True) -> Attrs:
        """Return a file's attributes. Raises OSError."""
        place = self._place(path)
        return _attrs(place.stat() if follow else place.lstat())

    def listdir(self, path: str) -> list[Entry]:
        """Return what a directory holds. Raises OSError."""
        with os.scandir(self._place(path)) as entries:
            return [Entry(entry.name, _attrs_of(entry)) for entry in entries]

    def number(self, path: str) -> int:
        """Return what tells a file from all others; hard links have one number. Raises OSError."""
        return self._ref(path, self._place(path).lstat()).number

    def open(self, path: str) -> FolderFile:
        """Open a regular file; a link is not followed. Raises OSError."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(self._place(path), flags)
        kind = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(kind):
            os.close(descriptor)
            if stat.S_ISDIR(kind):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            raise OSError(errno.EINVAL, "not a regular file", path)
        return FolderFile(descriptor, "rb")

    def is_on_volume(self, _file: FileRef) -> bool:
        """Return True: a folder is scanned whole."""
        return True

    def readlink(self, path: str) -> str:
        """Return the target of a symbolic link. Raises OSError."""
        return os.readlink(self._place(path))  # noqa: PTH115 (unchanged)

    def below(
        self,
        path: str,
        on_error: Callable[[OSError], None],
        wanted: Callable[[FileRef], bool] | None = None,
        *,
        dangling: bool = True,  # noqa: ARG002 (links are not followed, so each is itself)
    ) -> Iterator[FileRef]:
        """Yield what is at a path, and all below it, but for what is not wanted and all below that.

        Links are not followed. Raises OSError.
        """
        top = path.rstrip("/")
        start = self._ref(top, self._place(path).lstat())
        if wanted is not None and not wanted(start):
            return
        yield start
        pending = [top] if stat.S_ISDIR(start.attrs.mode) else []
        while pending:
            here = pending.pop()
            below = []
            try:
                with os.scandir(self._place(here)) as entries:
                    for entry in entries:
                        where = f"{here}/{entry.name}"
                        try:
                            file = self._ref(where, entry.stat(follow_symlinks=False))
                        except OSError as error:
                            on_error(_named(error, where))
                            continue
                        if wanted is not None and not wanted(file):
                            continue
                        yield file
                        if stat.S_ISDIR(file.attrs.mode):
                            below.append(where)
            except OSError as error:
                on_error(ListingError.of(_named(error, here)))
            pending += reversed(below)

    def open_files(self, files: Sequence[FileRef]) -> list[FolderFile | SmallFile | OSError]:
        """Open files, and alternate streams, which are attributes here."""
        opened: list[FolderFile | SmallFile | OSError] = []
        for file in files:
            try:
                if file.stream:
                    place = self._place(file.path.removesuffix(f":{file.stream}"))
                    value = os.getxattr(place, STREAM_PREFIX + file.stream, follow_symlinks=False)
                    opened.append(SmallFile(value, file.path))
                else:
                    opened.append(FolderFile(self._place(file.path), "rb"))
            except OSError as error:
                opened.append(error)
        return opened

    def xattrs_of(
        self, files: Sequence[FileRef], *, whole: bool = False
    ) -> list[dict[str, bytes | OSError]]:
        """Return the extended attributes of files; an OSError for a value that cannot be had.

        `whole`: with those of NTFS that a mount of it does not list.
        """
        unlisted = list(UNLISTED) if whole else []
        return [_xattrs(self._place(file.path), unlisted) for file in files]

    def streams(
        self, files: Sequence[FileRef], on_error: Callable[[OSError], None]
    ) -> list[FileRef]:
        """Return the alternate streams of files and directories on a mount of NTFS.

        They are attributes there, which Linux gives up to 64 KiB of: a longer one goes to `on_error`.
        """
        found = []
        for file in files:
            place = self._place(file.path)
            if file.stream:
                continue
            try:
                if not self._is_ntfs(file, place):
                    continue
                names = os.listxattr(place, follow_symlinks=False)
            except OSError as error:
                text = f"its alternate streams cannot be read: {error.strerror}"
                on_error(OSError(errno.EIO, text, file.path))
                continue
            for name in names:
                if not name.startswith(STREAM_PREFIX):
                    continue
                stream = name.removeprefix(STREAM_PREFIX)
                where = f"{file.path}:{stream}"
                try:
                    size = len(os.getxattr(place, name, follow_symlinks=False))
                except OSError as error:
                    reason = error.strerror
                    if error.errno in (errno.E2BIG, errno.ERANGE):
                        reason = "an alternate stream of more than 64 KiB: scan the disk, or mount with --streams"
                    on_error(OSError(error.errno, reason, where))
                    continue
                found.append(FileRef(where, file.number, file.attrs._replace(size=size), stream))
        return found

    def _is_ntfs(self, file: FileRef, place: Path) -> bool:
        """Say whether a file is on a mount of NTFS. What one file of a volume says goes for all of it."""
        volume = file.number >> VOLUME_SHIFT
        known = self._has_streams.get(volume)
        if known is None:
            try:
                os.getxattr(place, OF_NTFS, follow_symlinks=False)
                known = True
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.ENODATA):
                    raise
                known = False
            self._has_streams[volume] = known
        return known

    def places(self, files: Sequence[FileRef]) -> list[tuple[Span, ...]]:
        """Return nothing: the order of the names is all that is known."""
        return [()] * len(files)

    def soon(self, call: Callable[[], T]) -> Callable[[], T]:
        """Return the call itself."""
        return call

    def place_of(self, file: FileRef) -> str:
        """Return the path of a file. Raises OSError if it is not there any more."""
        place = self._place(file.path)
        place.lstat()
        return str(place)

    def _place(self, path: str) -> Path:
        return self._top / path.lstrip("/")

    def _ref(self, path: str, status: os.stat_result) -> FileRef:
        return FileRef(path, status.st_dev << 64 | status.st_ino, _attrs(status))


def _named(error: OSError, path: str) -> OSError:
    """Return an error that names a file as the folder's users do."""
    return OSError(error.errno, error.strerror, path)


def is_mount(top: Path) -> bool:
    """Say whether a folder is laid out as a mount."""
    return (top / "info.json").is_file() and (top / "volumes").is_dir()


def mount_of(folder: Path) -> Path | None:
    """Return the mount point of vmount's that a folder is in; None if it is in none."""
    try:
        device = folder.stat().st_dev
        for top in (folder, *folder.parents):
            if top.stat().st_dev != device:
                return None
            if (top / ".vmount/status.json").is_file() and (top / "info.json").is_file():
                return top
    except OSError:
        pass
    return None


def read_beside(folder: Path) -> list[Path]:
    """Return the files outside a folder that are read with it: what a mount tells of itself."""
    top = mount_of(folder.absolute())
    return [] if top is None else [top / "info.json"]


def _info_of(top: Path) -> dict[str, Any]:
    """Return a mount's info.json; one of an older version says nothing of what cannot be read."""
    values: dict[str, Any] = json.loads((top / "info.json").read_bytes())
    return {"unread": [], "volumes": []} | values


def _is_below(item: Unread, here: Sequence[str]) -> bool:
    """Say whether something is missing below a directory of a mount, given by the names of its path."""
    parts = item.path.split("/")
    return parts[: len(here)] == list(here) or (item.kind == DISK and len(here) == 1)


def trees_of(top: Path) -> list[str]:
    """Return the directories of a mount's volumes; of another folder itself.

    The block files beside them hold all of it once more.
    """
    shown = top / "volumes"
    if not is_mount(top):
        return ["."]
    return [f"volumes/{tree.name}" for tree in sorted(shown.iterdir()) if tree.is_dir()]


def _attrs(status: os.stat_result) -> Attrs:
    return Attrs(
        status.st_ino,
        status.st_mode,
        status.st_nlink,
        status.st_uid,
        status.st_gid,
        status.st_size,
        status.st_blocks * 512,
        status.st_rdev,
        status.st_atime_ns,
        status.st_mtime_ns,
        status.st_ctime_ns,
        0,
    )


def _attrs_of(entry: os.DirEntry[str]) -> Attrs | None:
    try:
        return _attrs(entry.stat(follow_symlinks=False))
    except OSError:
        return None


def _xattrs(place: Path, unlisted: Sequence[str]) -> dict[str, bytes | OSError]:
    values: dict[str, bytes | OSError] = {}
    try:
        names = os.listxattr(place, follow_symlinks=False)
    except OSError as error:
        return {} if error.errno == errno.EOPNOTSUPP else {"attributes": error}
    for name in (*names, *unlisted):
        try:
            values[name] = os.getxattr(place, name, follow_symlinks=False)
        except OSError as error:
            if name in names or error.errno not in (errno.EOPNOTSUPP, errno.ENODATA):
                values[name] = error
    return values
