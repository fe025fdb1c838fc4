"""The transports as ways to the disks of one machine in vSphere, and which of them there are."""

from vmount.routes.base import Machine, RouteOptions
from vmount.routes.registry import ROUTES, routes_for

__all__ = ["ROUTES", "Machine", "RouteOptions", "routes_for"]
