"""Datastores that are mounted here: `--datastore NAME=DIR`."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.backends.base import BackendRefused
from vmount.backends.local_file import LocalFile
from vmount.datastores.base import DirectFile

if TYPE_CHECKING:
    from vmount.datastores.path import DatastorePath
    from vmount.runtime import Runtime

SECTOR = 512


class FolderBackend:
    """A DatastoreBackend made of folders of this machine, by the names of their datastores."""

    def __init__(self, folders: Mapping[str, Path], runtime: Runtime) -> None:
        self._folders = folders
        self._runtime = runtime

    async def open(self, path: DatastorePath) -> DirectFile:
        """Open a file. Symbolic links are followed as far as they stay in the folder."""
        folder = self._folders.get(path.datastore)
        if folder is None:
            raise BackendRefused(
                f"datastore {path.datastore!r} is not mounted here; give its folder by the option datastore"
            )
        root = folder.resolve()
        real = (root / path.path).resolve()
        if not real.is_relative_to(root):
            raise PermissionError(errno.EACCES, f"points outside {folder}: not opened", str(path))
        if not real.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(real))
        file = LocalFile(real, self._runtime)
        try:
            await file.read(0, min(SECTOR, file.size))
        except BaseException:
            file.close()
            raise

        async def close() -> None:
            file.close()

        return DirectFile(file, close)

    async def aclose(self) -> None:
        """Do nothing: the files share nothing."""
