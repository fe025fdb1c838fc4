"""The status of a mount: .vmount/status.json, written and read."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmount import __version__
from vmount.mounting.apart import apart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.disk_set import OpenDiskSet
    from vmount.mounting.volume_mounts import FrontEnd


class Statistics:
    """What .vmount/status.json says."""

    def __init__(self, top: str, sources: Sequence[str], manager: OpenDiskSet) -> None:
        """`top` is where the tree is shown; `sources` are named as all users may see them."""
        self.front_end: FrontEnd | None = None
        self._top = top
        self._sources = tuple(sources)
        self._manager = manager
        self._began = time.time()

    def now(self) -> dict[str, Any]:
        """Return the state of the mount. Sizes in bytes."""
        front_end = self.front_end
        return {
            "version": __version__,
            "pid": os.getpid(),
            "mountpoint": self._top,
            "sources": list(self._sources),
            "uptime_seconds": round(time.time() - self._began, 3),
            "open_files": 0 if front_end is None else front_end.open_files,
            "bytes_read": 0 if front_end is None else front_end.bytes_read,
            "disks": {
                disk.name: disk.remote.stats()
                for disk in self._manager.disks
                if disk.remote is not None
            },
        }


def read_status(mountpoint: str) -> dict[str, Any]:
    """Return what a running mount says of itself.

    Raises OSError if it does not answer: PermissionError if only another user may ask, TimeoutError.
    """
    path = Path(mountpoint) / ".vmount" / "status.json"
    values: dict[str, Any] = json.loads(apart(path.read_bytes))
    return values
