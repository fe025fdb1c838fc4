"""The transmission phase of NBD as bytes and values: no sockets, no event loop.

Source: "The NBD protocol", NetworkBlockDevice/nbd doc/proto.md. Only READ, BLOCK_STATUS and DISC are
ever encoded: nothing here can write to a disk.

Strategy: `buffer` says where the next bytes of the stream belong, `received` how many have come.
Headers gather in a small buffer of the codec's own; a payload goes where its request wants it, so that
bulk data is copied once, by the kernel. The grammar of replies is one generator, `_replies`: it yields
the number of bytes it needs next, or the memoryview that it needs filled.

A server may lie. Whatever does not answer a request of ours exactly (another cookie, a chunk outside
its request, bytes covered twice or not at all) raises NbdProtocolError, and the stream is of no more
use. Memory is bounded by what the caller asked for plus MAX_STATUS_PAYLOAD.
"""

from __future__ import annotations

import struct
from bisect import bisect
from collections.abc import Generator, Sequence
from typing import NamedTuple

from vmount.parsers.reader import Buffer

REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
STRUCTURED_REPLY_MAGIC = 0x668E33EF

CMD_READ, CMD_DISC, CMD_BLOCK_STATUS = 0, 2, 7

REPLY_FLAG_DONE = 1
REPLY_NONE, REPLY_OFFSET_DATA, REPLY_OFFSET_HOLE, REPLY_BLOCK_STATUS = 0, 1, 2, 5
REPLY_ERROR, REPLY_ERROR_OFFSET = 0x8001, 0x8002
REPLY_ERROR_BIT = 0x8000

STATE_HOLE, STATE_ZERO = 1, 2

MAX_REQUEST = 32 << 20
"""Bytes that a read may ask for: what every server takes (doc/proto.md, block size constraints)."""
MAX_STATUS_PAYLOAD = 4 + 8 * (1 << 20)
"""A million extents, the most that nbdkit sends; qemu-nbd stops at an eighth of that."""
MAX_EXTENTS = 1 << 17
"""Extents of a reply that are decoded. The rest can be asked for again; objects for them all would take
a hundred megabytes."""
MAX_ERROR_PAYLOAD = 6 + 4096 + 64
"""A string of the protocol has at most 4096 bytes; the rest is for fields to come."""
SMALLEST_CHUNK = 512
"""Bytes of data or hole that a chunk has on average at least: a sector."""
SPARE_CHUNKS = 16
"""Chunks of a reply besides those: errors, an empty one at the end, a block status."""
GATHER = 8192
"""Bytes of the header buffer. More would copy more of each payload, less would cost small reads a
second system call."""

_REQUEST = struct.Struct(">IHHQQI")
_HEAD = struct.Struct(">IIQ")
_LENGTH = struct.Struct(">I")
_DATA_AT = struct.Struct(">Q")
_HOLE = struct.Struct(">QI")
_ERROR = struct.Struct(">IH")
_DESCRIPTOR = struct.Struct(">II")


class NbdProtocolError(Exception):
    """The other end does not keep to the protocol."""


class StatusExtent(NamedTuple):
    """One descriptor of a block status reply."""

    length: int
    flags: int
    """STATE_HOLE, STATE_ZERO."""


class Reply(NamedTuple):
    """The end of a request."""

    cookie: int
    error: int = 0
    """The protocol's error number; 0: the destination is filled, or `extents` are there."""
    message: str = ""
    """What the server says of the error."""
    extents: Sequence[StatusExtent] = ()


