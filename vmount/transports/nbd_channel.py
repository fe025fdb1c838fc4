"""A stream of bytes to an NBD server: TCP or Unix socket, plain or TLS.

Strategy: a non-blocking socket of the standard library is tried first, and trio is asked to wait only
when it says that it would block. `recv_into` then puts payload where it belongs with one copy, made by
the kernel or by OpenSSL; trio's streams would hand out a new bytes object a call.
"""

from __future__ import annotations

import socket
import ssl

import trio

from vmount.transports.nbd_handshake import Dialogue, Receive, Send, T
from vmount.transports.nbd_options import Tls
from vmount.transports.nbd_uri import NbdUri

KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 30, 10, 3
"""Seconds of silence before TCP's first probe, seconds between probes, probes before giving up."""


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

        Takes not a byte more: nothing that was sent before TLS can be taken for something in it.
        """
        data = bytearray(length)
        view = memoryview(data)
        while view:
            count = await self.recv_into(view)
            if count == 0:
                raise ConnectionResetError("the server hung up")
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


async def dial(uri: NbdUri) -> Channel:
    """Connect to the server of a URI; raises OSError."""
    if uri.socket is not None:
        stream = await trio.open_unix_socket(uri.socket)
        return Channel(socket.socket(fileno=stream.socket.detach()))
    assert uri.host is not None
    stream = await trio.open_tcp_stream(uri.host, uri.port)
    connected = socket.socket(fileno=stream.socket.detach())
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
    return Channel(connected)


async def converse(dialogue: Dialogue[T], channel: Channel, tls: Tls | None) -> T:
    """Drive a handshake over a channel and return what it agrees on.

    Raises what the dialogue raises, and OSError.
    """
    answer = b""
    try:
        step = next(dialogue)
        while True:
            answer = b""
            if isinstance(step, Receive):
                answer = await channel.receive_exactly(step.length)
            elif isinstance(step, Send):
                await channel.send_all(step.data)
            else:
                assert tls is not None
                await channel.start_tls(tls)
            step = dialogue.send(answer)
    except StopIteration as stop:
        agreed: T = stop.value
        return agreed
