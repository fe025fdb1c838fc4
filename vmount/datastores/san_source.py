"""Sources on LUNs without a vCenter: `san:/dev/sdb,/dev/sdc:[datastore] folder/file`."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vmount.datastores.disk import DatastoreReading, open_datastore_disk
from vmount.datastores.machine import read_machine
from vmount.datastores.path import DatastorePath, DatastorePathError
from vmount.datastores.san import DatastoreBytes, OpenLuns, SanPlace
from vmount.disks.disk import Disk, disk_of, path_component, unique_name
from vmount.disks.remote import SAN
from vmount.errors import SourceError, UsageError, explain
from vmount.parsers.errors import ParseError

if TYPE_CHECKING:
    import trio

    from vmount.datastores.lun_choice import LunChoice
    from vmount.disks.remote import RemoteOptions

FORM = (
    "the form is san:/dev/sdb[,/dev/sdc]:'[datastore] folder/disk.vmdk', or san:/dev/sdb: to browse"
)


@dataclass(frozen=True)
class SanAddress:
    """What such a source names."""

    luns: tuple[str, ...]
    """Paths of devices; empty: they are to be looked for."""
    path: DatastorePath | None
    """A disk or a .vmx; None: the datastore itself."""


def parse_san(source: str) -> SanAddress:
    """Take a source apart. Raises UsageError."""
    text = source.removeprefix(SAN)
    devices, bracket, rest = text.partition("[")
    if bracket and devices and not devices.endswith(":"):
        raise UsageError(f"{source}: no colon before the datastore", remedy=FORM)
    luns = tuple(name for name in devices.removesuffix(":").split(",") if name)
    if not bracket:
        if not luns:
            raise UsageError(f"{source}: names neither a device nor a datastore", remedy=FORM)
        return SanAddress(luns, None)
    try:
        return SanAddress(luns, DatastorePath.parse(bracket + rest))
    except DatastorePathError as error:
        raise UsageError(f"{source}: {error}", remedy=FORM) from error


class OpenSan:
    """What a source on LUNs has opened. Made by `open`, ended by `aclose`."""

    def __init__(self, choice: LunChoice, nursery: trio.Nursery, options: RemoteOptions) -> None:
        self.disks: list[Disk] = []
        self._nursery = nursery
        self._options = options
        self._stack = AsyncExitStack()
        self._place = SanPlace(choice, nursery, options.direct)
        self._stack.push_async_callback(self._place.aclose)

    @classmethod
    async def open(
        cls,
        source: str,
        choice: LunChoice,
        nursery: trio.Nursery,
        options: RemoteOptions,
        taken: set[str],
        *,
        force: bool,
    ) -> OpenSan:
        """Open what a source names; the names of disks are added to `taken`.

        Raises UsageError, SourceError, OSError, ParseError; then nothing stays open.
        """
        address = parse_san(source)
        if address.luns:
            choice = replace(choice, given=address.luns)
        opened = cls(choice, nursery, options)
        try:
            await opened._open(source, address, taken, force=force)
        except BaseException:
            await opened.aclose()
            raise
        return opened

    async def aclose(self) -> None:
        """Close disks, files and LUNs. A second call does nothing."""
        await self._stack.aclose()

    async def _open(
        self, source: str, address: SanAddress, taken: set[str], *, force: bool
    ) -> None:
        path = address.path
        if path is None:
            self.disks.append(await self._browse(source, taken))
            return
        reading = DatastoreReading(self._options.cache, force)
        if not path.path.lower().endswith(".vmx"):
            name = unique_name(f"disk{len(taken)}", taken)
            self.disks.append(await self._open_disk(name, str(path), path, reading, raw=True))
            return
        for disk in await read_machine(self._place, path, self._nursery, reading.cache):
            name = unique_name(path_component(disk.name), taken)
            try:
                file = DatastorePath.parse(disk.file)
                self.disks.append(await self._open_disk(name, disk.shown, file, reading))
            except (OSError, ParseError, DatastorePathError) as error:
                problem = explain(error) if isinstance(error, OSError) else str(error)
                self.disks.append(Disk(name, disk.shown, "unknown", None, problem=problem))
        if all(disk.data is None for disk in self.disks):
            raise SourceError("; ".join(disk.problem or "" for disk in self.disks))

    async def _browse(self, source: str, taken: set[str]) -> Disk:
        """Return the datastore as a disk, for its files to be looked at."""
        store = await self._place.store("")
        label, uuid = store.names
        return Disk(
            unique_name(path_component(label or uuid), taken),
            source,
            "vmfs",
            DatastoreBytes(store),
            transport="san",
            remote=OpenLuns(store.luns),
            filesystem=store.filesystem,
        )

    async def _open_disk(
        self,
        name: str,
        shown: str,
        file: DatastorePath,
        reading: DatastoreReading,
        *,
        raw: bool = False,
    ) -> Disk:
        opened = await open_datastore_disk(self._place, file, self._nursery, reading, raw=raw)
        self._stack.push_async_callback(opened.aclose)
        return disk_of(name, shown, "san", opened)
