"""An NBD server whose every word a test decides."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import trio

from tests.support.backends.nbd.servers import listen_unix

STRUCTURED, GO = 8, 7
ACK, INFO, UNSUP = 1, 3, 0x80000001
READ, DISC = 0, 2
HAS_FLAGS, MULTI_CONN = 1, 1 << 8


class Request(NamedTuple):
    """What the client asks."""

    cookie: int
    command: int
    offset: int
    length: int


class Session:
    """A connection of a client."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = b""

    async def receive(self, length: int) -> bytes:
        while len(self._buffer) < length:
            more = await self._stream.receive_some()
            if not more:
                raise EOFError
            self._buffer += more
        data, self._buffer = self._buffer[:length], self._buffer[length:]
        return data

    async def send(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def request(self) -> Request:
        _, _, command, cookie, offset, length = struct.unpack(">IHHQQI", await self.receive(28))
        return Request(cookie, command, offset, length)

    async def answer(self, cookie: int, payload: bytes) -> None:
        """Reply to a read, without structure."""
        await self.send(struct.pack(">IIQ", 0x67446698, 0, cookie) + payload)

    async def hang_up(self) -> None:
        await self._stream.aclose()


Behaviour = Callable[[Session], Awaitable[None]]


@dataclass
class Scripted:
    """The server. `serving` is what it does with a client after the handshake."""

    path: Path
    disk: bytes
    serving: Behaviour | None = None
    flags: int = HAS_FLAGS
    structured: bool = False
    silent: bool = False
    """Accept connections and say nothing."""
    counts: Counter[str] = field(default_factory=Counter)
    """Sessions begun, living, most at a time; reads, goodbyes."""

    @property
    def uri(self) -> str:
        return f"nbd+unix:///?socket={self.path}"

    def __post_init__(self) -> None:
        self._listener = listen_unix(self.path)
        self._listener.setblocking(False)

    async def run(self) -> None:
        """Serve clients; those who came before wait in the backlog."""
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._listener))
        await trio.serve_listeners(self._serve, [listener])

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.counts["begun"] += 1
        self.counts["living"] += 1
        self.counts["most"] = max(self.counts["most"], self.counts["living"])
        session = Session(stream)
        try:
            if self.silent:
                await trio.sleep_forever()
            await self._handshake(session)
            await (self.serving or self.honest)(session)
        except (EOFError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.counts["living"] -= 1
            await stream.aclose()

    async def _handshake(self, session: Session) -> None:
        await session.send(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
        await session.receive(4)
        while True:
            _, option, length = struct.unpack(">8sII", await session.receive(16))
            await session.receive(length)
            if option == GO:
                info = struct.pack(">HQH", 0, len(self.disk), self.flags)
                await self._reply(session, option, INFO, info)
                await self._reply(session, option, ACK)
                return
            known = option == STRUCTURED and self.structured
            await self._reply(session, option, ACK if known else UNSUP)

    @staticmethod
    async def _reply(session: Session, option: int, kind: int, data: bytes = b"") -> None:
        header = struct.pack(">QIII", 0x3E889045565A9, option, kind, len(data))
        await session.send(header + data)

    async def honest(self, session: Session) -> None:
        """Answer every read in turn until the client says goodbye."""
        while await self.serve_one(session):
            pass

    async def serve_one(self, session: Session) -> bool:
        """Answer one read; return False after a goodbye."""
        request = await session.request()
        if request.command == DISC:
            self.counts["goodbyes"] += 1
            return False
        assert request.command == READ
        self.counts["reads"] += 1
        end = request.offset + request.length
        await session.answer(request.cookie, self.disk[request.offset : end])
        return True
