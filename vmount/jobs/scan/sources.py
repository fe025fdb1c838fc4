"""A disk set as what is to be scanned."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vmount.api import DiskSet, FileRef


class ScannedDisks:
    """The volumes of a disk set."""

    def __init__(self, disks: DiskSet) -> None:
        self._disks = disks
        self.expand = disks.expand
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
