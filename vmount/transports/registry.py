"""Which transports there are, in the order in which they are tried when nobody says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmount.disks.disk import OpenedDisk
    from vmount.transports.base import Machine
    from vmount.transports.negotiate import Transport


def _datastore(name: str, machine: Machine) -> Transport[OpenedDisk]:
    from vmount.transports.datastore import file_transport, https_transport, san_transport

    return {"file": file_transport, "san": san_transport, "https": https_transport}[name](machine)


def _hotadd(machine: Machine) -> Transport[OpenedDisk]:
    from vmount.transports.hotadd import HotAddTransport

    return HotAddTransport(machine)


def _vddk(name: str, machine: Machine) -> Transport[OpenedDisk]:
    from vmount.transports.program import VddkTransport

    return VddkTransport(name, machine)


def _configured(name: str, machine: Machine) -> Transport[OpenedDisk]:
    from vmount.transports.program import ConfiguredTransport

    return ConfiguredTransport(name, machine)


TRANSPORTS: Mapping[str, Callable[[Machine], Transport[OpenedDisk]]] = {
    "file": partial(_datastore, "file"),
    "san": partial(_datastore, "san"),
    "hotadd": _hotadd,
    "nbdssl": partial(_vddk, "nbdssl"),
    "nbd": partial(_vddk, "nbd"),
    "https": partial(_datastore, "https"),
}
"""What makes the transport of a name. Modules are loaded when they are needed: with pyvmomi or an HTTP client
they take longer than a copy of some files."""


def known_transports(programs: Mapping[str, object]) -> Sequence[str]:
    """Return the names that may be wanted; `programs` are those of the configuration file."""
    return [*TRANSPORTS, *programs]


def transports_for(machine: Machine) -> list[Transport[OpenedDisk]]:
    """Return the wanted transports in order. Datastores that are mounted here come first in any case."""
    options = machine.options
    order = list(options.order or (name for name in TRANSPORTS if name != "file"))
    if options.datastores and "file" not in order:
        order.insert(0, "file")
    return [
        TRANSPORTS[name](machine) if name in TRANSPORTS else _configured(name, machine)
        for name in order
    ]
