"""Connections to one HTTPS server, shared by all files that are read from it.

The headers that prove who is asking belong here: when the server refuses them, they are renewed once for
all requests that were under way.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

import httpcore
import trio

from vmount import __version__
from vmount.backends.base import BackendError, BackendRefused
from vmount.backends.https.options import HttpsOptions
from vmount.backends.https.stream import HttpBackend, HttpStream
from vmount.backends.requests import fresh

Headers = Mapping[str, str]
Renew = Callable[[], Awaitable[Headers]]

PASSING = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)
"""What httpcore raises where asking again may help."""

IDLE = 20.0
"""Seconds after which a connection is not used again: the server may hang up on it."""

log = logging.getLogger(__name__)

# It writes addresses and the server's headers, cookies among them.
logging.getLogger("httpcore").setLevel(logging.WARNING)


class Answer(NamedTuple):
    """The head of an answer, and its body as it comes."""

    status: int
    headers: Headers
    """Names in lower case."""
    pieces: AsyncIterator[bytes]

    @property
    def is_redirect(self) -> bool:
        """It names another address."""
        return self.status in (301, 302, 303, 307, 308) and "location" in self.headers


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
        self.answers = 0
        """Heads of answers that have come so far."""
        self._given_up: OSError | None = None
        self._probing = trio.CancelScope()
        self._headers = dict(headers or {})
        self._renew = renew
        self._renewing = trio.Lock()
        # Neither proxies nor ~/.netrc: what goes to this server is what was given for it.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context or ssl.create_default_context(),
            max_connections=self.options.connections,
            max_keepalive_connections=self.options.connections,
            keepalive_expiry=IDLE,
            network_backend=HttpBackend(),
        )

    @asynccontextmanager
    async def get(self, url: str, first: int, last: int) -> AsyncIterator[Answer]:
        """Ask for the bytes from `first` to `last`, as they are. Raises what httpcore does."""
        named = {
            "Host": urlsplit(url).netloc,
            "User-Agent": f"vmount/{__version__}",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            **self._headers,
            "Range": f"bytes={first}-{last}",
        }
        headers = [(name.encode(), value.encode()) for name, value in named.items()]
        timeouts = {"connect": self.options.connect_timeout}
        async with self._pool.stream(
            "GET", url, headers=headers, extensions={"timeout": timeouts}
        ) as response:
            self.answers += 1
            stream = response.extensions["network_stream"]
            if isinstance(stream, HttpStream):
                stream.head_is_complete()
            told = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in response.headers
            }
            yield Answer(response.status, told, response.aiter_stream())

    async def renew(self, generation: int) -> bool:
        """Get new headers, once for all requests that were refused with those of a generation.

        False if there is no way to. Raises what `renew` raises.
        """
        if self._renew is None:
            return False
        async with self._renewing:
            if self.generation == generation:
                self._headers = dict(await self._renew())
                self.generation += 1
        return True

    def check(self) -> None:
        """Raise what `give_up` was given, until the server answers again."""
        if self._given_up is not None:
            raise fresh(self._given_up)

    def give_up(self, why: BackendError, url: str) -> None:
        """Let `check` raise until the server answers: it has not for the whole time of a read.

        One task goes on asking it for the first byte of `url`.
        """
        if self._given_up is None and not self._probing.cancel_called:
            self._given_up = fresh(why)
            log.warning("%s: all reads from this server fail until it answers again", why)
            trio.lowlevel.spawn_system_task(self._probe, url)

    async def _probe(self, url: str) -> None:
        before = self.answers
        with self._probing:
            for delay in self.options.backoff.delays():
                await trio.sleep(delay)
                with (
                    contextlib.suppress(*PASSING, OSError, trio.ClosedResourceError),
                    trio.move_on_after(self.options.reply_timeout),
                ):
                    async with self.get(url, 0, 0):
                        pass
                if self.answers != before:
                    self._given_up = None
                    log.info("%s: answers again", urlsplit(url).hostname)
                    return

    async def aclose(self) -> None:
        """Close all connections. A second call does nothing."""
        self._probing.cancel()
        await self._pool.aclose()


def check_address(url: str) -> None:
    """Raise BackendRefused unless it is an https:// address without user and password."""
    try:
        parts = urlsplit(url)
        is_address = (
            parts.scheme == "https" and parts.hostname and parts.port != 0 and url.isascii()
        )
    except ValueError:
        is_address = False
    if not is_address:
        raise BackendRefused("not an https:// address with a host name", code=errno.EINVAL)
    if "@" in parts.netloc:
        raise BackendRefused(
            f"https://{parts.hostname}: an address must not contain a user name or password",
            code=errno.EINVAL,
        )
