"""Datastores read from their LUNs, which this machine sees as block devices."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import trio

from parsers.errors import ParseError
from parsers.model import FileData, Inline, Runs
from parsers.reader import BytesReader
from parsers.vmfs import VmfsFilesystem, open_vmfs
from vmount.datastores.luns import Lun, Rejected, check_told_apart, close_all, find_luns
from vmount.datastores.places import DirectFile, DistantFile
from vmount.transports.base import TransportError
from vmount.transports.san import LunRun, open_san_file

if TYPE_CHECKING:
    from vmount.datastore_path import DatastorePath
    from vmount.datastores.luns import LunChoice
    from vmount.transports.direct import DirectOptions
    from vmount.transports.san import SanFile


class Datastore:
    """An open datastore."""

    def __init__(self, filesystem: VmfsFilesystem, luns: Sequence[Lun]) -> None:
        self.filesystem = filesystem
        self.luns = luns
        """In the order of the file system's devices."""

    @property
    def names(self) -> tuple[str, ...]:
        """The label, and what ESXi calls the volume."""
        info = self.filesystem.info
        return (info.label, info.uuid)

    async def open(self, path: str, shown: str) -> DirectFile | DistantFile:
        """Open a file by its path from the root. `shown` names it in errors.

        Raises OSError, ParseError.
        """
        ino = self.filesystem.root
        mode = stat.S_IFDIR
        for name in path.split("/"):
            if not stat.S_ISDIR(mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), shown)
            found = await self.filesystem.lookup(ino, os.fsencode(name))
            if found is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), shown)
            ino, mode = found.ino, found.mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file", shown)
        data = await self.filesystem.data(ino)
        if isinstance(data.layout, Inline):
            content = data.layout.data[: data.valid] + bytes(data.size - data.valid)
            return DirectFile(BytesReader(content), _nothing_to_close)
        return DistantFile(await self._open(shown, data))

    async def _open(self, shown: str, data: FileData) -> SanFile:
        transports = [lun.transport for lun in self.luns]
        return await open_san_file(shown, data.size, self._runs(data), transports)

    def _runs(self, data: FileData) -> list[LunRun]:
        """Return where a file is on the LUNs."""
        assert isinstance(data.layout, Runs), "VMFS packs no files"
        runs: list[LunRun] = []
        for run in data.layout.runs:
            length = min(run.length, data.valid - run.offset)
            if length <= 0:
                break
            if run.start is None:
                runs.append(LunRun(run.offset, length, None, 0))
                continue
            position = run.offset
            for piece in self.filesystem.volume.locate(run.start, length):
                start = self.luns[piece.device].start + piece.start
                runs.append(LunRun(position, piece.length, piece.device, start))
                position += piece.length
        end = runs[-1].offset + runs[-1].length if runs else 0
        if end < data.size:
            runs.append(LunRun(end, data.size - end, None, 0))
        return runs


class SanPlace:
    """A DatastorePlace of all datastores whose LUNs this machine sees. They are looked for at first use."""

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

    async def open(self, path: DatastorePath) -> DirectFile | DistantFile:
        """Open a file. Raises OSError; of each LUN that has a part of it, a sector has been read."""
        store = await self.store(path.datastore)
        try:
            return await store.open(path.path, str(path))
        except ParseError as error:
            raise TransportError(f"{path}: {error}") from error

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
            raise TransportError(
                f"several datastores{f' are called {name!r}' if name else ''}: {known};"
                " name one, or its LUNs with --lun"
            )
        what = f"no LUN of datastore {name!r} can be read here" if name else "no LUN of a datastore"
        reasons = "; ".join([*problems, *([f"there are {known}"] if known else [])])
        raise TransportError(f"{what}{f' ({reasons})' if reasons else ''}", code=errno.ENODEV)

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
                volumes.setdefault(lun.vmfs.volume.uuid, []).append(lun)
            for uuid, luns in volumes.items():
                await self._open_store(uuid, luns)
        return [rejected.reason for rejected in self._rejected]

    async def _open_store(self, uuid: str, luns: list[Lun]) -> None:
        try:
            check_told_apart(luns)
            filesystem = await open_vmfs([lun.source for lun in luns])
        except (TransportError, ParseError) as error:
            self._rejected.append(Rejected(luns[0].device, f"{luns[0].device.path}: {error}"))
        else:
            self._stores[uuid] = Datastore(filesystem, luns)


async def _nothing_to_close() -> None:
    """Do nothing: the bytes are in memory."""
