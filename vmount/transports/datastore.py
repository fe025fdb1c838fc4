"""What the transports file, san and https share: they read the files of a datastore and put the chain together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.datastores.disk import DatastoreReading, open_datastore_disk

if TYPE_CHECKING:
    from vmount.datastores.base import DatastoreBackend
    from vmount.disks.disk import OpenedDisk
    from vmount.transports.base import ReadyVm, WantedDisk


class DatastoreTransport:
    """Opens disks at a backend that has the files of datastores."""

    def __init__(self, name: str, backend: DatastoreBackend, machine: ReadyVm) -> None:
        self.name = name
        self._backend = backend
        self._nursery = machine.nursery
        options = machine.options
        self._reading = DatastoreReading(options.remote.https_cache, options.force, machine.volumes)

    async def open(self, wanted: WantedDisk) -> OpenedDisk:
        """Open a disk by its descriptor. Raises OSError, ParseError."""
        return await open_datastore_disk(self._backend, wanted.file, self._nursery, self._reading)

    async def aclose(self) -> None:
        """Let go of the backend."""
        await self._backend.aclose()
