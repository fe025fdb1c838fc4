"""A stream of bytes to a server: TCP or Unix socket, plain or TLS.

Strategy: a non-blocking socket of the standard library is tried first, and trio is asked to wait only
when it says that it would block. `recv_into` then puts payload where it belongs with one copy, made by
the kernel or by OpenSSL; trio's streams would hand out a new bytes object a call.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
from dataclasses import dataclass

import trio

KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 30, 10, 3
"""Seconds of silence before TCP's first probe, seconds between probes, probes before giving up."""


@dataclass(frozen=True)
class Tls:
    """What a connection needs to be encrypted."""

    context: ssl.SSLContext
    hostname: str | None
    """To ask for and to check; None for a Unix socket without tls-hostname, whose certificate is
    checked against the authority only: its path says who is there."""


class Channel:
    """A connected socket."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected

    async def recv_into(self, buffer: memoryview) -> int:
        """Receive what is there into the front of `buffer`; 0 at the end of the stream.

        Waits only if nothing is there: this is no checkpoint otherwise.
        """
        while True:
            try:
                if isinstance(self._socket, ssl.SSLSocket):
                    return _decrypt_into(self._socket, buffer)
                return self._socket.recv_into(buffer)
            except (BlockingIOError, ssl.SSLWantReadError):
                await trio.lowlevel.wait_readable(self._socket)
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(self._socket)

    async def receive_exactly(self, length: int) -> bytes:
        """Return `length` bytes; raises ConnectionError if the stream ends before.

        Takes not a byte more: nothing that was sent before TLS can be taken for something in it. Always a
        checkpoint, so that a server which sends without end does not outrun the deadline.
        """
        await trio.lowlevel.checkpoint()
        data = bytearray(length)
        view = memoryview(data)
        while view:
            count = await self.recv_into(view)
            if count == 0:
                raise ConnectionResetError("the server closed the connection")
            view = view[count:]
        return bytes(data)

    def send_now(self, data: bytes | bytearray) -> int:
        """Send what can be sent without waiting; return how many bytes that was."""
        try:
            return self._socket.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0

    async def send_all(self, data: bytes) -> None:
        """Send all of it."""
        while data:
            data = data[self.send_now(data) :]
            if data:
                await self.wait_writable()

    async def wait_writable(self) -> None:
        """Wait until more can be sent."""
        await trio.lowlevel.wait_writable(self._socket)

    async def start_tls(self, tls: Tls) -> None:
        """Encrypt from here on. Raises ssl.SSLError."""
        wrapped = tls.context.wrap_socket(
            self._socket, server_hostname=tls.hostname, do_handshake_on_connect=False
        )
        self._socket = wrapped
        while True:
            try:
                wrapped.do_handshake()
            except ssl.SSLWantReadError:
                await trio.lowlevel.wait_readable(wrapped)
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(wrapped)
            else:
                return

    @property
    def ssl_socket(self) -> ssl.SSLSocket | None:
        """The encrypted socket; None for a plain connection."""
        return self._socket if isinstance(self._socket, ssl.SSLSocket) else None

    def is_readable(self) -> bool:
        """Say whether there is something to receive, the end of the stream included, or it is closed."""
        if self._socket.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def describe_tls(self) -> dict[str, object] | None:
        """Return version and cipher, None for a plain connection."""
        if not isinstance(self._socket, ssl.SSLSocket):
            return None
        cipher = self._socket.cipher()
        return {
            "version": self._socket.version(),
            "cipher": None if cipher is None else cipher[0],
            "peer_verified": self._socket.context.verify_mode == ssl.CERT_REQUIRED,
            "hostname_checked": self._socket.context.check_hostname,
        }

    def close(self) -> None:
        """Close the socket. Tasks that wait for it get trio.ClosedResourceError."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
        self._socket.close()


def _decrypt_into(encrypted: ssl.SSLSocket, buffer: memoryview) -> int:
    """Fill as much of `buffer` as there is: OpenSSL gives one record of 16 KiB a call."""
    filled = 0
    while filled < len(buffer):
        try:
            count = encrypted.recv_into(buffer[filled:])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if filled:
                break
            raise
        if count == 0:
            break
        filled += count
    return filled


async def dial_tcp(host: str, port: int) -> Channel:
    """Connect to a server; raises OSError."""
    stream = await trio.open_tcp_stream(host, port)
    connected = socket.socket(fileno=stream.socket.detach())
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
    return Channel(connected)


def connect_reason(error: BaseException) -> str:
    """Return the system's words for an error; trio hides them in the cause, one an address."""
    if error.__cause__ is not None and isinstance(error, OSError):
        inner = error.__cause__
        causes = inner.exceptions if isinstance(inner, BaseExceptionGroup) else (inner,)
        return ", ".join(dict.fromkeys(connect_reason(cause) for cause in causes))
    if isinstance(error, ssl.SSLError):  # whose errno, like gaierror's, is not the system's
        return f"TLS failed ({error.reason or error})"
    if isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
