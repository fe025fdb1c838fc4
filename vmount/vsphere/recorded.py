"""How a server is named in the journal, and how it is reached again from there."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from vmount.errors import Remedy, UsageError
from vmount.state.undo_records import Server
from vmount.vsphere.session import Session, connected
from vmount.vsphere.settings import ConnectionSettings, resolve
from vmount.vsphere.thumbprint import Thumbprint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from vmount.vsphere.layer import Layer


def server_of(session: Session) -> Server:
    """Return what a journal says of the server of a session: no secret."""
    settings = session.settings
    return Server(
        settings.host,
        settings.port,
        settings.user,
        "" if settings.thumbprint is None else str(settings.thumbprint),
        settings.profile,
        session.about.instance,
    )


@asynccontextmanager
async def connected_again(
    server: Server, chosen: Layer, environment: Mapping[str, str]
) -> AsyncIterator[Session]:
    """Log in to a server of the journal, and out when the context ends.

    `chosen` is what the command line says. Raises VmountError, also if it is another server by now: what is
    not there would be taken for undone.
    """
    settings = settings_of(server, chosen, environment)
    async with connected(settings) as session:
        if server.instance and session.about.instance != server.instance:
            raise UsageError(
                f"{settings.address} is not the server that was used then (instance {server.instance})",
                remedy=Remedy("give that server with --vcenter", "give that server"),
            )
        yield session


def settings_of(
    server: Server, chosen: Layer, environment: Mapping[str, str]
) -> ConnectionSettings:
    """Return how to reach a server of the journal: what the command line says prevails.

    Raises UsageError where something is wrong or missing.
    """
    thumbprint = chosen.thumbprint
    if thumbprint is None and server.thumbprint and chosen.ca_file is None and not chosen.insecure:
        thumbprint = Thumbprint.parse(server.thumbprint)
    layer = replace(
        chosen,
        host=chosen.host or server.host,
        port=chosen.port if chosen.host else server.port,
        user=chosen.user or server.user,
        thumbprint=thumbprint,
    )
    return resolve(layer, environment, server.profile or None)
