"""Which transports there are, in the order in which they are tried when nobody says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmount.disks.disk import OpenedDisk
    from vmount.routes.base import Machine
    from vmount.transports.negotiate import Route


def _datastore(name: str, machine: Machine) -> Route[OpenedDisk]:
    from vmount.routes.datastore import file_route, https_route, san_route

    return {"file": file_route, "san": san_route, "https": https_route}[name](machine)


def _hotadd(machine: Machine) -> Route[OpenedDisk]:
    from vmount.routes.hotadd import HotAddRoute

    return HotAddRoute(machine)


def _vddk(name: str, machine: Machine) -> Route[OpenedDisk]:
    from vmount.routes.nbd_program import VddkRoute

    return VddkRoute(name, machine)


def _configured(name: str, machine: Machine) -> Route[OpenedDisk]:
    from vmount.routes.nbd_program import ConfiguredRoute

    return ConfiguredRoute(name, machine)


ROUTES: Mapping[str, Callable[[Machine], Route[OpenedDisk]]] = {
    "file": partial(_datastore, "file"),
    "san": partial(_datastore, "san"),
    "hotadd": _hotadd,
    "nbdssl": partial(_vddk, "nbdssl"),
    "nbd": partial(_vddk, "nbd"),
    "https": partial(_datastore, "https"),
}
"""What makes the route of a name. Modules are loaded when they are needed: with pyvmomi or an HTTP client
they take longer than a copy of some files."""


def known_transports(programs: Mapping[str, object]) -> Sequence[str]:
    """Return the names that may be wanted; `programs` are those of the configuration file."""
    return [*ROUTES, *programs]


def routes_for(machine: Machine) -> list[Route[OpenedDisk]]:
    """Return the wanted routes in order. Datastores that are mounted here come first in any case."""
    options = machine.options
    order = list(options.order or (name for name in ROUTES if name != "file"))
    if options.datastores and "file" not in order:
        order.insert(0, "file")
    return [
        ROUTES[name](machine) if name in ROUTES else _configured(name, machine) for name in order
    ]
