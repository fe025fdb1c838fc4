"""An NBD export as a backend: reads of any size, repeated until they succeed or their time is up.

Strategy: a read is cut into requests that the server takes, which are under way at the same time on
several connections (nbd_pool). A request whose connection is lost is sent again on another, until the
deadline of the read; an answer of the server that is an error is asked for again a few times.

Block status is passed on as the hint that it is; reads never depend on it.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

import trio

from vmount.backends.base import BackendRefused, BackendStats, BackendTimeout, Extent
from vmount.backends.nbd.connection import ConnectionLost, connect, open_channel
from vmount.backends.nbd.handshake import ExportInfo, list_dialogue
from vmount.backends.nbd.options import NbdOptions, make_tls
from vmount.backends.nbd.pool import NbdPool, server_error
from vmount.backends.nbd.uri import NbdUri, NbdUriError, parse_nbd_uri
from vmount.backends.nbd.wire import STATE_ZERO, NbdProtocolError
from vmount.backends.requests import Counters, cut, run_together
from vmount.parsers.reader import Buffer, Span, check_bounds

__all__ = ["ExportInfo", "NbdBackend", "NbdOptions", "NbdUriError", "list_exports", "open_nbd"]

DEFAULTS = NbdOptions()
STATUS_SPAN = 1 << 30
"""Bytes that one block status request asks about: a few thousand extents on a usual disk."""
MAX_EXTENTS = 1 << 17
"""Extents that `allocated` tells apart; what comes after them counts as data. A million objects for a
hint, from a server that means no good, would be too many."""
MAX_WORKERS = 64
"""Requests of one read that are under way at the same time."""

_LASTING = {errno.EPERM, errno.EINVAL, errno.EOVERFLOW, errno.ENOTSUP}
"""Errors of a server that asking again does not cure."""


async def open_nbd(uri: str, nursery: trio.Nursery, options: NbdOptions = DEFAULTS) -> NbdBackend:
    """Connect to an export. Its tasks live in `nursery` until `aclose`.

    Raises NbdUriError, BackendError.
    """
    parsed = parse_nbd_uri(uri)
    tls = make_tls(parsed, options) if parsed.tls else None
    first = await connect(parsed, options, tls)
    pool = NbdPool(parsed, options, tls, first)
    try:
        await nursery.start(pool.run)
    except BaseException:
        first.close()
        raise
    return NbdBackend(parsed, options, pool)


async def list_exports(uri: str, options: NbdOptions = DEFAULTS) -> Sequence[ExportInfo]:
    """Return the exports of the server of a URI, whatever export the URI names.

    Raises NbdUriError, BackendError.
    """
    parsed = parse_nbd_uri(uri)
    tls = make_tls(parsed, options) if parsed.tls else None
    channel, exports = await open_channel(parsed, options, tls, list_dialogue(tls=tls is not None))
    channel.close()
    return exports


class NbdBackend:
    """A Backend; see open_nbd."""

    def __init__(self, uri: NbdUri, options: NbdOptions, pool: NbdPool) -> None:
        agreed = pool.agreed
        self.size = agreed.size
        self.max_read = _multiple(min(agreed.max_block, options.max_request), agreed.min_block)
        self._uri = uri
        self._options = options
        self._agreed = agreed
        self._pool = pool
        self._counters = Counters()

    async def read(self, offset: int, length: int) -> Buffer:
        """Return exactly `length` bytes. Raises OutOfBounds, BackendError."""
        check_bounds(offset, length, self.size)
        if length == 0:
            await trio.lowlevel.checkpoint()
            return b""
        start, end = self._aligned(offset, length)
        data = bytearray(end - start)
        began, answers = trio.current_time(), self._counters.requests
        if not await self._read_at_once(start, memoryview(data)):
            with trio.move_on_at(began + self._options.total_timeout) as scope:
                await self._fill(start, memoryview(data))
            if scope.cancelled_caught:
                error = self._too_late()
                if self._counters.requests == answers:
                    self._pool.give_up(error)
                raise error
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
                told: Sequence[tuple[int, bool]] = [(end - position, False)]
                if len(extents) < MAX_EXTENTS:
                    told = await self._status(position, min(end - position, STATUS_SPAN))
                for count, zero in told:
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

    async def _read_at_once(self, start: int, view: memoryview) -> bool:
        """Fill `view` by one request if a connection has room for it now, and say whether that went well.

        Needs no deadline, which would cost as much as the request: a connection gives itself up when it owes
        a reply for longer than a read may take.
        """
        connection = self._pool.idle()
        if connection is None or len(view) > self.max_read:
            return False
        began = trio.current_time()
        try:
            reply = await connection.read(start, view)
        except ConnectionLost as lost:
            self._pool.last_problem = lost.cause
            self._counters.retries += 1
            return False
        if reply.error:
            self._counters.retries += 1
            return False
        self._count(began, start, view)
        return True

    async def _fill(self, start: int, view: memoryview) -> None:
        """Read into `view`, cut into requests that are under way at the same time."""
        if len(view) <= self.max_read:
            await self._request(start, view)
            return

        async def request(part: Span) -> None:
            await self._request(start + part.offset, view[part.offset : part.offset + part.length])

        tasks = min(MAX_WORKERS, -(-len(view) // self.max_read))
        await run_together(cut(len(view), self.max_read), request, tasks)

    async def _request(self, offset: int, view: memoryview) -> None:
        """Fill `view` by one request, repeated as need be."""
        errors = 0
        delays = self._options.backoff.delays()
        while True:
            connection = await self._pool.connection()
            began = trio.current_time()
            try:
                reply = await connection.read(offset, view)
            except ConnectionLost as lost:
                await self._after_loss(lost, next(delays))
                continue
            if reply.error == 0:
                break
            errors += 1
            if reply.error in _LASTING or errors > self._options.max_errors:
                raise server_error(self._uri, reply, offset, len(view), errors)
            self._counters.retries += 1
            await trio.sleep(next(delays))
        self._count(began, offset, view)

    def _count(self, began: float, offset: int, view: memoryview) -> None:
        """Note a request that went well."""
        self._counters.answered(began, len(view))
        self._pool.remember(offset, view)

    async def _status(self, position: int, length: int) -> Sequence[tuple[int, bool]]:
        """Return lengths and whether they are zero; they describe at least one byte."""
        delays = self._options.backoff.delays()
        while self._agreed.context is not None:
            connection = await self._pool.connection()
            if connection.agreed.context is None:
                break
            try:
                reply = await connection.block_status(position, length)
            except ConnectionLost as lost:
                await self._after_loss(lost, next(delays))
                continue
            if reply.error:
                break
            return [(count, bool(flags & STATE_ZERO)) for count, flags in reply.extents]
        return [(length, False)]

    async def _after_loss(self, lost: ConnectionLost, delay: float) -> None:
        """Raise if trying again is of no use, else wait a little."""
        self._pool.last_problem = lost.cause
        self._pool.check()
        if isinstance(lost.cause, NbdProtocolError):
            raise BackendRefused(
                f"{self._uri}: the server broke the NBD protocol: {lost.cause}; its answer is discarded"
            ) from lost
        self._counters.retries += 1
        await trio.sleep(delay)

    def _too_late(self) -> BackendTimeout:
        last = (
            f"; last error: {self._pool.last_problem}"
            if self._pool.last_problem is not None
            else ""
        )
        return BackendTimeout(
            f"{self._uri}: not read within {self._options.total_timeout:g} s{last}; "
            "is the server up and reachable?"
        )

    def stats(self) -> BackendStats:
        """Return the counters as they are now."""
        return self._counters.stats(
            in_flight=self._pool.in_flight, reconnects=self._pool.reconnects
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
            "max_read": self.max_read,
            **self._pool.describe(),
        }

    async def aclose(self) -> None:
        """Say goodbye to the server and end all tasks. May be called again."""
        await self._pool.aclose()


def _multiple(value: int, block: int) -> int:
    """Round down to a multiple of a block, but not to nothing."""
    return max(value // block * block, block)


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
