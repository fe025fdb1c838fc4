"""An export of an NBD server: `nbd://host:10809/export`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.backends.nbd.uri import SCHEMES
from vmount.disks.disk import Disk
from vmount.disks.remote import RemoteDisk, exports_of
from vmount.errors import SourceError, explain
from vmount.sources.base import SourceKind

if TYPE_CHECKING:
    from vmount.sources.base import Opening


def is_nbd(source: str) -> bool:
    """Return whether a source is a URI of an NBD server."""
    return source.partition(":")[0] in SCHEMES and ":" in source


async def open_nbd_source(uri: str, opening: Opening) -> list[Disk]:
    """Connect to a server. Raises SourceError."""
    try:
        remote = await RemoteDisk.open(uri, opening.nursery, opening.options.remote)
    except OSError as error:
        raise SourceError(explain(error), remedy=await _exports(uri, opening)) from error
    opening.stack.push_async_callback(remote.aclose)
    name = opening.next_name()
    return [Disk(name, uri, "raw", remote.data, transport=remote.name, remote=remote)]


async def _exports(uri: str, opening: Opening) -> str:
    """Return which exports the server has, as a remedy; "" if it does not tell."""
    try:
        names = [export.name for export in await exports_of(uri, opening.options.remote)]
    except OSError:
        return ""
    return f"the server exports: {', '.join(map(repr, names))}" if names else ""


KIND = SourceKind("nbd", "an nbd:// address", is_nbd, open_nbd_source)
