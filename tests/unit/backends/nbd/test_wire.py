"""The codec of the transmission phase: bytes as the specification has them, in pieces of every size."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.backends.nbd.feeding import feed
from vmount.backends.nbd.wire import (
    GATHER,
    MAX_STATUS_PAYLOAD,
    NbdProtocolError,
    Reply,
    StatusExtent,
    Transmission,
)

DONE = 1
CONTEXT = 7


def simple(cookie: int, error: int = 0) -> bytes:
    return struct.pack(">IIQ", 0x67446698, error, cookie)


def chunk(cookie: int, kind: int, payload: bytes, flags: int = 0, length: int = -1) -> bytes:
    size = len(payload) if length < 0 else length
    return struct.pack(">IHHQI", 0x668E33EF, flags, kind, cookie, size) + payload


def data(cookie: int, offset: int, payload: bytes, flags: int = 0) -> bytes:
    return chunk(cookie, 1, struct.pack(">Q", offset) + payload, flags)


def hole(cookie: int, offset: int, size: int, flags: int = 0) -> bytes:
    return chunk(cookie, 2, struct.pack(">QI", offset, size), flags)


def status(cookie: int, *pairs: tuple[int, int], context: int = CONTEXT) -> bytes:
    words = b"".join(struct.pack(">II", *pair) for pair in pairs)
    return chunk(cookie, 5, struct.pack(">I", context) + words, DONE)


def error(cookie: int, code: int, text: bytes = b"", extra: bytes = b"", flags: int = 0) -> bytes:
    kind = 0x8002 if extra else 0x8001
    return chunk(cookie, kind, struct.pack(">IH", code, len(text)) + text + extra, flags)


def structured() -> Transmission:
    return Transmission(structured=True, context=CONTEXT)


def asked(codec: Transmission, offset: int = 4096, length: int = 1024) -> bytearray:
    into = bytearray(b"\xee" * length)
    codec.read(offset, memoryview(into))
    return into


def test_requests() -> None:
    codec = structured()
    cookie, request = codec.read(0x123456789A, memoryview(bytearray(512)))
    assert cookie == 1
    assert request.hex() == "25609513000000000000000000000001000000123456789a00000200"
    _, request = codec.block_status(512, 1 << 30)
    assert request.hex() == "25609513000000070000000000000002000000000000020040000000"
    assert codec.disconnect().hex() == "2560951300000002" + "00" * 20
    assert codec.in_flight == 2


@pytest.mark.parametrize("piece", [1, 3, 16, 1000, 1 << 20])
def test_simple_replies_out_of_order(piece: int) -> None:
    codec = Transmission(structured=False)
    first, second, third = asked(codec), asked(codec, length=40_000), asked(codec)
    stream = simple(2) + b"b" * 40_000 + simple(3, 5) + simple(1) + b"a" * 1024
    replies = []
    for start in range(0, len(stream), piece):
        replies += feed(codec, stream[start : start + piece])
    assert replies == [Reply(2), Reply(3, 5), Reply(1)]
    assert first == b"a" * 1024
    assert second == b"b" * 40_000
    assert third == b"\xee" * 1024
    assert codec.in_flight == 0


@pytest.mark.parametrize("piece", [1, 7, 20, 1 << 20])
def test_chunks_in_any_order_and_of_two_requests_mixed(piece: int) -> None:
    codec = structured()
    first, second = asked(codec), asked(codec, 0, 10_000)
    stream = (
        data(1, 4096 + 512, b"c" * 512)
        + data(2, 9_000, b"z" * 1000)
        + hole(1, 4096 + 100, 412)
        + data(1, 4096, b"a" * 100, DONE)
        + data(2, 0, b"y" * 9_000)
        + chunk(2, 0, b"", DONE)
    )
    replies = []
    for start in range(0, len(stream), piece):
        replies += feed(codec, stream[start : start + piece])
    assert replies == [Reply(1), Reply(2)]
    assert first == b"a" * 100 + bytes(412) + b"c" * 512
    assert second == b"y" * 9_000 + b"z" * 1000


def test_a_payload_goes_where_it_belongs() -> None:
    codec = structured()
    into = asked(codec, 0, 1 << 20)
    feed(codec, data(1, 0, b"")[:20][:16] + struct.pack(">I", 8 + (1 << 20)) + bytes(8))
    room = codec.buffer()
    assert len(room) == 1 << 20
    room[:5] = b"hello"
    assert into[:5] == b"hello"


def test_errors_of_a_request() -> None:
    codec = structured()
    asked(codec), asked(codec), asked(codec)
    assert feed(codec, error(1, 5, b"bad\nsector\x1b", flags=DONE)) == [
        Reply(1, 5, "bad\ufffdsector\ufffd")
    ]
    at = struct.pack(">Q", 4200)
    stream = data(2, 4096, b"x" * 1024) + error(2, 12, b"", at) + chunk(2, 0, b"", DONE)
    assert feed(codec, stream) == [Reply(2, 12)]
    assert feed(codec, chunk(3, 0x8123, struct.pack(">IH", 9, 0), DONE)) == [Reply(3, 9)]


def test_block_status() -> None:
    codec = structured()
    codec.block_status(0, 1000)
    assert feed(codec, status(1, (600, 0), (400, 3))) == [
        Reply(1, extents=[StatusExtent(600, 0), StatusExtent(400, 3)])
    ]
    codec.block_status(0, 1000)  # the last extent may reach further than was asked
    assert feed(codec, status(2, (999, 0), (1 << 20, 3)))[0].extents[1].length == 1 << 20
    codec.block_status(0, 1000)  # or not so far
    assert feed(codec, status(3, (1, 0))) == [Reply(3, extents=[StatusExtent(1, 0)])]
    codec.block_status(0, 1000)
    assert feed(codec, simple(4, 22)) == [Reply(4, 22)]


READ_LIES = {
    "bad magic": bytes(16),
    "never asked": data(99, 4096, b"x"),
    "simple, though structured": simple(1) + b"x" * 1024,
    "simple error, though structured": simple(1, 5),
    "before the request": data(1, 4095, b"x"),
    "after the request": data(1, 4096 + 1024, b"x"),
    "over its end": data(1, 4096 + 1000, b"x" * 25),
    "far away": data(1, (1 << 64) - 1, b"x"),
    "more than asked": data(1, 4096, b"x" * 1025),
    "a huge length": chunk(1, 1, bytes(8), length=0xFFFFFFFF),
    "no data": data(1, 4096, b""),
    "a short data chunk": chunk(1, 1, b"1234"),
    "twice the same": data(1, 4096, b"x" * 10) * 2,
    "overlap": data(1, 4096, b"x" * 10) + hole(1, 4105, 1),
    "overlap from before": data(1, 4100, b"x" * 10) + hole(1, 4096, 5),
    "overlap all": hole(1, 4100, 1) + hole(1, 4110, 1) + data(1, 4096, b"x" * 1024),
    "a hole of nothing": hole(1, 4096, 0),
    "a huge hole": hole(1, 4096, 0xFFFFFFFF),
    "a long hole chunk": chunk(1, 2, bytes(13)),
    "not all": data(1, 4096, b"x" * 1023, DONE),
    "nothing at all": chunk(1, 0, b"", DONE),
    "nothing, with a payload": chunk(1, 0, b"x", DONE),
    "block status": status(1, (1, 0)),
    "an unknown type": chunk(1, 3, bytes(8)),
    "error 0": error(1, 0, flags=DONE),
    "a short error": chunk(1, 0x8001, b"1234"),
    "a long error": chunk(1, 0x8001, bytes(6), length=1 << 20),
    "an error message too long": chunk(1, 0x8001, struct.pack(">IH", 5, 100) + b"short"),
    "a reply after the end": data(1, 4096, b"x" * 1024, DONE) + data(1, 4096, b"x"),
    "crumbs": b"".join(hole(1, 4096 + 2 * at, 1) for at in range(500)),
}


@pytest.mark.requirement("R22")
@pytest.mark.parametrize("lie", READ_LIES.values(), ids=READ_LIES)
def test_lies_about_a_read(lie: bytes) -> None:
    codec = structured()
    asked(codec)
    with pytest.raises(NbdProtocolError):
        feed(codec, lie)
    with pytest.raises(NbdProtocolError):
        feed(codec, b"x")


@pytest.mark.parametrize("piece", [chunk(1, 0, b""), error(1, 5)], ids=["empty", "errors"])
@pytest.mark.parametrize("is_read", [True, False])
def test_chunks_without_end_are_refused(piece: bytes, is_read: bool) -> None:
    codec = structured()
    if is_read:
        asked(codec, 4096, 1024)
    else:
        codec.block_status(0, 1 << 30)
    with pytest.raises(NbdProtocolError, match="chunks in reply to one request"):
        feed(codec, piece * 40)


STATUS_LIES = {
    "data": data(1, 0, b"x" * 1000, DONE),
    "hole": hole(1, 0, 1000, DONE),
    "nothing": chunk(1, 0, b"", DONE),
    "another context": status(1, (1, 0), context=8),
    "no extent": status(1),
    "an empty extent": status(1, (0, 0), (1, 0)),
    "an extent after the end": status(1, (1000, 0), (1, 0)),
    "half an extent": chunk(1, 5, bytes(16)),
    "too many": chunk(1, 5, b"", length=MAX_STATUS_PAYLOAD + 8),
    "two answers": status(1, (1000, 0)).replace(b"\0\1\0\5", b"\0\0\0\5") * 2,
}


@pytest.mark.requirement("R32")
@pytest.mark.parametrize("lie", STATUS_LIES.values(), ids=STATUS_LIES)
def test_lies_about_block_status(lie: bytes) -> None:
    codec = structured()
    codec.block_status(0, 1000)
    with pytest.raises(NbdProtocolError):
        feed(codec, lie)


def test_structured_replies_that_were_not_negotiated() -> None:
    codec = Transmission(structured=False)
    asked(codec)
    with pytest.raises(NbdProtocolError, match="not negotiated"):
        feed(codec, data(1, 4096, b"x"))


@st.composite
def covering(draw: st.DrawFn) -> tuple[int, list[tuple[int, int, bool]]]:
    """A length and chunks that cover it once, in any order."""
    length = draw(st.integers(1, 3 * GATHER))
    cuts = sorted(draw(st.sets(st.integers(0, length), max_size=12)) | {0, length})
    chunks = [(a, b, draw(st.booleans())) for a, b in pairwise(cuts)]
    return length, draw(st.permutations(chunks))


@given(covering(), st.integers(1, 2 * GATHER), st.binary(min_size=1, max_size=9))
def test_any_order_and_any_pieces(
    case: tuple[int, list[tuple[int, int, bool]]], piece: int, pattern: bytes
) -> None:
    length, chunks = case
    codec = structured()
    into = asked(codec, 0, length)
    expected, stream = bytearray(length), b""
    for start, end, zero in chunks:
        if zero:
            stream += hole(1, start, end - start)
        else:
            expected[start:end] = (pattern * length)[: end - start]
            stream += data(1, start, bytes(expected[start:end]))
    stream += chunk(1, 0, b"", DONE)
    replies = []
    for at in range(0, len(stream), piece):
        replies += feed(codec, stream[at : at + piece])
    assert replies == [Reply(1)]
    assert into == expected


fragments = st.one_of(
    st.binary(max_size=40),
    st.builds(simple, st.integers(0, 4), st.sampled_from([0, 5])),
    st.builds(
        data,
        st.integers(0, 4),
        st.integers(4000, 5200),
        st.binary(max_size=64),
        st.sampled_from([0, 1]),
    ),
    st.builds(hole, st.integers(0, 4), st.integers(4090, 5200), st.integers(0, 1100)),
    st.builds(
        chunk,
        st.integers(0, 4),
        st.sampled_from([0, 1, 2, 5, 0x8001, 0x8002]),
        st.binary(max_size=40),
        st.sampled_from([0, 1]),
    ),
)


@pytest.mark.requirement("R22")
@given(st.booleans(), st.lists(fragments, max_size=20), st.integers(1, 100))
def test_any_bytes_give_replies_or_one_error(
    structured: bool, parts: list[bytes], piece: int
) -> None:
    codec = Transmission(structured=structured, context=CONTEXT if structured else None)
    intos = [asked(codec), asked(codec)]
    if structured:
        codec.block_status(4096, 1024)
    stream = b"".join(parts)
    replies = []
    is_broken = False
    try:
        for at in range(0, len(stream), piece):
            replies += feed(codec, stream[at : at + piece])
            assert codec.buffer()
    except NbdProtocolError:
        is_broken = True  # which ends all requests that have had no reply, those in this piece too
    assert len({reply.cookie for reply in replies}) == len(replies) <= 3
    for cookie, into in enumerate(intos, 1):
        assert len(into) == 1024
        if not any(reply.cookie == cookie for reply in replies):
            assert codec.in_flight or is_broken
