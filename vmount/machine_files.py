"""The files of a machine in a folder of this host: opening VMDKs, their extents and parents by name."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from parsers.vmdk.disk import OpenedFile, candidate_names

from vmount.transports.file import LocalFile

if TYPE_CHECKING:
    from contextlib import ExitStack

    from vmount.runtime import Runtime


class LocalFileOpener:
    """Opens what descriptors name. The files are closed by the stack that was given."""

    def __init__(self, runtime: Runtime, stack: ExitStack) -> None:
        self._runtime = runtime
        self._stack = stack

    async def open(self, name: str, near: str | None) -> OpenedFile:
        """Open the file that a descriptor calls `name`, itself the file `near`.

        Raises FileNotFoundError naming it, or the OSError of the first candidate that is there.
        """
        for candidate in candidate_names(name, near):
            path = Path(candidate)
            if path.exists():
                source = LocalFile(path, self._runtime)
                self._stack.callback(source.close)
                return OpenedFile(str(path), source)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
