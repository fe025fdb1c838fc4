"""One connection to an NBD server, with many requests in flight.

Strategy: a request is encoded and handed to the socket without waiting, or to the sender task, which
sends those together that come together; what the socket does not take at once is left to it as well. So no task can be cancelled in the middle of a request, and a
reader that is cancelled leaves a complete request behind, whose reply is received and dropped. The
receiver task alone reads the stream. Anything that breaks the stream fails the connection as a whole.
"""

from __future__ import annotations

import contextlib
import errno
import ssl
from collections.abc import Callable

import trio

from vmount.backends.base import BackendError, BackendRefused, BackendTimeout
from vmount.backends.channel import Channel, Tls, connect_reason
from vmount.backends.nbd.channel import converse, dial
from vmount.backends.nbd.handshake import (
    OPT_STARTTLS,
    REP_ERR_TLS_REQD,
    Dialogue,
    Negotiated,
    OptionRefused,
    T,
    UnknownExport,
    negotiate,
)
from vmount.backends.nbd.options import NbdOptions
from vmount.backends.nbd.uri import NbdUri
from vmount.backends.nbd.wire import NbdProtocolError, Reply, Transmission

FAIRNESS = 1 << 20
"""Bytes received without waiting after which the other tasks get a turn."""
SENT_TOGETHER = 8 * 28
"""Bytes: eight requests are sent without looking for more, so that the server need not wait for a long row."""
SHOWN_EXPORTS = 8
"""Names of exports in an error message."""


_CERTIFICATE_WANTED = (
    "if the server requires a client certificate, give its folder "
    "(tls-certificates=DIR with client-cert.pem and client-key.pem)"
)


class ConnectionLost(Exception):
    """The connection has ended before the reply. `cause` says why."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Waiter:
    """A request without a reply. It stays when its reader is cancelled: the reply will still come."""

    __slots__ = ("answered", "asked", "reply")

    def __init__(self) -> None:
        self.asked = trio.current_time()
        self.answered = trio.Event()
        self.reply: Reply | None = None


class NbdConnection:
    """A connection in its transmission phase. `run` must run for replies to come."""

    def __init__(self, channel: Channel, agreed: Negotiated, options: NbdOptions) -> None:
        self.agreed = agreed
        self.failure: Exception | None = None
        """Why the connection is of no more use."""
        self.heard = trio.current_time()
        """When bytes last came from the server."""
        self.tls = channel.describe_tls()
        self._channel = channel
        self._options = options
        self._codec = Transmission(structured=agreed.structured, context=agreed.context)
        self._waiters: dict[int, _Waiter] = {}
        self._unsent = bytearray()
        self._wakeup = trio.Event()
        self._blocked = False
        """The socket takes nothing now."""

    @property
    def in_flight(self) -> int:
        """Requests without a reply, those whose reader was cancelled included."""
        return len(self._waiters)

    async def read(self, offset: int, into: memoryview) -> Reply:
        """Fill `into` from the disk; the reply may be an error. Raises ConnectionLost."""
        self._check()
        cookie, request = self._codec.read(offset, into)
        return await self._ask(cookie, request)

    async def block_status(self, offset: int, length: int) -> Reply:
        """Ask for extents; the reply may be an error. Raises ConnectionLost."""
        self._check()
        cookie, request = self._codec.block_status(offset, length)
        return await self._ask(cookie, request)

    def _check(self) -> None:
        if self.failure is not None:
            raise ConnectionLost(self.failure)

    async def _ask(self, cookie: int, request: bytes) -> Reply:
        waiter = self._waiters[cookie] = _Waiter()
        self._submit(request)
        await waiter.answered.wait()
        if waiter.reply is None:
            assert self.failure is not None
            raise ConnectionLost(self.failure)
        return waiter.reply

    def _submit(self, request: bytes) -> None:
        """Send a request: at once if nothing is under way, else with those that come right after it.

        A call of the system for each of a hundred small requests is a fifth of the time that they take.
        """
        self._unsent += request
        if len(self._waiters) == 1 or len(self._unsent) >= SENT_TOGETHER:
            self._flush()
        if self._unsent:
            self._wakeup.set()

    def _flush(self) -> None:
        """Send what can be sent without waiting, unless `_send_rest` waits until anything can be."""
        if self._blocked:
            return
        try:
            del self._unsent[: self._channel.send_now(self._unsent)]
        except OSError as error:
            self.fail(error)
            return
        self._blocked = bool(self._unsent)

    async def run(self, on_reply: Callable[[], object]) -> None:
        """Receive replies until the connection fails or is closed; tell of each that has come."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_rest)
                nursery.start_soon(self._watch)
                try:
                    await self._receive(on_reply)
                except (OSError, NbdProtocolError) as error:
                    self.fail(error)
                except trio.ClosedResourceError:
                    pass  # failed by someone else, who said why
                nursery.cancel_scope.cancel()
        finally:
            self.fail(ConnectionAbortedError("closed"))

    async def _receive(self, on_reply: Callable[[], object]) -> None:
        channel, codec = self._channel, self._codec
        since_turn = 0
        while True:
            count = await channel.recv_into(codec.buffer())
            if count == 0:
                raise ConnectionResetError("the server closed the connection")
            self.heard = trio.current_time()
            for reply in codec.received(count):
                waiter = self._waiters.pop(reply.cookie)
                waiter.reply = reply
                waiter.answered.set()
                on_reply()
            since_turn += count
            if since_turn >= FAIRNESS:
                since_turn = 0
                await trio.lowlevel.checkpoint()

    async def _send_rest(self) -> None:
        """Send what `_submit` has left."""
        try:
            while True:
                await self._wakeup.wait()
                self._flush()
                while self._unsent:
                    await self._channel.wait_writable()
                    self._blocked = False
                    self._flush()
                self._wakeup = trio.Event()
        except OSError as error:
            self.fail(error)
        except trio.ClosedResourceError:
            pass

    async def _watch(self) -> None:
        """Fail the connection when the server owes a reply for too long.

        A slow line that moves is not dead, so silence counts, and not the age of a request; but a
        request that has outlived every reader is one that the server has forgotten.
        """
        silence, forgotten = self._options.reply_timeout, self._options.total_timeout
        while True:
            deadline = trio.current_time() + min(silence, forgotten)
            for oldest in self._waiters.values():
                deadline = min(max(self.heard, oldest.asked) + silence, oldest.asked + forgotten)
                break
            if trio.current_time() >= deadline:
                self.fail(TimeoutError(f"no reply from the server for over {silence:g} s"))
                return
            await trio.sleep_until(deadline)

    def fail(self, cause: Exception) -> None:
        """Give the connection up: everyone who waits gets ConnectionLost. The first cause counts."""
        if self.failure is None:
            # Without its frames: they hold this connection, which would then never be freed at once.
            self.failure = cause.with_traceback(None)
            self._codec.abandon()
        for waiter in self._waiters.values():
            waiter.answered.set()
        self._waiters.clear()
        self._unsent.clear()
        self._channel.close()

    def close(self) -> None:
        """Say goodbye, without waiting, and close."""
        if self.failure is None and not self._unsent:
            with contextlib.suppress(OSError):  # it may be gone already
                self._channel.send_now(Transmission.disconnect())
        self.fail(ConnectionAbortedError("closed"))


