"""The files of a disk in datastores: opening what descriptors name, wherever that can be read.

Strategy: descriptors and other small files are read whole, at once. Each large distant file has a cache of
its own lines; all files of a disk share one bound of memory. Names in descriptors are relative to the
folder of the descriptor, "[datastore] folder/file", or the absolute ones of an ESXi host,
/vmfs/volumes/VOLUME/folder/file, where VOLUME is a datastore's name or UUID.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from vmount.cache import CacheBudget, CachedDisk, CacheOptions
from vmount.datastores.base import DatastoreBackend, DirectFile
from vmount.datastores.path import DatastorePath, DatastorePathError
from vmount.parsers.reader import Buffer, BytesReader
from vmount.parsers.vmdk.opener import OpenedFile, candidates

if TYPE_CHECKING:
    import trio

    from vmount.backends.base import Backend

SMALL = 64 << 10
"""Bytes of a file that is read whole: descriptors are a few hundred long."""
VOLUMES = "/vmfs/volumes/"
"""Where an ESXi host has its datastores."""


class DatastoreOpener:
    """A FileOpener over a backend. Close it when the disk is no longer read."""

    def __init__(
        self,
        backend: DatastoreBackend,
        nursery: trio.Nursery | None,
        cache: CacheOptions,
        volumes: Mapping[str, str] | None = None,
    ) -> None:
        """`volumes`: names of datastores by what an ESXi host calls their volumes.

        Fetches of distant files run in `nursery`.
        """
        self._backend = backend
        self._nursery = nursery
        self._cache = cache
        self._budget = CacheBudget(cache.capacity)
        self._volumes = volumes or {}
        self._stack = AsyncExitStack()
        self._paths: dict[str, DatastorePath] = {}
        """By the names given out: text alone does not always tell where a datastore's name ends."""
        self.distant: list[tuple[str, Backend, CachedDisk]] = []
        """The large distant files: name, transport, cache."""

    def name_of(self, path: DatastorePath) -> str:
        """Return the name by which `open` knows a file."""
        self._paths[str(path)] = path
        return str(path)

    async def open(self, name: str, near: str | None) -> OpenedFile:
        """Open the file that a descriptor calls `name`, itself the file `near`.

        A descriptor may name files in its own folder; elsewhere only those called .vmdk. Raises OSError.
        """
        first: OSError | None = None
        for path in self._places_of(name, near):
            try:
                return await self._open(path)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
                first = first or error
        if first is not None:
            raise first
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)

    async def aclose(self) -> None:
        """Close all files. A second call does nothing."""
        for _, _, cached in self.distant:
            cached.close()
        await self._stack.aclose()

    def _places_of(self, name: str, near: str | None) -> Sequence[DatastorePath]:
        """Return where to look, best first."""
        if near is None:
            return [self._paths.get(name) or DatastorePath.parse(name)]
        above = self._paths[near]
        found = dict.fromkeys(_guesses(name, above, self._volumes))
        reachable = [
            path
            for path in found
            if path.path.lower().endswith(".vmdk")
            or (path.datastore, path.folder) == (above.datastore, above.folder)
        ]
        if found and not reachable:
            raise PermissionError(
                errno.EACCES,
                f"named by {near}, but outside its folder and without the suffix .vmdk: not opened",
                name,
            )
        return reachable

    async def _open(self, path: DatastorePath) -> OpenedFile:
        opened = await self._backend.open(path)
        name = self.name_of(path)
        if isinstance(opened, DirectFile):
            self._stack.push_async_callback(opened.aclose)
            return OpenedFile(name, opened.source)
        transport = opened.transport
        if transport.size <= SMALL:
            try:
                data: Buffer = opened.head
                if len(data) < transport.size:
                    data = await transport.read(0, transport.size)
            finally:
                await transport.aclose()
            return OpenedFile(name, BytesReader(bytes(data)))
        self._stack.push_async_callback(transport.aclose)
        assert self._nursery is not None, "a distant file needs an event loop"
        cached = CachedDisk(transport, self._nursery, self._cache, self._budget)
        cached.preload(opened.head)
        self.distant.append((name, transport, cached))
        return OpenedFile(name, cached)


def _guesses(
    name: str, above: DatastorePath, volumes: Mapping[str, str]
) -> Iterator[DatastorePath]:
    if name.startswith(VOLUMES):
        volume, _, rest = name.removeprefix(VOLUMES).partition("/")
        yield from _within(volumes.get(volume, volume), rest)
    # "./": a file at the datastore's root has a folder, too, and its name may begin with a bracket.
    for candidate in candidates(name, f"./{above.path}"):
        if not candidate.startswith("/"):
            yield from _within(above.datastore, candidate)
    # Last: "[a] b.vmdk" is the name of a file more often than a backend.
    with suppress(DatastorePathError):
        yield DatastorePath.parse(name)


def _within(datastore: str, path: str) -> Iterator[DatastorePath]:
    """Yield the path unless it leaves the datastore."""
    with suppress(DatastorePathError):
        yield DatastorePath(datastore, posixpath.normpath(path))
