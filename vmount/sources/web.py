"""A disk on an HTTPS server that serves ranges: `https://host/folder/disk.vmdk`."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from vmount.datastores.path import DatastorePathError
from vmount.disks.disk import disk_of
from vmount.errors import SourceError, explain
from vmount.options import FORCE
from vmount.parsers.errors import ParseError
from vmount.parsers.vmdk.chain import ParentChanged
from vmount.sources.base import SourceKind
from vmount.sources.foreign import refuse_foreign

if TYPE_CHECKING:
    from vmount.disks.disk import Disk
    from vmount.sources.base import Opening

WEB = "https://"


def without_query(source: str) -> str:
    """Return a source as it may be shown and written down: the query of a web address may hold a token."""
    return source.partition("?")[0] if source.startswith(WEB) else source


async def open_web(url: str, opening: Opening) -> list[Disk]:
    """Open a disk by its descriptor; its other files are beside it. Raises SourceError."""
    # Imported here: an HTTP client takes longer to load than the rest.
    from vmount.backends.https.client import HttpsClient, check_address
    from vmount.datastores.disk import DatastoreReading, open_datastore_disk
    from vmount.datastores.web import WebBackend, basic_credentials, split_url

    options = opening.options
    shown = without_query(url)
    try:
        check_address(url)
    except OSError as error:
        raise SourceError(str(error)) from error  # which does not repeat a password
    try:
        path, address = split_url(url)
    except DatastorePathError as error:
        raise SourceError(f"{shown}: {error}") from error
    client = HttpsClient(headers=basic_credentials(os.environ), options=options.remote.https)
    backend = WebBackend(client, address)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(backend.aclose)
        reading = DatastoreReading(options.remote.https_cache, options.force)
        try:
            opened = await open_datastore_disk(backend, path, opening.nursery, reading, raw=True)
            stack.push_async_callback(opened.aclose)
            if opened.format == "raw":
                await refuse_foreign(opened.data, shown)
        except OSError as error:
            raise SourceError(explain(error)) from error
        except ParseError as error:
            remedy = FORCE if isinstance(error, ParentChanged) else ""
            raise SourceError(str(error.named(shown)), remedy=remedy) from error
        opening.stack.push_async_callback(stack.pop_all().aclose)
    return [disk_of(opening.next_name(), shown, "https", opened)]


KIND = SourceKind("https", "an https:// address", lambda source: source.startswith(WEB), open_web)
