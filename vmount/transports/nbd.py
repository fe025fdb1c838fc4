"""An NBD export as a transport: several connections, reconnection, deadlines.

Strategy: a read is cut into requests that the server takes; each goes to the connection with the fewest
requests in flight. If its connection is lost it goes to another, or waits for the next one to be made,
until the deadline of the read. A new connection is used only if it has the same export (size, flags,
block sizes) and still gives the bytes that the first read gave: a server that comes back with another
disk ends the transport. An answer of the server that is an error is asked for again, a few times.

Block status is passed on as the hint that it is; reads never depend on it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import trio

from parsers.reader import Buffer, Span, check_bounds
from vmount.transports.base import (
    Extent,
    SourceChanged,
    TransportClosed,
    TransportError,
    TransportRefused,
    TransportStats,
    TransportTimeout,
)
from vmount.transports.nbd_connection import ConnectionLost, NbdConnection, connect, open_channel
from vmount.transports.nbd_handshake import ExportInfo, list_dialogue
from vmount.transports.nbd_options import NbdOptions, Tls, make_tls
from vmount.transports.nbd_uri import NbdUri, NbdUriError, parse_nbd_uri
from vmount.transports.nbd_wire import STATE_ZERO, NbdProtocolError, Reply

__all__ = ["ExportInfo", "NbdOptions", "NbdTransport", "NbdUriError", "list_exports", "open_nbd"]

logger = logging.getLogger(__name__)

DEFAULTS = NbdOptions()
PREFERRED_READ = 256 << 10
"""Bytes: below this the round trip and the cost of a request outweigh the payload."""
STATUS_SPAN = 1 << 30
"""Bytes that one block status request asks about: a few thousand extents on a usual disk."""
BUSY = 2
"""Requests in flight on the least busy connection that make another one worth while."""
MAX_WORKERS = 64
"""Requests of one read that are under way at the same time."""
WITNESS = 4096
"""Bytes of the first read that every further connection has to give again."""
KEEPALIVE_READ = 512

_LASTING = {errno.EPERM, errno.EINVAL, errno.EOVERFLOW, errno.ENOTSUP}
"""Errors of a server that asking again does not cure."""
_KNOWN = _LASTING | {errno.EIO, errno.ENOMEM, errno.ENOSPC, errno.ESHUTDOWN}
"""The error numbers of the NBD protocol; they are Linux's."""


class _Witness(NamedTuple):
    offset: int
    length: int
    digest: bytes


async def open_nbd(uri: str, nursery: trio.Nursery, options: NbdOptions = DEFAULTS) -> NbdTransport:
    """Connect to an export. Its tasks live in `nursery` until `aclose`.

    Raises NbdUriError, TransportError.
    """
    parsed = parse_nbd_uri(uri)
    tls = make_tls(parsed, options) if parsed.tls else None
    first = await connect(parsed, options, tls)
    transport = NbdTransport(parsed, options, tls, first)
    await nursery.start(transport.run)
    return transport


async def list_exports(uri: str, options: NbdOptions = DEFAULTS) -> Sequence[ExportInfo]:
    """Return the exports of the server of a URI, whatever export the URI names.

    Raises NbdUriError, TransportError.
    """
    parsed = parse_nbd_uri(uri)
    tls = make_tls(parsed, options) if parsed.tls else None
    channel, exports = await open_channel(parsed, options, tls, list_dialogue(tls=tls is not None))
    channel.close()
    return exports


