"""The disks of a source on LUNs: a datastore, a disk in one, or all disks of a .vmx in one."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from vmount.datastores.disk import DatastoreReading, open_datastore_disk
from vmount.datastores.machine import read_machine
from vmount.datastores.path import DatastorePath, DatastorePathError
from vmount.datastores.san import DatastoreBytes, OpenLuns, SanBackend
from vmount.disks.disk import Disk, disk_of, path_component, unique_name
from vmount.errors import SourceError, explain
from vmount.parsers.errors import ParseError

if TYPE_CHECKING:
    from vmount.datastores.lun_choice import LunChoice
    from vmount.sources.base import Opening
    from vmount.sources.san_address import SanAddress


class LunDisks:
    """What a source on LUNs opens its disks with; all of it is closed by `opening.stack`."""

    def __init__(self, choice: LunChoice, opening: Opening) -> None:
        self._opening = opening
        self._options = opening.options.remote
        self._backend = SanBackend(choice, opening.nursery, self._options.direct)

    async def open(self, source: str, address: SanAddress) -> list[Disk]:
        """Open what a source names. Raises SourceError, OSError, ParseError; then nothing stays open."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._backend.aclose)
            disks = await self._disks(source, address, stack)
            self._opening.stack.push_async_callback(stack.pop_all().aclose)
            return disks
        raise AssertionError("not reached")

    async def _disks(self, source: str, address: SanAddress, stack: AsyncExitStack) -> list[Disk]:
        path, names = address.path, self._opening.names
        if path is None:
            return [await self._browse(source)]
        if not path.datastore:
            label, uuid = (await self._backend.store("")).names
            path = replace(path, datastore=label or uuid)
        reading = DatastoreReading(self._options.cache, self._opening.options.force)
        if not path.path.lower().endswith(".vmx"):
            name = self._opening.next_name()
            return [await self._open_disk(stack, name, str(path), path, reading, raw=True)]
        disks: list[Disk] = []
        found = await read_machine(self._backend, path, self._opening.nursery, reading.cache)
        for disk in self._opening.options.disks.of(source, found, lambda disk: disk.name):
            name = unique_name(path_component(disk.name), names)
            try:
                file = DatastorePath.parse(disk.file)
                disks.append(await self._open_disk(stack, name, disk.shown, file, reading))
            except (OSError, ParseError, DatastorePathError) as error:
                problem = explain(error) if isinstance(error, OSError) else str(error)
                disks.append(Disk(name, disk.shown, "unknown", None, problem=problem))
        if all(disk.data is None for disk in disks):
            raise SourceError("; ".join(disk.problem or "" for disk in disks))
        return disks

    async def _browse(self, source: str) -> Disk:
        """Return the datastore as a disk, for its files to be looked at."""
        store = await self._backend.store("")
        label, uuid = store.names
        return Disk(
            unique_name(path_component(label or uuid), self._opening.names),
            source,
            "vmfs",
            DatastoreBytes(store),
            transport="san",
            remote=OpenLuns(store.luns),
            filesystem=store.filesystem,
        )

    async def _open_disk(
        self,
        stack: AsyncExitStack,
        name: str,
        shown: str,
        file: DatastorePath,
        reading: DatastoreReading,
        *,
        raw: bool = False,
    ) -> Disk:
        opened = await open_datastore_disk(
            self._backend, file, self._opening.nursery, reading, raw=raw
        )
        stack.push_async_callback(opened.aclose)
        return disk_of(name, shown, "san", opened)