class _Pending:
    """A request that waits for its reply."""

    __slots__ = (
        "chunks",
        "covered",
        "error",
        "extents",
        "into",
        "length",
        "message",
        "offset",
        "spans",
    )

    def __init__(self, offset: int, length: int, into: memoryview | None) -> None:
        self.offset = offset
        self.length = length
        self.into = into
        """The destination of a read; None for a block status."""
        self.spans: list[tuple[int, int]] = []
        """Disjoint ranges of the destination that chunks have filled, in order."""
        self.covered = 0
        self.chunks = 0
        self.error = 0
        self.message = ""
        self.extents: Sequence[StatusExtent] = ()

    def cover(self, offset: int, length: int) -> memoryview:
        """Note that a chunk brings a range of the disk; return the part of the destination."""
        if self.into is None:
            raise NbdProtocolError("a data chunk in reply to a block status request")
        start = offset - self.offset
        end = start + length
        if length == 0 or start < 0 or end > self.length:
            raise NbdProtocolError(
                f"a chunk of {length} bytes at {offset:#x} in reply to a read of "
                f"{self.length} bytes at {self.offset:#x}"
            )
        spans = self.spans
        at = bisect(spans, (start, end))
        if (at and spans[at - 1][1] > start) or (at < len(spans) and spans[at][0] < end):
            raise NbdProtocolError(f"two chunks for the bytes at {offset:#x}")
        if at and spans[at - 1][1] == start:
            spans[at - 1] = (spans[at - 1][0], end)
        else:
            spans.insert(at, (start, end))
        self.covered += length
        return self.into[start:end]

    def count_chunk(self) -> None:
        """Note a chunk of whatever kind. Raises NbdProtocolError if there are more than an honest reply has."""
        self.chunks += 1
        most = SPARE_CHUNKS + (0 if self.into is None else self.length // SMALLEST_CHUNK)
        if self.chunks > most:
            raise NbdProtocolError(f"{self.chunks} chunks in reply to one request")

    def fail(self, error: int, message: str) -> None:
        """Note an error chunk; the first one counts."""
        if error == 0:
            raise NbdProtocolError("an error chunk with error 0")
        if self.error == 0:
            self.error, self.message = error, message


class Transmission:
    """One connection's requests and replies, after the handshake."""

    def __init__(self, *, structured: bool, context: int | None = None) -> None:
        self._structured = structured
        self._context = context
        """The id of base:allocation."""
        self._pending: dict[int, _Pending] = {}
        self._cookie = 0
        self._gather = memoryview(bytearray(GATHER))
        self._start = self._end = 0
        self._failed: NbdProtocolError | None = None
        self._done: list[Reply] = []
        self._grammar = self._replies()
        self._want = next(self._grammar)

    @property
    def in_flight(self) -> int:
        """Requests without a reply yet."""
        return len(self._pending)

    def read(self, offset: int, into: memoryview) -> tuple[int, bytes]:
        """Return the cookie and the encoding of a read that fills `into`.

        The destination belongs to the codec until the reply is there.
        """
        if not 0 < len(into) <= MAX_REQUEST:
            raise ValueError(f"a read of {len(into)} bytes")
        return self._request(CMD_READ, offset, len(into), into)

    def block_status(self, offset: int, length: int) -> tuple[int, bytes]:
        """Return the cookie and the encoding of a question for extents; needs a context."""
        if self._context is None:
            raise ValueError("no metadata context was negotiated")
        return self._request(CMD_BLOCK_STATUS, offset, length, None)

    def _request(
        self, command: int, offset: int, length: int, into: memoryview | None
    ) -> tuple[int, bytes]:
        self._cookie += 1
        self._pending[self._cookie] = _Pending(offset, length, into)
        return self._cookie, _REQUEST.pack(REQUEST_MAGIC, 0, command, self._cookie, offset, length)

    @staticmethod
    def disconnect() -> bytes:
        """Return the encoding of the goodbye, which has no reply."""
        return _REQUEST.pack(REQUEST_MAGIC, 0, CMD_DISC, 0, 0, 0)

    def buffer(self) -> memoryview:
        """Return where the next bytes of the stream belong; never empty."""
        if isinstance(self._want, memoryview):
            return self._want
        return self._gather[self._end :]

    def received(self, count: int) -> list[Reply]:
        """Take note that `buffer` has been filled with `count` bytes; return what ended by that.

        Raises NbdProtocolError, then and ever after.
        """
        if self._failed is not None:
            raise self._failed
        try:
            if isinstance(self._want, memoryview):
                self._want = self._want[count:]
                if not self._want:
                    self._want = self._grammar.send(b"")
            else:
                self._end += count
            self._digest()
        except NbdProtocolError as error:
            self._failed = error
            raise
        done, self._done = self._done, []
        return done

    def abandon(self) -> None:
        """Let go of the destinations of all requests: no more of the stream will be received."""
        self._grammar.close()
        self._pending.clear()
        self._failed = NbdProtocolError("the connection was closed")

    def _digest(self) -> None:
        """Give the grammar what has gathered."""
        while True:
            want = self._want
            have = self._end - self._start
            if isinstance(want, memoryview):
                count = min(have, len(want))
                want[:count] = self._gather[self._start : self._start + count]
                self._start += count
                if count < len(want):
                    self._want = want[count:]
                    break
                self._want = self._grammar.send(b"")
            elif have >= want:
                self._start += want
                self._want = self._grammar.send(self._gather[self._start - want : self._start])
            else:
                break
        rest = self._end - self._start
        if self._start and rest:
            self._gather[:rest] = bytes(self._gather[self._start : self._end])
        self._start, self._end = 0, rest

    def _replies(self) -> Generator[int | memoryview, Buffer, None]:
        """Parse replies, for ever."""
        while True:
            magic, word, cookie = _HEAD.unpack((yield _HEAD.size))
            if magic not in (SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC):
                raise NbdProtocolError(f"a reply with magic {magic:#010x}")
            pending = self._pending.get(cookie)
            if pending is None:
                raise NbdProtocolError(f"a reply to {cookie:#x}, which was never requested")
            if magic == SIMPLE_REPLY_MAGIC:
                yield from self._simple(pending, word)
                self._finish(cookie, pending)
                continue
            if not self._structured:
                raise NbdProtocolError("a structured reply that was not negotiated")
            (length,) = _LENGTH.unpack((yield _LENGTH.size))
            pending.count_chunk()
            yield from self._chunk(pending, word & 0xFFFF, length)
            if word >> 16 & REPLY_FLAG_DONE:
                self._finish(cookie, pending)

    def _simple(self, pending: _Pending, error: int) -> Generator[int | memoryview, Buffer, None]:
        if error:
            if self._structured and pending.into is not None:
                raise NbdProtocolError(
                    "a simple reply to a read, with structured replies negotiated"
                )
            pending.fail(error, "")
        elif self._structured or pending.into is None:
            raise NbdProtocolError("a simple reply, with structured replies negotiated")
        else:
            yield pending.cover(pending.offset, pending.length)

    def _chunk(
        self, pending: _Pending, kind: int, length: int
    ) -> Generator[int | memoryview, Buffer, None]:
        if kind == REPLY_OFFSET_DATA:
            if length <= _DATA_AT.size:
                raise NbdProtocolError(f"a data chunk of length {length}")
            (offset,) = _DATA_AT.unpack((yield _DATA_AT.size))
            yield pending.cover(offset, length - _DATA_AT.size)
        elif kind == REPLY_OFFSET_HOLE:
            if length != _HOLE.size:
                raise NbdProtocolError(f"a hole chunk of length {length}")
            offset, size = _HOLE.unpack((yield _HOLE.size))
            pending.cover(offset, size)[:] = bytes(size)
        elif kind == REPLY_BLOCK_STATUS:
            yield from self._status(pending, length)
        elif kind & REPLY_ERROR_BIT:
            if not _ERROR.size <= length <= MAX_ERROR_PAYLOAD:
                raise NbdProtocolError(f"an error chunk of length {length}")
            payload = bytes((yield length))
            error, size = _ERROR.unpack_from(payload)
            if size > length - _ERROR.size:
                raise NbdProtocolError(f"an error message of {size} bytes in a chunk of {length}")
            text = payload[_ERROR.size : _ERROR.size + size]
            pending.fail(error, server_text(text))
        elif kind != REPLY_NONE or length:
            raise NbdProtocolError(f"a chunk of type {kind} and length {length}")

    def _status(self, pending: _Pending, length: int) -> Generator[int | memoryview, Buffer, None]:
        if pending.into is not None or pending.extents:
            raise NbdProtocolError("a block status chunk that was not requested")
        if length < 12 or length % 8 != 4 or length > MAX_STATUS_PAYLOAD:
            raise NbdProtocolError(f"a block status chunk of length {length}")
        payload = bytearray(length)
        yield memoryview(payload)
        (context,) = _LENGTH.unpack_from(payload)
        if context != self._context:
            raise NbdProtocolError(f"block status of context {context}, which was not negotiated")
        descriptors = memoryview(payload)[4 : 4 + MAX_EXTENTS * _DESCRIPTOR.size]
        extents = [StatusExtent(*pair) for pair in _DESCRIPTOR.iter_unpack(descriptors)]
        described = sum(extent.length for extent in extents)
        # The last extent may go on past the request; the one before it may not.
        if not all(extent.length for extent in extents) or (
            described - extents[-1].length >= pending.length
        ):
            raise NbdProtocolError(
                f"{len(extents)} extents of {described} bytes in reply to a request for "
                f"{pending.length}"
            )
        pending.extents = extents

    def _finish(self, cookie: int, pending: _Pending) -> None:
        del self._pending[cookie]
        if pending.error:
            self._done.append(Reply(cookie, pending.error, pending.message))
            return
        if pending.into is not None and pending.covered != pending.length:
            raise NbdProtocolError(
                f"a reply with {pending.covered} of the {pending.length} bytes at {pending.offset:#x}"
            )
        if pending.into is None and not pending.extents:
            raise NbdProtocolError("a reply without the requested block status")
        self._done.append(Reply(cookie, extents=pending.extents))


def server_text(text: bytes) -> str:
    """Return a server's string as one line that is safe to show."""
    decoded = text.decode(errors="replace")
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in decoded
    )
