"""Which transports there are, in the order in which they are tried when nobody says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from vmount.routes.datastore import file_route, https_route, san_route
from vmount.routes.nbd_program import ConfiguredRoute, VddkRoute

if TYPE_CHECKING:
    from vmount.disks.disk import OpenedDisk
    from vmount.routes.base import Machine
    from vmount.transports.negotiate import Route


def hotadd_route(machine: Machine) -> Route[OpenedDisk]:
    """Return the route through disks attached to the machine that vmount runs in."""
    from vmount.routes.hotadd import HotAddRoute  # pyvmomi is loaded where it is needed

    return HotAddRoute(machine)


ROUTES: Mapping[str, Callable[[Machine], Route[OpenedDisk]]] = {
    "file": file_route,
    "san": san_route,
    "hotadd": hotadd_route,
    "nbdssl": partial(VddkRoute, "nbdssl"),
    "nbd": partial(VddkRoute, "nbd"),
    "https": https_route,
}


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
        ROUTES[name](machine) if name in ROUTES else ConfiguredRoute(name, machine)
        for name in order
    ]
