"""The transport `san`: VMFS datastores on LUNs that this system sees as block devices."""

from __future__ import annotations

from vmount.datastores.luns import why_no_lun
from vmount.datastores.san import SanBackend
from vmount.transports.base import ReadyVm, TransportMode
from vmount.transports.datastore import DatastoreTransport


def san_transport(machine: ReadyVm) -> DatastoreTransport:
    """Return the transport for a VM."""
    options = machine.options
    backend = SanBackend(options.luns, machine.nursery, options.remote.direct, machine.volumes)
    return DatastoreTransport("san", backend, machine)


MODES = (
    TransportMode(
        name="san",
        needs="the LUNs of the datastore visible here as block devices, and read permission on them "
        "(root, or the group disk)",
        remarks="reads past the page cache (O_DIRECT); see below",
        open=san_transport,
        why_unusable=why_no_lun,
    ),
)
