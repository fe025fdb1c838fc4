"""What can be scanned: a disk set, or a folder of this machine, a mount for one."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from parsers.model import Attrs
from vmount.api import FileRef

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator, Sequence

    from parsers.reader import Span
    from vmount.api import DiskSet


T = TypeVar("T")


class ScannedDisks:
    """The volumes of a disk set."""

    def __init__(self, disks: DiskSet) -> None:
        self._disks = disks
        self.open_files = disks.open_files
        self.places = disks.places
        self.soon = disks.soon
        self.streams = disks.streams

    def files(self, path: str, on_error: Callable[[OSError], None]) -> Iterator[FileRef]:
        """Yield every regular file at or below a path."""
        return self._disks.files(path, on_error)

    def folder(self) -> str:
        """Mount the volumes that have files."""
        mounted = [
            handle.mount()
            for handle in self._disks.volume_handles()
            if handle.volume.filesystem is not None
        ]
        return str(mounted[0].parent.parent) if mounted else os.sep


class ScannedFolder:
    """A folder. Other file systems mounted in it are scanned too."""

    def __init__(self, top: Path) -> None:
        self._top = top

    def files(self, path: str, on_error: Callable[[OSError], None]) -> Iterator[FileRef]:
        """Yield every regular file at or below a path."""
        start = self._top / path
        if not stat.S_ISDIR(start.lstat().st_mode):
            yield self._ref(start)
            return
        for here, _, names in os.walk(start, onerror=on_error):
            for name in names:
                full = Path(here, name)
                try:
                    if stat.S_ISREG(full.lstat().st_mode):
                        yield self._ref(full)
                except OSError as error:
                    on_error(error)

    def open_files(self, files: Sequence[FileRef]) -> list[io.FileIO | OSError]:
        """Open files."""
        opened: list[io.FileIO | OSError] = []
        for file in files:
            try:
                opened.append((self._top / file.path).open("rb", buffering=0))
            except OSError as error:
                opened.append(error)
        return opened

    def soon(self, call: Callable[[], T]) -> Callable[[], T]:
        """Return the call itself."""
        return call

    def places(self, files: Sequence[FileRef]) -> list[tuple[Span, ...]]:
        """Return nothing: the order of the names is all that is known."""
        return [()] * len(files)

    def streams(self, _files: Sequence[FileRef]) -> list[FileRef]:
        """Return nothing: what is shown is all there is."""
        return []

    def folder(self) -> str:
        """Return the folder itself."""
        return str(self._top)

    def _ref(self, path: Path) -> FileRef:
        status = path.lstat()
        attrs = Attrs(
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
        number = status.st_dev << 64 | status.st_ino
        return FileRef(str(path.relative_to(self._top)), number, attrs)
