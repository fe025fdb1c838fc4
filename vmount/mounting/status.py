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
    from vmount.disk_set import OpenDiskSet
    from vmount.mounting.config import MountConfig
    from vmount.mounting.fuse_ops import FuseOps


class Statistics:
    """What .vmount/status.json says."""

    def __init__(self, config: MountConfig, manager: OpenDiskSet) -> None:
        self.operations: FuseOps | None = None
        self._config = config
        self._manager = manager
        self._began = time.time()

    def now(self) -> dict[str, Any]:
        """Return the state of the mount. Sizes in bytes."""
        operations = self.operations
        return {
            "version": __version__,
            "pid": os.getpid(),
            "mountpoint": str(self._config.mountpoint),
            "sources": list(self._config.shown_sources),
            "uptime_seconds": round(time.time() - self._began, 3),
            "open_files": 0 if operations is None else operations.open_files,
            "bytes_read": 0 if operations is None else operations.bytes_read,
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
