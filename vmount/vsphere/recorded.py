"""How a server is named in the journal, and how it is reached again from there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vmount.state.things import Server
from vmount.vsphere.settings import ConnectionSettings, resolve
from vmount.vsphere.thumbprint import Thumbprint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmount.vsphere.layer import Layer
    from vmount.vsphere.session import Session


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
