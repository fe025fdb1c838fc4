"""The handshake of NBD as bytes and values: no sockets, no event loop.

Source: "The NBD protocol", NetworkBlockDevice/nbd doc/proto.md, "Handshake phase".

Strategy: a handshake is a conversation in strict turns, so each is a generator that reads like the
specification: it yields `Send`, `Receive` (answered with exactly that many bytes) or `StartTls`, and
returns what was agreed. The caller owns the socket. What a server may make us receive is bounded
by MAX_OPTION_REPLY bytes an answer and MAX_ANSWERS_BYTES an option.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, TypeVar

from vmount.backends.nbd.wire import MAX_REQUEST, NbdProtocolError, server_text

T = TypeVar("T")

MAGIC = b"NBDMAGIC"
MAGIC_NEWSTYLE = b"IHAVEOPT"
MAGIC_OLDSTYLE = bytes.fromhex("0000420281861253")
MAGIC_OPTION_REPLY = 0x3E889045565A9

FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES = 1, 2

OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_STARTTLS, OPT_INFO, OPT_GO = 1, 2, 3, 5, 6, 7
OPT_STRUCTURED_REPLY, OPT_SET_META_CONTEXT = 8, 10
OPT_NAMES = {
    OPT_LIST: "LIST",
    OPT_STARTTLS: "STARTTLS",
    OPT_INFO: "INFO",
    OPT_GO: "GO",
    OPT_STRUCTURED_REPLY: "STRUCTURED_REPLY",
    OPT_SET_META_CONTEXT: "SET_META_CONTEXT",
}

REP_ACK, REP_SERVER, REP_INFO, REP_META_CONTEXT = 1, 2, 3, 4
REP_ERROR_BIT = 1 << 31
REP_ERR_UNSUP, REP_ERR_POLICY, REP_ERR_TLS_REQD, REP_ERR_UNKNOWN = (
    REP_ERROR_BIT + code for code in (1, 2, 5, 6)
)
REP_ERROR_NAMES = {
    REP_ERROR_BIT + code: name
    for code, name in enumerate(
        [
            "UNSUP",
            "POLICY",
            "INVALID",
            "PLATFORM",
            "TLS_REQD",
            "UNKNOWN",
            "SHUTDOWN",
            "BLOCK_SIZE_REQD",
            "TOO_BIG",
        ],
        1,
    )
}

INFO_EXPORT, INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE = 0, 1, 2, 3

TRANSMISSION_FLAGS = {
    1 << bit: name
    for bit, name in enumerate(
        [
            "has_flags",
            "read_only",
            "flush",
            "fua",
            "rotational",
            "trim",
            "write_zeroes",
            "df",
            "multi_conn",
            "resize",
            "cache",
            "fast_zero",
        ]
    )
}
FLAG_MULTI_CONN = 1 << 8

BASE_ALLOCATION = "base:allocation"

MAX_OPTION_REPLY = 16384
"""Bytes of one answer: two strings of at most 4096 bytes and a few numbers, with room to spare."""
MAX_ANSWERS = 64
"""Answers to one option that is not a listing."""
MAX_EXPORTS = 10_000
"""Answers to a listing."""
MAX_ANSWERS_BYTES = 4 << 20
"""Bytes of all the answers to one option."""
MAX_SIZE = (1 << 63) - 1
"""Bytes of an export: the largest offset that Linux has."""
MAX_BLOCK = 64 << 10
"""The largest minimum block size that the specification allows."""

_OPTION = struct.Struct(">8sII")
_OPTION_REPLY = struct.Struct(">QIII")
_EXPORT = struct.Struct(">QH")
_BLOCK_SIZES = struct.Struct(">III")


class Send(NamedTuple):
    """Bytes for the server."""

    data: bytes


class Receive(NamedTuple):
    """Continue with exactly this many bytes from the server."""

    length: int


class StartTls(NamedTuple):
    """Continue when the connection is encrypted."""


Dialogue: TypeAlias = Generator[Send | Receive | StartTls, bytes, T]


class OptionRefused(Exception):
    """The server says no to an option."""

    def __init__(self, option: int, code: int, text: str) -> None:
        name = REP_ERROR_NAMES.get(code, f"{code:#x}")
        super().__init__(f"{OPT_NAMES[option]} refused with {name}" + (f": {text}" if text else ""))
        self.option = option
        self.code = code
        self.text = text


class UnknownExport(OptionRefused):
    """There is no export of that name."""

    def __init__(self, refused: OptionRefused, exports: Sequence[str]) -> None:
        super().__init__(refused.option, refused.code, refused.text)
        self.exports = exports
        """Those there are; empty if the server does not tell."""


@dataclass(frozen=True)
class Negotiated:
    """What an export is, and how it is to be talked to."""

    size: int
    flags: int
    """Transmission flags."""
    min_block: int = 1
    """Offsets and lengths of requests are multiples of this, a power of two."""
    preferred_block: int = 4096
    max_block: int = MAX_REQUEST
    structured: bool = False
    context: int | None = None
    """The id of base:allocation; None: the server has no block status."""
    description: str = ""
    handshake: str = "fixed newstyle"

    @property
    def multi_conn(self) -> bool:
        """Several connections see one and the same disk."""
        return bool(self.flags & FLAG_MULTI_CONN)

    @property
    def identity(self) -> tuple[object, ...]:
        """What another connection to the same export must agree in."""
        return self.size, self.flags, self.min_block, self.max_block, self.structured

    @property
    def features(self) -> list[str]:
        """Names of what the server offers, for people."""
        names = [name for bit, name in TRANSMISSION_FLAGS.items() if self.flags & bit]
        names += ["structured_replies"] if self.structured else []
        return names + (["block_status"] if self.context is not None else [])


class ExportInfo(NamedTuple):
    """An export that a server offers."""

    name: str
    description: str
    size: int | None
    """Bytes; None if the server does not tell."""


def negotiate(export: str, *, tls: bool, block_status: bool = True) -> Dialogue[Negotiated]:
    """Agree on an export and go on to transmission.

    Raises OptionRefused, UnknownExport, NbdProtocolError.
    """
    style, flags = yield from _greet(tls=tls)
    if style == "oldstyle":
        size, word = struct.unpack(">QI", (yield Receive(12)))
        yield Receive(124)
        if export:
            raise NbdProtocolError("an oldstyle server has one export, and it has no name")
        return _checked(Negotiated(size, word & 0xFFFF, handshake=style))
    if style == "newstyle":
        return (yield from _export_name(export, flags, Negotiated(0, 0, handshake=style)))
    agreed = Negotiated(0, 0)
    if (yield from _option(OPT_STRUCTURED_REPLY)) is not None:
        context = (yield from _base_allocation(export)) if block_status else None
        agreed = Negotiated(0, 0, structured=True, context=context)
    try:
        answers = yield from _option(OPT_GO, _info_request(export))
    except OptionRefused as refused:
        if refused.code == REP_ERR_UNKNOWN:
            raise UnknownExport(refused, (yield from _names())) from None
        raise
    if answers is None:
        return (yield from _export_name(export, flags, agreed))
    return _with_info(agreed, answers)


def list_dialogue(*, tls: bool) -> Dialogue[Sequence[ExportInfo]]:
    """Ask for all exports. Raises OptionRefused, NbdProtocolError."""
    style, _flags = yield from _greet(tls=tls)
    if style != "fixed newstyle":
        raise NbdProtocolError(f"a server with {style} handshake cannot list its exports")
    answers = yield from _option(OPT_LIST, limit=MAX_EXPORTS)
    if answers is None:
        raise OptionRefused(OPT_LIST, REP_ERR_UNSUP, "")
    exports = []
    for name, description in map(_server, (data for kind, data in answers if kind == REP_SERVER)):
        size: int | None = None
        try:
            details = yield from _option(OPT_INFO, _info_request(name))
        except OptionRefused:
            details = None
        if details is not None:
            found = _with_info(Negotiated(0, 0), details)
            # nbd-server says 0 of every export that it has not opened.
            size, description = found.size or None, found.description or description
        exports.append(ExportInfo(name, description, size))
    yield Send(_encode(OPT_ABORT))
    return exports


def _greet(*, tls: bool) -> Dialogue[tuple[str, int]]:
    """Take the server's greeting and encrypt; return the style of handshake and the server's flags."""
    magic = yield Receive(16)
    if magic[:8] != MAGIC:
        raise NbdProtocolError(f"the greeting is {server_text(magic[:8])!r}: not an NBD server")
    if magic[8:] == MAGIC_OLDSTYLE:
        style, flags = "oldstyle", 0
    elif magic[8:] == MAGIC_NEWSTYLE:
        (flags,) = struct.unpack(">H", (yield Receive(2)))
        style = "fixed newstyle" if flags & FLAG_FIXED_NEWSTYLE else "newstyle"
        yield Send(struct.pack(">I", flags & (FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES)))
    else:
        raise NbdProtocolError(f"NBDMAGIC is followed by {magic[8:].hex()}")
    if tls:
        if style != "fixed newstyle":
            raise NbdProtocolError(f"a server with {style} handshake has no TLS")
        if (yield from _option(OPT_STARTTLS)) is None:
            raise OptionRefused(OPT_STARTTLS, REP_ERR_UNSUP, "")
        yield StartTls()
    return style, flags


def _option(
    option: int, data: bytes = b"", *, limit: int = MAX_ANSWERS
) -> Dialogue[list[tuple[int, bytes]] | None]:
    """Send an option; return the answers before the ACK, None if the server does not know it."""
    yield Send(_encode(option, data))
    answers: list[tuple[int, bytes]] = []
    total = 0
    while True:
        magic, echoed, kind, length = _OPTION_REPLY.unpack((yield Receive(_OPTION_REPLY.size)))
        if magic != MAGIC_OPTION_REPLY or echoed != option:
            raise NbdProtocolError(
                f"an answer with magic {magic:#x} to option {echoed}; the request was option {option}"
            )
        if length > MAX_OPTION_REPLY:
            raise NbdProtocolError(f"an answer of {length} bytes to option {option}")
        payload = (yield Receive(length)) if length else b""
        if kind == REP_ACK:
            return answers
        if kind == REP_ERR_UNSUP:
            return None
        if kind & REP_ERROR_BIT:
            raise OptionRefused(option, kind, server_text(payload))
        answers.append((kind, payload))
        total += length
        if len(answers) > limit or total > MAX_ANSWERS_BYTES:
            raise NbdProtocolError(
                f"more than {limit} answers or {MAX_ANSWERS_BYTES} bytes to option {option}"
            )


def _encode(option: int, data: bytes = b"") -> bytes:
    return _OPTION.pack(MAGIC_NEWSTYLE, option, len(data)) + data


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack(">I", len(encoded)) + encoded


def _info_request(export: str) -> bytes:
    return _string(export) + struct.pack(">HHH", 2, INFO_DESCRIPTION, INFO_BLOCK_SIZE)


def _base_allocation(export: str) -> Dialogue[int | None]:
    """Select base:allocation; a server that will not is one without block status."""
    query = _string(export) + struct.pack(">I", 1) + _string(BASE_ALLOCATION)
    try:
        answers = yield from _option(OPT_SET_META_CONTEXT, query)
    except OptionRefused:
        return None  # GO will say it again if it is about the export
    for kind, payload in answers or ():
        if kind == REP_META_CONTEXT and payload[4:] == BASE_ALLOCATION.encode():
            return int.from_bytes(payload[:4], "big")
    return None


def _names() -> Dialogue[list[str]]:
    try:
        answers = yield from _option(OPT_LIST, limit=MAX_EXPORTS)
    except OptionRefused:
        return []
    return [_server(payload)[0] for kind, payload in answers or () if kind == REP_SERVER]


def _server(payload: bytes) -> tuple[str, str]:
    """Decode REP_SERVER: name and description."""
    length = int.from_bytes(payload[:4], "big")
    if len(payload) < 4 + length:
        raise NbdProtocolError(f"an export name of {length} bytes in an answer of {len(payload)}")
    try:
        return payload[4 : 4 + length].decode(), server_text(payload[4 + length :])
    except UnicodeDecodeError:
        raise NbdProtocolError("an export name that is not UTF-8") from None


def _export_name(export: str, flags: int, agreed: Negotiated) -> Dialogue[Negotiated]:
    """Choose the export as old servers want it: they hang up if there is none of that name."""
    yield Send(_encode(OPT_EXPORT_NAME, export.encode()))
    size, transmission = _EXPORT.unpack((yield Receive(_EXPORT.size)))
    if not flags & FLAG_NO_ZEROES:
        yield Receive(124)
    return _checked(
        Negotiated(
            size,
            transmission,
            structured=agreed.structured,
            context=agreed.context,
            handshake=agreed.handshake,
        )
    )


def _with_info(agreed: Negotiated, answers: Sequence[tuple[int, bytes]]) -> Negotiated:
    """Add what the answers to GO or INFO say."""
    export: tuple[int, int] | None = None
    blocks, description = (1, 4096, MAX_REQUEST), ""
    for kind, payload in answers:
        if kind != REP_INFO:
            raise NbdProtocolError(f"an answer of type {kind} to a request for an export")
        what, rest = int.from_bytes(payload[:2], "big"), payload[2:]
        if what == INFO_EXPORT and len(rest) == _EXPORT.size:
            export = _EXPORT.unpack(rest)
        elif what == INFO_BLOCK_SIZE and len(rest) == _BLOCK_SIZES.size:
            blocks = _BLOCK_SIZES.unpack(rest)
        elif what == INFO_DESCRIPTION:
            description = server_text(rest)
        elif what in (INFO_EXPORT, INFO_BLOCK_SIZE):
            raise NbdProtocolError(f"information {what} of {len(rest)} bytes")
    if export is None:
        raise NbdProtocolError("no answer contains the size of the export")
    return _checked(
        Negotiated(
            *export,
            *blocks,
            structured=agreed.structured,
            context=agreed.context,
            description=description,
        )
    )


def _checked(found: Negotiated) -> Negotiated:
    if found.size > MAX_SIZE:
        raise NbdProtocolError(f"an export of {found.size} bytes: at most 2**63 - 1")
    low, preferred, high = found.min_block, found.preferred_block, found.max_block
    if not 1 <= low <= MAX_BLOCK or low & (low - 1) or low > preferred or high < low:
        raise NbdProtocolError(f"block sizes {low}, {preferred}, {high}")
    return found
