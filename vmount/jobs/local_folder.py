"""A folder of this machine, a mount for one, read as a disk set is: what copying and scanning need of it."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from vmount.api import Entry, FileRef, spelling
from vmount.parsers.model import Attrs
from vmount.parsers.ntfs import RESTORABLE
from vmount.parsers.reader import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")


class FolderFile(io.FileIO):
    """An open file. Its descriptor may be passed on."""

    def spans(self) -> Sequence[Span]:
        """Return the parts that may hold something else than zeros: a FUSE mount does not tell."""
        size = os.fstat(self.fileno()).st_size
        return [Span(0, size)] if size else []


class FolderSet:
    """The files of a folder. Paths are below it."""

    def __init__(self, top: Path) -> None:
        self._top = top

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
        info = json.loads((self._top / "info.json").read_bytes())
        return frozenset(
            volume["name"] for volume in info["volumes"] if volume["fstype"] in spelling.CASELESS
        )

    def stat(self, path: str, *, follow: bool = True) -> Attrs:
        """Return a file's attributes. Raises OSError."""
        place = self._place(path)
        return _attrs(place.stat() if follow else place.lstat())

    def listdir(self, path: str) -> list[Entry]:
        """Return what a directory holds. Raises OSError."""
        return [Entry(name, None) for name in os.listdir(self._place(path))]  # noqa: PTH208

    def readlink(self, path: str) -> str:
        """Return the target of a symbolic link. Raises OSError."""
        return os.readlink(self._place(path))  # noqa: PTH115 (as it is, whatever it holds)

    def files(self, path: str, on_error: Callable[[OSError], None]) -> Iterator[FileRef]:
        """Yield every regular file at or below a path."""
        for file in self.below(path, on_error):
            if stat.S_ISREG(file.attrs.mode):
                yield file

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
                            on_error(error)
                            continue
                        if wanted is not None and not wanted(file):
                            continue
                        yield file
                        if stat.S_ISDIR(file.attrs.mode):
                            below.append(where)
            except OSError as error:
                on_error(error)
            pending += reversed(below)

    def open_files(self, files: Sequence[FileRef]) -> list[FolderFile | OSError]:
        """Open files."""
        opened: list[FolderFile | OSError] = []
        for file in files:
            try:
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
        unlisted = [os.fsdecode(name) for name in RESTORABLE] if whole else []
        return [_xattrs(self._place(file.path), unlisted) for file in files]

    def streams(self, _files: Sequence[FileRef]) -> list[FileRef]:
        """Return nothing: what is shown is all there is."""
        return []

    def places(self, files: Sequence[FileRef]) -> list[tuple[Span, ...]]:
        """Return nothing: the order of the names is all that is known."""
        return [()] * len(files)

    def soon(self, call: Callable[[], T]) -> Callable[[], T]:
        """Return the call itself."""
        return call

    def folder(self) -> str:
        """Return the folder itself."""
        return str(self._top)

    def _place(self, path: str) -> Path:
        return self._top / path.lstrip("/")

    def _ref(self, path: str, status: os.stat_result) -> FileRef:
        return FileRef(path, status.st_dev << 64 | status.st_ino, _attrs(status))


def is_mount(top: Path) -> bool:
    """Say whether a folder is laid out as a mount."""
    return (top / "info.json").is_file() and (top / "volumes").is_dir()


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
