"""Transports that read the files of datastores and put the chain together themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.backends.https.client import HttpsClient
from vmount.datastores.disk import DatastoreReading, open_datastore_disk
from vmount.datastores.folder import FolderPlace
from vmount.datastores.path import folder_url
from vmount.datastores.san import SanPlace
from vmount.datastores.web import WebPlace

if TYPE_CHECKING:
    from vmount.datastores.places import DatastorePlace
    from vmount.disks.disk import OpenedDisk
    from vmount.transports.base import Machine
    from vmount.transports.negotiate import WantedDisk
    from vmount.vsphere.secret import Secret


class DatastoreTransport:
    """Opens disks at a place that has the files of datastores."""

    def __init__(self, name: str, place: DatastorePlace, machine: Machine) -> None:
        self.name = name
        self._place = place
        self._nursery = machine.nursery
        options = machine.options
        self._reading = DatastoreReading(options.remote.https_cache, options.force, machine.volumes)

    async def open(self, wanted: WantedDisk) -> OpenedDisk:
        """Open a disk by its descriptor. Raises OSError, ParseError."""
        return await open_datastore_disk(self._place, wanted.file, self._nursery, self._reading)

    async def aclose(self) -> None:
        """Let go of the place."""
        await self._place.aclose()


def file_transport(machine: Machine) -> DatastoreTransport:
    """Return the transport through datastores that are mounted here."""
    place = FolderPlace(machine.options.datastores, machine.runtime)
    return DatastoreTransport("file", place, machine)


def san_transport(machine: Machine) -> DatastoreTransport:
    """Return the transport through the LUNs of datastores that this machine sees."""
    options = machine.options
    place = SanPlace(options.luns, machine.nursery, options.remote.direct, machine.volumes)
    return DatastoreTransport("san", place, machine)


def https_transport(machine: Machine) -> DatastoreTransport:
    """Return the transport through /folder of the vCenter or host, within the session."""
    session = machine.session
    cookie = session.cookie()

    async def renew() -> dict[str, str]:
        nonlocal cookie
        cookie = await session.renewed_cookie(cookie)
        return _header(cookie)

    client = HttpsClient(
        headers=_header(cookie),
        renew=renew,
        ssl_context=session.ssl_context,
        options=machine.options.remote.https,
    )
    base = f"https://{session.settings.address}"
    place = WebPlace(
        client,
        lambda path: folder_url(base, path, machine.datacenter, via_vcenter=session.is_vcenter),
    )
    return DatastoreTransport("https", place, machine)


def _header(cookie: Secret) -> dict[str, str]:
    return {"Cookie": cookie.reveal()}
