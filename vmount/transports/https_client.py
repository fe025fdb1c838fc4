"""Connections to one HTTPS server, shared by all files that are read from it.

The headers that prove who is asking belong here: when the server refuses them, they are renewed once for
all requests that were under way.
"""

from __future__ import annotations

import errno
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
import trio

from vmount.transports.base import TransportRefused
from vmount.transports.retry import Backoff

Headers = Mapping[str, str]
Renew = Callable[[], Awaitable[Headers]]

# They write addresses and the server's headers, cookies among them.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True)
class HttpsOptions:
    """Times in seconds, sizes in bytes."""

    connections: int = 4
    """To a server. Also the most requests in flight: HTTP/1.1 has one to a connection."""
    max_request: int = 4 << 20
    connect_timeout: float = 10.0
    reply_timeout: float = 30.0
    """For one request, from its start to its last byte."""
    total_timeout: float = 60.0
    """For one read, with all that is asked for again."""
    backoff: Backoff = field(default_factory=Backoff)


class HttpsClient:
    """The connections to one server. Close it after the files that are read through it."""

    def __init__(
        self,
        *,
        headers: Headers | None = None,
        renew: Renew | None = None,
        ssl_context: ssl.SSLContext | None = None,
        options: HttpsOptions | None = None,
    ) -> None:
        """`headers` go with every request and are secret; `renew` gets new ones when they are refused.

        Certificates are verified, by `ssl_context` if it is given.
        """
        self.options = options or HttpsOptions()
        self.limit = trio.CapacityLimiter(self.options.connections)
        """Held while a request is under way."""
        self.generation = 0
        """Of the headers."""
        self._headers = dict(headers or {})
        self._renew = renew
        self._renewing = trio.Lock()
        # Neither proxies nor ~/.netrc: what goes to this server is what was given for it.
        self._client = httpx.AsyncClient(
            verify=ssl_context or ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(self.options.reply_timeout, connect=self.options.connect_timeout),
            limits=httpx.Limits(
                max_connections=self.options.connections,
                max_keepalive_connections=self.options.connections,
            ),
        )

    def get(self, url: str, first: int, last: int) -> AbstractAsyncContextManager[httpx.Response]:
        """Ask for the bytes from `first` to `last`, as they are."""
        headers = {
            **self._headers,
            "Accept-Encoding": "identity",
            "Range": f"bytes={first}-{last}",
        }
        return self._client.stream("GET", url, headers=headers)

    async def renew(self, generation: int) -> bool:
        """Get new headers, once for all requests that were refused with those of a generation.

        False if there is no way to. Raises what `renew` raises.
        """
        if self._renew is None:
            return False
        async with self._renewing:
            if self.generation == generation:
                headers = dict(await self._renew())
                # A cookie of a response would be sent beside the new one.
                self._client.cookies.clear()
                self._headers = headers
                self.generation += 1
        return True

    async def aclose(self) -> None:
        """Close all connections. A second call does nothing."""
        await self._client.aclose()


def check_address(url: str) -> None:
    """Raise TransportRefused unless it is an https:// address without user and password."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise TransportRefused("not an https:// address with a host", code=errno.EINVAL)
    if "@" in parts.netloc:
        raise TransportRefused(
            f"https://{parts.hostname}: user and password must not stand in an address",
            code=errno.EINVAL,
        )