class NbdTransport:
    """A Transport; see open_nbd."""

    def __init__(
        self, uri: NbdUri, options: NbdOptions, tls: Tls | None, first: NbdConnection
    ) -> None:
        agreed = first.agreed
        self.size = agreed.size
        self.max_read = _multiple(min(agreed.max_block, options.max_request), agreed.min_block)
        self.preferred_read = min(max(PREFERRED_READ, agreed.preferred_block), self.max_read)
        self._uri = uri
        self._options = options
        self._tls = tls
        self._agreed = agreed
        self._connections = [first]
        self._limit = options.max_connections if agreed.multi_conn else 1
        self._dialing = False
        self._waiting = trio.lowlevel.ParkingLot()
        """Readers that need a connection, or room on one."""
        self._witness: _Witness | None = None
        self._broken: TransportError | None = None
        """Why no read can succeed any more."""
        self._last_problem: Exception | None = None
        self._nursery: trio.Nursery | None = None
        self._ended = trio.Event()
        self._requests = self._bytes = self._retries = self._reconnects = 0
        self._latency = 0.0

    # Reading

    async def read(self, offset: int, length: int) -> Buffer:
        """Return exactly `length` bytes. Raises OutOfBounds, TransportError."""
        check_bounds(offset, length, self.size)
        if length == 0:
            await trio.lowlevel.checkpoint()
            return b""
        start, end = self._aligned(offset, length)
        data = bytearray(end - start)
        with trio.move_on_after(self._options.total_timeout) as scope:
            await self._fill(start, memoryview(data))
        if scope.cancelled_caught:
            raise self._too_late()
        if end - start == length:
            return data
        return memoryview(data)[offset - start : offset - start + length]

    async def allocated(self, offset: int, length: int) -> Sequence[Extent]:
        """Return what the server says of a range; all data where it says nothing."""
        check_bounds(offset, length, self.size)
        extents: list[Extent] = []
        with trio.move_on_after(self._options.total_timeout) as scope:
            position, end = self._aligned(offset, length)
            while position < end:
                count, zero = end - position, False
                for count, zero in await self._status(position, min(end - position, STATUS_SPAN)):
                    _append(extents, _clip(position, count, zero, offset, offset + length))
                    position += count
            await trio.lowlevel.checkpoint()
        if scope.cancelled_caught:
            raise self._too_late()
        return extents

    def _aligned(self, offset: int, length: int) -> tuple[int, int]:
        """Widen a range to the server's minimum block, as far as the disk goes."""
        block = self._agreed.min_block
        return offset // block * block, min(-(-(offset + length) // block) * block, self.size)

    async def _fill(self, start: int, view: memoryview) -> None:
        """Read into `view`, cut into requests that are under way at the same time."""
        if len(view) <= self.max_read:
            await self._request(start, view)
            return
        spans = _cut(len(view), self.max_read)
        errors: list[OSError] = []

        async def work() -> None:
            try:
                for span in spans:
                    await self._request(
                        start + span.offset, view[span.offset : span.offset + span.length]
                    )
            except OSError as error:
                errors.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for _ in range(min(MAX_WORKERS, -(-len(view) // self.max_read))):
                nursery.start_soon(work)
        if errors:
            raise errors[0]

    async def _request(self, offset: int, view: memoryview) -> None:
        """Fill `view` by one request, repeated as need be."""
        errors = 0
        delays = self._options.backoff.delays()
        while True:
            connection = await self._connection()
            began = trio.current_time()
            try:
                reply = await connection.read(offset, view)
            except ConnectionLost as lost:
                await self._after_loss(lost)
                continue
            if reply.error == 0:
                break
            errors += 1
            if reply.error in _LASTING or errors > self._options.max_errors:
                raise self._server_error(reply, f"{len(view)} bytes at {offset:#x}", errors)
            self._retries += 1
            await trio.sleep(next(delays))
        self._requests += 1
        self._bytes += len(view)
        self._latency += trio.current_time() - began
        if self._witness is None:
            seen = min(len(view), max(WITNESS, self._agreed.min_block))
            self._witness = _Witness(offset, seen, _digest(view[:seen]))

    async def _status(self, position: int, length: int) -> Sequence[tuple[int, bool]]:
        """Return lengths and whether they are zero; they describe at least one byte."""
        while self._agreed.context is not None:
            connection = await self._connection()
            if connection.agreed.context is None:
                break
            try:
                reply = await connection.block_status(position, length)
            except ConnectionLost as lost:
                await self._after_loss(lost)
                continue
            if reply.error:
                break
            return [(count, bool(flags & STATE_ZERO)) for count, flags in reply.extents]
        return [(length, False)]

    async def _after_loss(self, lost: ConnectionLost) -> None:
        """Raise if trying again is of no use, else make sure that it does not happen too often."""
        self._last_problem = lost.cause
        self._check()
        if isinstance(lost.cause, NbdProtocolError):
            raise TransportRefused(
                f"{self._uri}: the server broke the NBD protocol: {lost.cause}; nothing of it is used"
            ) from lost
        self._retries += 1
        await trio.sleep(next(self._options.backoff.delays()))

    def _server_error(self, reply: Reply, what: str, times: int) -> TransportError:
        code = reply.error if reply.error in _KNOWN else errno.EIO
        name = errno.errorcode.get(reply.error, str(reply.error))
        said = f" ({reply.message})" if reply.message else ""
        return TransportError(
            f"{self._uri}: the server answers {name}{said} to a read of {what}, {times} times; "
            "its own log may say why",
            code=code,
        )

    def _too_late(self) -> TransportTimeout:
        last = f"; last problem: {self._last_problem}" if self._last_problem is not None else ""
        return TransportTimeout(
            f"{self._uri}: not read within {self._options.total_timeout:g} s{last}; "
            "is the server up and reachable?"
        )

    # Connections

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken

    async def _connection(self) -> NbdConnection:
        """Return a connection with room for a request; wait for one."""
        while True:
            self._check()
            best = min(self._connections, key=lambda each: each.in_flight, default=None)
            load = best.in_flight if best is not None else 0
            if len(self._connections) < self._limit and (best is None or load >= BUSY):
                self._dial()
            if best is not None and load < self._options.max_in_flight:
                return best
            await self._waiting.park()

    def _dial(self) -> None:
        """See to it that one more connection is being made."""
        if not self._dialing and self._nursery is not None:
            self._dialing = True
            self._nursery.start_soon(self._make_connection)

    async def _make_connection(self) -> None:
        """Connect, again and again while somebody waits for it and there is no other."""
        try:
            for delay in self._options.backoff.delays():
                try:
                    await self._connect_once()
                except SourceChanged as changed:
                    self._break(changed)
                except TransportError as error:
                    self._last_problem = error
                    logger.info("%s", error)
                    if not self._connections:
                        await trio.sleep(delay)
                        if self._waiting:
                            continue
                    else:
                        self._limit = len(self._connections)  # the server wants no more
                return
        finally:
            self._dialing = False
            self._waiting.unpark_all()

    async def _connect_once(self) -> None:
        connection = await connect(self._uri, self._options, self._tls)
        assert self._nursery is not None
        self._nursery.start_soon(self._serve, connection)
        try:
            await self._verify(connection)
        except BaseException:
            connection.close()
            raise
        if not self._connections:
            self._reconnects += 1
            self._limit = self._options.max_connections if self._agreed.multi_conn else 1
            logger.info("%s: connected again", self._uri)
        self._connections.append(connection)

    async def _verify(self, connection: NbdConnection) -> None:
        """Raise SourceChanged unless a new connection leads to the same disk."""
        if connection.agreed.identity != self._agreed.identity:
            raise SourceChanged(
                f"{self._uri}: the export has changed: size and flags were "
                f"{self._agreed.size}, {self._agreed.flags:#x} and are {connection.agreed.size}, "
                f"{connection.agreed.flags:#x}; mount it anew"
            )
        witness = self._witness
        if witness is None:
            return
        seen = bytearray(witness.length)
        try:
            reply = await connection.read(witness.offset, memoryview(seen))
        except ConnectionLost as lost:
            raise TransportError(f"{self._uri}: lost again at once: {lost}") from lost
        if reply.error:
            raise self._server_error(reply, f"{witness.length} bytes at {witness.offset:#x}", 1)
        if _digest(seen) != witness.digest:
            raise SourceChanged(
                f"{self._uri}: the bytes at {witness.offset:#x} have changed since the first read: "
                "another disk, or one that is written to; mount it anew, from a snapshot"
            )

    async def _serve(self, connection: NbdConnection) -> None:
        """Run a connection to its end."""
        try:
            await connection.run(self._waiting.unpark)
        finally:
            if connection in self._connections:
                self._connections.remove(connection)
                if self._broken is None:
                    logger.info("%s: connection lost: %s", self._uri, connection.failure)
            self._waiting.unpark_all()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the transport's tasks until it is closed."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for connection in self._connections:
                    nursery.start_soon(self._serve, connection)
                if self._options.keepalive_interval is not None:
                    nursery.start_soon(self._keep_alive, self._options.keepalive_interval)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._break(TransportClosed(f"{self._uri}: the transport is closed"))
            self._ended.set()

    async def _keep_alive(self, interval: float) -> None:
        """Use connections that would be idle for longer than the interval."""
        sink = bytearray(min(max(KEEPALIVE_READ, self._agreed.min_block), self.size))
        while sink:
            await trio.sleep(interval / 2)
            for connection in list(self._connections):
                if trio.current_time() - connection.heard >= interval / 2:
                    with contextlib.suppress(ConnectionLost):  # the next read makes another
                        await connection.read(0, memoryview(sink))

    def _break(self, why: TransportError) -> None:
        """Let every read fail from now on."""
        if self._broken is None:
            self._broken = why
        for connection in list(self._connections):
            connection.close()
        self._waiting.unpark_all()

    async def aclose(self) -> None:
        """Say goodbye to the server and end all tasks. May be called again."""
        self._break(TransportClosed(f"{self._uri}: the transport is closed"))
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
        await self._ended.wait()

    # Telling

    def stats(self) -> TransportStats:
        """Return the counters as they are now."""
        return TransportStats(
            requests=self._requests,
            bytes_received=self._bytes,
            in_flight=sum(connection.in_flight for connection in self._connections),
            retries=self._retries,
            reconnects=self._reconnects,
            latency=self._latency / self._requests if self._requests else 0.0,
        )

    def describe(self) -> dict[str, object]:
        """Return what a user may want to know of the connection. Holds no secret; fits JSON."""
        agreed = self._agreed
        return {
            "uri": str(self._uri),
            "export": self._uri.export,
            "description": agreed.description,
            "handshake": agreed.handshake,
            "features": agreed.features,
            "block_sizes": [agreed.min_block, agreed.preferred_block, agreed.max_block],
            "tls": self._connections[0].tls if self._connections else None,
            "connections": len(self._connections),
            "max_connections": self._limit,
            "max_read": self.max_read,
        }


def _multiple(value: int, block: int) -> int:
    """Round down to a multiple of a block, but not to nothing."""
    return max(value // block * block, block)


def _cut(length: int, most: int) -> Iterator[Span]:
    for start in range(0, length, most):
        yield Span(start, min(most, length - start))


def _clip(position: int, count: int, zero: bool, start: int, end: int) -> Extent:
    low, high = max(position, start), min(position + count, end)
    return Extent(low, high - low, zero)


def _append(extents: list[Extent], extent: Extent) -> None:
    """Add an extent, to its neighbour if they are alike."""
    if extent.length <= 0:
        return
    if extents and extents[-1].zero == extent.zero:
        last = extents[-1]
        extents[-1] = Extent(last.offset, last.length + extent.length, last.zero)
    else:
        extents.append(extent)


def _digest(data: Buffer) -> bytes:
    return hashlib.sha256(data).digest()
