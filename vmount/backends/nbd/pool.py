"""The connections to one NBD export: made when needed, replaced when lost, held to one and the same disk.

Strategy: a request goes to the connection with the fewest in flight. Another one is made while those
there are have enough to do, if the server says that several see the same disk. A new connection is used
only if it has the same export (size, flags, block sizes) and still gives the bytes that the first read
gave: a server that comes back with another disk breaks the pool for good.

A server that has answered nothing for the whole time of a read is given up: all reads fail at once until the
one task that goes on trying has reached it again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
from typing import NamedTuple

import trio

from vmount.backends.base import BackendClosed, BackendError, SourceChanged
from vmount.backends.channel import Tls
from vmount.backends.nbd.connection import ConnectionLost, NbdConnection, connect
from vmount.backends.nbd.options import NbdOptions
from vmount.backends.nbd.uri import NbdUri
from vmount.backends.nbd.wire import Reply
from vmount.backends.requests import fresh
from vmount.parsers.reader import Buffer

logger = logging.getLogger(__name__)

BUSY = 2
"""Requests in flight on the least busy connection that make another one worth while."""
WITNESS = 4096
"""Bytes of the first read that every further connection has to give again."""
KEEPALIVE_READ = 512

_KNOWN = {
    errno.EPERM,
    errno.EIO,
    errno.ENOMEM,
    errno.EINVAL,
    errno.ENOSPC,
    errno.EOVERFLOW,
    errno.ENOTSUP,
    errno.ESHUTDOWN,
}
"""The error numbers of the NBD protocol; they are Linux's."""


class _Fingerprint(NamedTuple):
    offset: int
    length: int
    digest: bytes


