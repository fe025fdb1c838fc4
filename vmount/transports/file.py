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
        needs="the datastore mounted here, for example by NFS, and named: `--datastore NAME=DIR`",
        remarks="tried first where `--datastore` is given, and only there",
        open=file_transport,
        by_default=False,
    ),
)
