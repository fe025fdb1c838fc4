"""The interface of datastore backends: where the files of datastores are read.

Three kinds of backends are known: /folder of a vCenter or host (web), a folder of this machine where the
datastore is mounted (folder), and the VMFS volumes on its LUNs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vmount.backends.base import Backend
    from vmount.datastores.path import DatastorePath
    from vmount.parsers.reader import BlockSource


@dataclass(frozen=True)
class DirectFile:
    """A file that needs no cache: the kernel, or the backend itself, has one."""

    source: BlockSource
    aclose: Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class DistantFile:
    """A file that is read through a cache."""

    transport: Backend
    head: bytes = b""
    """Its first bytes, if opening has brought them."""


class DatastoreBackend(Protocol):
    """A backend that has the files of one datastore or more."""

    async def open(self, path: DatastorePath) -> DirectFile | DistantFile:
        """Open a file for reading. Its first sector can be read when this returns.

        Raises FileNotFoundError, or another OSError with the code ENOENT, if there is no such file;
        another OSError (BackendError, as a rule) naming the file if it cannot be had from here.
        """
        ...

    async def aclose(self) -> None:
        """Let go of what the files share; they are closed before. A second call does nothing."""
        ...
