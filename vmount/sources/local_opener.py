"""The files of a machine in folders of this host: opening VMDKs, their extents and parents by name."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.backends.local_file import LocalFile
from vmount.parsers.vmdk.opener import OpenedFile, candidates

if TYPE_CHECKING:
    from contextlib import ExitStack

    from vmount.runtime import Runtime


class LocalFileOpener:
    """Opens what descriptors name. The files are closed by the stack that was given.

    A descriptor from elsewhere may name any file of this host, to have it shown as a disk: outside the
    descriptor's own folder only files called .vmdk are opened.
    """

    def __init__(self, runtime: Runtime, stack: ExitStack) -> None:
        self._runtime = runtime
        self._stack = stack

    async def open(self, name: str, near: str | None) -> OpenedFile:
        """Open the file that a descriptor calls `name`, itself the file `near`.

        Raises FileNotFoundError or PermissionError naming it, or the OSError of the first candidate that
        is there.
        """
        places = candidates(name, near)
        for candidate in places:
            path = Path(candidate)
            if path.exists():
                if near is not None:
                    check_reach(path, Path(near))
                source = LocalFile(path, self._runtime)
                self._stack.callback(source.close)
                return OpenedFile(str(path), source)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), places[0])


def check_reach(path: Path, near: Path) -> None:
    """Raise PermissionError if the file `near`, which names `path`, must not have it opened."""
    real = path.resolve()
    if real.suffix.lower() != ".vmdk" and real.parent != near.resolve().parent:
        raise PermissionError(
            errno.EACCES,
            f"named by {near}, but outside its folder and without the suffix .vmdk: not opened",
            str(path),
        )