class NbdPool:
    """Connections to one export. `run` must run."""

    def __init__(
        self, uri: NbdUri, options: NbdOptions, tls: Tls | None, first: NbdConnection
    ) -> None:
        self.agreed = first.agreed
        self.reconnects = 0
        self.last_problem: Exception | None = None
        """What went wrong last with a connection."""
        self._uri = uri
        self._options = options
        self._tls = tls
        self._connections = [first]
        self._limit = self._most
        self._dialing = False
        self._waiting = trio.lowlevel.ParkingLot()
        """Readers that need a connection, or room on one."""
        self._fingerprint: _Fingerprint | None = None
        self._broken: BackendError | None = None
        """Why no read can succeed any more."""
        self._given_up: OSError | None = None
        """Why no read can succeed until the server answers again."""
        self._nursery: trio.Nursery | None = None
        self._ended = trio.Event()

    @property
    def _most(self) -> int:
        return self._options.max_connections if self.agreed.multi_conn else 1

    @property
    def in_flight(self) -> int:
        """Requests without a reply."""
        return sum(connection.in_flight for connection in self._connections)

    def describe(self) -> dict[str, object]:
        """Return the state of the connections."""
        return {
            "tls": self._connections[0].tls if self._connections else None,
            "connections": len(self._connections),
            "max_connections": self._limit,
        }

    def check(self) -> None:
        """Raise if no read can succeed any more, or none until the server answers again."""
        why = self._broken or self._given_up
        if why is not None:
            raise fresh(why)

    def give_up(self, why: BackendError) -> None:
        """Let all reads fail at once until the server answers: it has not for the whole time of a read."""
        if self._broken is not None or self._given_up is not None:
            return
        self._given_up = fresh(why)
        logger.warning("%s: no answer: all reads fail until it answers again", self._uri)
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()
        self._waiting.unpark_all()
        self._dial()

    def remember(self, offset: int, data: memoryview) -> None:
        """Take bytes that were read as what further connections have to show, unless there are some."""
        if self._fingerprint is None:
            seen = min(len(data), max(WITNESS, self.agreed.min_block))
            self._fingerprint = _Fingerprint(offset, seen, _digest(data[:seen]))

    async def connection(self) -> NbdConnection:
        """Return a connection with room for a request; wait for one."""
        while True:
            self.check()
            found = self.idle()
            if found is not None:
                return found
            await self._waiting.park()

    def idle(self) -> NbdConnection | None:
        """Return the connection with most room for a request, if any has some."""
        if self._broken is not None or self._given_up is not None:
            return None
        live = [each for each in self._connections if each.failure is None]
        best = min(live, key=lambda each: each.in_flight, default=None)
        load = best.in_flight if best is not None else 0
        if len(live) < self._limit and (best is None or load >= BUSY):
            self._dial()
        return best if load < self._options.max_in_flight else None

    def _dial(self) -> None:
        """See to it that one more connection is being made."""
        if not self._dialing and self._nursery is not None:
            self._dialing = True
            self._nursery.start_soon(self._make_connection)

    async def _make_connection(self) -> None:
        """Connect, repeatedly while there is no connection and a task waits for one, or the server was
        given up."""
        try:
            for delay in self._options.backoff.delays():
                try:
                    await self._connect_once()
                except SourceChanged as changed:
                    self._break(changed)
                except BackendError as error:
                    if str(error) != str(self.last_problem):
                        logger.info("%s", error)
                    self.last_problem = fresh(error)
                    if not self._connections:
                        await trio.sleep(delay)
                        if self._waiting or self._given_up is not None:
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
            self.reconnects += 1
            self._limit = self._most
            self._given_up = None
            logger.info("%s: connected again", self._uri)
        self._connections.append(connection)

    async def _verify(self, connection: NbdConnection) -> None:
        """Raise SourceChanged unless a new connection leads to the same disk."""
        if connection.agreed.identity != self.agreed.identity:
            raise SourceChanged(
                f"{self._uri}: the export has changed: size and flags were "
                f"{self.agreed.size}, {self.agreed.flags:#x} and are {connection.agreed.size}, "
                f"{connection.agreed.flags:#x}; mount it again"
            )
        fingerprint = self._fingerprint
        if fingerprint is None:
            return
        seen = bytearray(fingerprint.length)
        try:
            reply = await connection.read(fingerprint.offset, memoryview(seen))
        except ConnectionLost as lost:
            raise BackendError(f"{self._uri}: connection lost again immediately: {lost}") from lost
        if reply.error:
            raise server_error(self._uri, reply, fingerprint.offset, fingerprint.length, 1)
        if _digest(seen) != fingerprint.digest:
            raise SourceChanged(
                f"{self._uri}: the bytes at {fingerprint.offset:#x} have changed since the first read: "
                "it is another disk, or a program writes to it; mount it again, from a snapshot"
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
        """Run the backend's tasks until it is closed."""
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
            self._break(BackendClosed(f"{self._uri}: closed"))
            self._ended.set()

    async def _keep_alive(self, interval: float) -> None:
        """Use connections that would be idle for longer than the interval."""
        sink = bytearray(min(max(KEEPALIVE_READ, self.agreed.min_block), self.agreed.size))
        while sink:
            await trio.sleep(interval / 2)
            for connection in list(self._connections):
                if trio.current_time() - connection.heard >= interval / 2:
                    with contextlib.suppress(ConnectionLost):  # the next read makes another
                        await connection.read(0, memoryview(sink))

    def _break(self, why: BackendError) -> None:
        """Let every read fail from now on."""
        if self._broken is None:
            self._broken = why
        for connection in list(self._connections):
            connection.close()
        self._waiting.unpark_all()

    async def aclose(self) -> None:
        """Say goodbye to the server and end all tasks. May be called again."""
        self._break(BackendClosed(f"{self._uri}: closed"))
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
        await self._ended.wait()


def server_error(uri: NbdUri, reply: Reply, offset: int, length: int, times: int) -> BackendError:
    """Return the exception for an answer that is an error."""
    code = reply.error if reply.error in _KNOWN else errno.EIO
    name = errno.errorcode.get(reply.error, str(reply.error))
    said = f" ({reply.message})" if reply.message else ""
    return BackendError(
        f"{uri}: the server answered {name}{said} to a read of {length} bytes at {offset:#x}"
        f"{f', {times} times' if times > 1 else ''}; see the server's log",
        code=code,
    )


def _digest(data: Buffer) -> bytes:
    return hashlib.sha256(data).digest()