async def connect(uri: NbdUri, options: NbdOptions, tls: Tls | None) -> NbdConnection:
    """Connect and agree on the export; raises BackendError."""
    dialogue = negotiate(uri.export, tls=tls is not None)
    channel, agreed = await open_channel(uri, options, tls, dialogue)
    return NbdConnection(channel, agreed, options)


async def open_channel(
    uri: NbdUri, options: NbdOptions, tls: Tls | None, dialogue: Dialogue[T]
) -> tuple[Channel, T]:
    """Connect and hold a handshake; raises BackendError."""
    channel = None
    try:
        with trio.fail_after(options.connect_timeout):
            channel = await dial(uri)
            agreed = await converse(dialogue, channel, tls)
    except BaseException as error:
        if channel is not None:
            channel.close()
        if isinstance(error, trio.TooSlowError):
            raise BackendTimeout(
                f"{uri}: no answer within {options.connect_timeout:g} s; check the address"
            ) from error
        if isinstance(error, (OSError, OptionRefused, NbdProtocolError)):
            raise _explained(uri, error, reached=channel is not None) from error
        raise
    return channel, agreed


def _explained(uri: NbdUri, error: Exception, *, reached: bool) -> BackendError:
    """Turn what went wrong while connecting into one line that says what to do."""
    if isinstance(error, OptionRefused):
        return BackendRefused(f"{uri}: {_refusal(uri, error)}")
    if isinstance(error, NbdProtocolError):
        return BackendRefused(f"{uri}: not a usable NBD server: {error}")
    if isinstance(error, ssl.SSLCertVerificationError):
        return BackendRefused(
            f"{uri}: the server's certificate is not accepted: {error.verify_message.rstrip('.')}; "
            "give its authority with tls-certificates=DIR (ca-cert.pem), or its name with tls-hostname="
        )
    if isinstance(error, ssl.SSLError):
        return BackendRefused(f"{uri}: TLS failed: {error.reason or error}; {_CERTIFICATE_WANTED}")
    if reached:
        # In TLS 1.3 a server may turn a client down after the client is done with its handshake.
        perhaps = f"; {_CERTIFICATE_WANTED}" if uri.tls else ""
        return BackendRefused(
            f"{uri}: {connect_reason(error)} during the handshake; "
            f"check that the export exists and that this client may use it{perhaps}"
        )
    return BackendError(
        f"{uri}: cannot connect: {connect_reason(error)}; check the address, and that the server runs",
        code=getattr(error, "errno", None) or errno.EIO,
    )


def _refusal(uri: NbdUri, refused: OptionRefused) -> str:
    if isinstance(refused, UnknownExport):
        names = ", ".join(map(repr, refused.exports[:SHOWN_EXPORTS])) or "none that it lists"
        more = " ..." if len(refused.exports) > SHOWN_EXPORTS else ""
        return f"no export {uri.export!r}; the server has {names}{more}"
    if refused.code == REP_ERR_TLS_REQD:
        return f"the server requires TLS; use {'nbds+unix' if uri.socket else 'nbds'}://"
    if refused.option == OPT_STARTTLS:
        return f"the server has no TLS ({refused}); without encryption use {'nbd+unix' if uri.socket else 'nbd'}://"
    return str(refused)
