"""Files of datastores over HTTPS: /folder of a vCenter or host, and any server of ranges."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from vmount.backends.https.backend import open_https_file
from vmount.datastores.base import DistantFile
from vmount.datastores.path import DatastorePath

if TYPE_CHECKING:
    from vmount.backends.https.client import HttpsClient

Address = Callable[[DatastorePath], str]

USER_VARIABLE, PASSWORD_VARIABLE = "VMOUNT_HTTP_USER", "VMOUNT_HTTP_PASSWORD"


class WebBackend:
    """A DatastoreBackend whose files have addresses on one server."""

    def __init__(self, client: HttpsClient, address: Address) -> None:
        """`address` gives a file's https:// address; the client is closed with the place."""
        self._client = client
        self._address = address

    async def open(self, path: DatastorePath) -> DistantFile:
        """Open a file."""
        transport = await open_https_file(self._address(path), self._client)
        return DistantFile(transport, transport.head)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def split_url(url: str) -> tuple[DatastorePath, Address]:
    """Take the address of a disk apart: its path on the server, and the addresses of its neighbours.

    The server's name stands for the datastore. A query (/folder has one that names the datastore) goes with
    every address. Raises DatastorePathError if the address names no file.
    """
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    host = parts.netloc.replace("[", "").replace("]", "")

    def address(path: DatastorePath) -> str:
        return f"{parts.scheme}://{parts.netloc}/{quote(path.path, safe='/')}{query}"

    return DatastorePath(host, unquote(parts.path).lstrip("/")), address


def basic_credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that prove who asks for a plain https:// source; none without a user."""
    user = environment.get(USER_VARIABLE)
    if not user:
        return {}
    token = f"{user}:{environment.get(PASSWORD_VARIABLE, '')}".encode()
    return {"Authorization": f"Basic {base64.b64encode(token).decode()}"}
