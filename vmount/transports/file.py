"""The transport `file`: datastores that are mounted on this system."""

from __future__ import annotations

from vmount.datastores.folder import FolderBackend
from vmount.transports.base import ReadyVm, TransportMode
from vmount.transports.datastore import DatastoreTransport


def file_transport(machine: ReadyVm) -> DatastoreTransport:
    """Return the transport for a VM."""
    backend = FolderBackend(machine.options.datastores, machine.runtime)
    return DatastoreTransport("file", backend, machine)


MODES = (
    TransportMode(
        name="file",
        needs="the datastore mounted on this system, for example by NFS, and given: `--datastore NAME=DIR`",
        remarks="used only with `--datastore`, and then tried first",
        open=file_transport,
        by_default=False,
    ),
)
