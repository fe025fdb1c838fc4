"""A disk set as what is to be scanned."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vmount.api import DiskSet, FileRef
    from vmount.jobs.scan.helper import EngineHelper
    from vmount.volumes.find import Volume
    from vmount.volumes.unread import Unread


class ScannedDisks:
    """The volumes of a disk set."""

    def __init__(self, disks: DiskSet, helper: EngineHelper | None = None) -> None:
        """`helper` mounts for a process that may not."""
        self._disks = disks
        self._helper = helper
        self._top: Path | None = None
        self.expand = disks.expand
        self.open_files = disks.open_files
        self.places = disks.places
        self.soon = disks.soon
        self.streams = disks.streams

    @property
    def volumes(self) -> Sequence[Volume]:
        """The volumes, disk by disk."""
        return self._disks.volumes

    @property
    def unread(self) -> Sequence[Unread]:
        """The disks and volumes that cannot be read."""
        return self._disks.unread

    def below(self, path: str, on_error: Callable[[OSError], None]) -> Iterator[FileRef]:
        """Yield what of the volumes is at or below a path. The block files beside them hold it once more."""
        for file in self._disks.below(path, on_error):
            if self._disks.is_on_volume(file):
                yield file

    def place_of(self, file: FileRef) -> str:
        """Return the path of a file in a mount of the volumes, which is made for this."""
        top = self._top = self._top or self._mounted()
        # "volumes/" may be left out of a path here, and not there.
        for place in (top / file.path.lstrip("/"), top / "volumes" / file.path.lstrip("/")):
            try:
                status = place.lstat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            if status.st_size == file.attrs.size:
                return str(place)
        raise FileNotFoundError(errno.ENOENT, "the scanner's mount does not contain it", file.path)

    def _mounted(self) -> Path:
        """Mount the volumes that have files; return the mount point."""
        handles = [
            handle
            for handle in self._disks.volume_handles()
            if handle.volume.filesystem is not None
        ]
        if self._helper is not None:
            machines = self._disks.info()["machines"]
            return self._helper.mount(machines, [handle.name for handle in handles])
        mounted = [handle.mount() for handle in handles]
        return mounted[0].parent.parent if mounted else Path(os.sep)
