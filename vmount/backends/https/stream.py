"""The sockets under httpcore: TLS that is decrypted into one buffer, as much as there is at a time.

httpcore's own stream for trio hands over one TLS record of 16 KiB a call, each through a stack of scopes and
events: that took half of the time of a read.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any

import httpcore
import trio

from vmount.backends.channel import Channel, Tls, connect_reason, dial_tcp

MOST_BEFORE_BODY = 256 << 10
"""Bytes that come between a request and the end of the head of its answer, and the body's first ones that
come with them: one read of 64 KiB, and httpcore's own limit for a head is 100 KiB."""


class EndlessHead(httpcore.RemoteProtocolError):
    """The server sends interim answers (1xx) or headers without end."""


class HttpStream(httpcore.AsyncNetworkStream):
    """A connection. The sender of a request sets its deadlines."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._before_body: int | None = 0
        """Bytes that came since the last request; None: the head of the answer is complete."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what is there, at most so much; nothing at the end of the stream.

        Always a checkpoint: a server that sends faster than this is read must not keep the event loop, and
        with it every deadline, to itself. Raises EndlessHead.
        """
        await trio.lowlevel.checkpoint()
        buffer = bytearray(max_bytes)
        try:
            count = await self._channel.recv_into(memoryview(buffer))
        except (OSError, trio.ClosedResourceError) as error:
            raise httpcore.ReadError(str(error)) from error
        if self._before_body is not None:
            self._before_body += count
            if self._before_body > MOST_BEFORE_BODY:
                raise EndlessHead(f"{self._before_body} bytes, and the answer has not started")
        return bytes(memoryview(buffer)[:count])

    def head_is_complete(self) -> None:
        """Take what comes until the next request for a body, whose length the reader of the answer checks."""
        self._before_body = None

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it."""
        self._before_body = 0
        try:
            await self._channel.send_all(buffer)
        except (OSError, trio.ClosedResourceError) as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        """Close the connection."""
        self._channel.close()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> HttpStream:
        """Encrypt from here on."""
        try:
            with trio.fail_after(_seconds(timeout)):
                await self._channel.start_tls(Tls(ssl_context, server_hostname))
        except trio.TooSlowError as error:
            self._channel.close()
            raise httpcore.ConnectTimeout("no TLS handshake in time") from error
        except OSError as error:
            self._channel.close()
            raise httpcore.ConnectError(connect_reason(error)) from error
        return self

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore asks for: the TLS object, and whether an idle connection has ended."""
        if info == "ssl_object":
            return self._channel.ssl_socket
        if info == "is_readable":
            return self._channel.is_readable()
        return None


class HttpBackend(httpcore.AsyncNetworkBackend):
    """Makes connections."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> HttpStream:
        """Connect to a server."""
        try:
            with trio.fail_after(_seconds(timeout)):
                return HttpStream(await dial_tcp(host, port))
        except trio.TooSlowError as error:
            raise httpcore.ConnectTimeout("not connected in time") from error
        except OSError as error:
            raise httpcore.ConnectError(connect_reason(error)) from error

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await trio.sleep(seconds)


def _seconds(timeout: float | None) -> float:
    return float("inf") if timeout is None else timeout
