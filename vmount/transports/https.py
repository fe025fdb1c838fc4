"""The transport `https`: /folder of the vCenter or ESXi host, within the session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.datastores.path import folder_url
from vmount.transports.base import NO_FILES, ReadyVm, TransportMode
from vmount.transports.datastore import DatastoreTransport
from vmount.vsphere.privileges import BROWSE_DATASTORE, FILE_MANAGEMENT

if TYPE_CHECKING:
    from vmount.vsphere.secret import Secret


def https_transport(machine: ReadyVm) -> DatastoreTransport:
    """Return the transport for a VM."""
    # Imported here: an HTTP client takes longer to load than the rest.
    from vmount.backends.https.client import HttpsClient
    from vmount.datastores.web import WebBackend

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
    backend = WebBackend(
        client,
        lambda path: folder_url(base, path, machine.datacenter, via_vcenter=session.is_vcenter),
    )
    return DatastoreTransport("https", backend, machine)


def _header(cookie: Secret) -> dict[str, str]:
    return {"Cookie": cookie.reveal()}


MODES = (
    TransportMode(
        name="https",
        needs="the vCenter or host, port 443",
        remarks="no vSAN, no vVols; descriptors, extents and deltas are read and put together here",
        open=https_transport,
        privileges=(BROWSE_DATASTORE, FILE_MANAGEMENT),
        closed_to=NO_FILES,
    ),
)
