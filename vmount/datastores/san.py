"""Datastores read from their LUNs, which this machine sees as block devices."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import trio

from vmount.backends.base import BackendError
from vmount.backends.san_file import LunRun, open_san_file
from vmount.blocks.slices import Piece, Scattered
from vmount.datastores.base import DistantFile
from vmount.datastores.luns import Lun, Rejected, check_told_apart, close_all, find_luns
from vmount.disks.remote import statistics
from vmount.parsers.errors import ParseError
from vmount.parsers.vmfs.filesystem import Vmfs, open_vmfs

if TYPE_CHECKING:
    from vmount.backends.block_device import DirectOptions
    from vmount.datastores.lun_choice import LunChoice
    from vmount.datastores.path import DatastorePath


class Datastore:
    """An open datastore."""

    def __init__(self, filesystem: Vmfs, luns: Sequence[Lun]) -> None:
        self.filesystem = filesystem
        self.luns = luns
        """In the order of the file system's devices."""

    @property
    def names(self) -> tuple[str, ...]:
        """The label, and what ESXi calls the volume."""
        info = self.filesystem.info
        return (info.label, info.uuid)

    async def open(self, path: str, shown: str) -> DistantFile:
        """Open a file by its path from the root. `shown` names it in errors.

        Raises OSError, ParseError.
        """
        file = await self.filesystem.attrs(self.filesystem.root)
        for name in path.split("/"):
            if not stat.S_ISDIR(file.mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), shown)
            found = await self.filesystem.lookup(file.ino, os.fsencode(name))
            if found is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), shown)
            file = found
        if not stat.S_ISREG(file.mode):
            raise OSError(errno.EINVAL, "not a regular file", shown)
        runs = []
        for offset, length, device, start in await self.filesystem.device_runs(file.ino):
            before = 0 if device is None else self.luns[device].start
            runs.append(LunRun(offset, length, device, before + start))
        transports = [lun.transport for lun in self.luns]
        return DistantFile(await open_san_file(shown, file.size, runs, transports))


class DatastoreBytes(Scattered):
    """The bytes of a datastore's volume, as a BlockSource."""

    def __init__(self, store: Datastore) -> None:
        self._volume = store.filesystem.volume
        super().__init__([lun.source for lun in store.luns], self._volume.size)

    def pieces(self, offset: int, length: int) -> list[Piece]:
        """Say where the bytes of a range are, in order."""
        return [
            Piece(device, start, count)
            for _, count, device, start in self._volume.locate(offset, length)
        ]


class OpenLuns:
    """The LUNs of a datastore that is browsed. A Distant."""

    def __init__(self, luns: Sequence[Lun]) -> None:
        self._luns = luns

    def describe(self) -> dict[str, Any]:
        """Return what a user may want to know of them."""
        return {"luns": [dict(lun.transport.describe()) for lun in self._luns]}

    def stats(self) -> dict[str, Any]:
        """Return the counters of all of them together."""
        return statistics([(lun.cached.stats(), lun.transport.stats()) for lun in self._luns])


class SanBackend:
    """A DatastoreBackend of all datastores whose LUNs this machine sees. They are looked for at first use."""

    def __init__(
        self,
        choice: LunChoice,
        nursery: trio.Nursery,
        options: DirectOptions,
        volumes: Mapping[str, str] | None = None,
    ) -> None:
        """`volumes`: names of datastores by what an ESXi host calls their volumes."""
        self._choice = choice
        self._nursery = nursery
        self._options = options
        self._volumes = volumes or {}
        self._luns: list[Lun] | None = None
        self._rejected: list[Rejected] = []
        self._stores: dict[str, Datastore] = {}
        """By the UUID of the volume."""
        self._looking = trio.Lock()

    async def open(self, path: DatastorePath) -> DistantFile:
        """Open a file. Raises OSError; of each LUN that has a part of it, a sector has been read."""
        store = await self.store(path.datastore)
        try:
            return await store.open(path.path, str(path))
        except ParseError as error:
            raise BackendError(f"{path}: {error}") from error

    async def store(self, name: str) -> Datastore:
        """Return the datastore of a name or UUID; "": the only one there is. Raises OSError."""
        async with self._looking:
            problems = await self._look()
        found = [
            store
            for store in self._stores.values()
            if not name or name in store.names or self._named(store) == name
        ]
        if len(found) == 1:
            return found[0]
        known = ", ".join(sorted(repr(store.names[0]) for store in self._stores.values()))
        if found:
            raise BackendError(
                f"several datastores{f' are called {name!r}' if name else ''}: {known};"
                " choose one, or its LUNs by the option lun"
            )
        what = (
            f"no LUN of datastore {name!r} can be read here"
            if name
            else "no LUN of a datastore found"
        )
        reasons = "; ".join([*problems, *([f"known are {known}"] if known else [])])
        raise BackendError(f"{what}{f' ({reasons})' if reasons else ''}", code=errno.ENODEV)

    async def aclose(self) -> None:
        """Close the LUNs. A second call does nothing."""
        luns, self._luns = self._luns or [], None
        self._stores.clear()
        await close_all(luns)

    def _named(self, store: Datastore) -> str | None:
        """Return what vCenter calls a datastore, whose label may be an old name."""
        return self._volumes.get(store.filesystem.info.uuid)

    async def _look(self) -> list[str]:
        """Open all datastores, once; return why others cannot be."""
        if self._luns is None:
            self._luns, self._rejected = await find_luns(self._choice, self._nursery, self._options)
            volumes: dict[str, list[Lun]] = {}
            for lun in self._luns:
                volumes.setdefault(lun.member.volume_uuid, []).append(lun)
            for uuid, luns in volumes.items():
                await self._open_store(uuid, luns)
        return [rejected.reason for rejected in self._rejected]

    async def _open_store(self, uuid: str, luns: list[Lun]) -> None:
        try:
            check_told_apart(luns)
            filesystem = await open_vmfs([lun.source for lun in luns])
        except (BackendError, ParseError) as error:
            self._rejected.append(Rejected(luns[0].device, f"{luns[0].device.path}: {error}"))
        else:
            self._stores[uuid] = Datastore(filesystem, luns)
