"""The volumes of a disk set, mounted for a scanner that opens files by their paths."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmount.api import DiskSet, FileRef
    from vmount.jobs.scan.helper import EngineHelper


class ScannerMount:
    """Mounts the volumes of a disk set when the first file is asked for."""

    def __init__(self, disks: DiskSet, helper: EngineHelper | None = None) -> None:
        """`helper` mounts for a process that may not."""
        self._disks = disks
        self._helper = helper
        self._top: Path | None = None

    def place_of(self, file: FileRef) -> str:
        """Return the path of a file in the mount. Raises OSError if the mount does not show it."""
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
