"""The handshake against bytes that a server might send."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmount.backends.nbd.handshake import (
    MAX_OPTION_REPLY,
    Dialogue,
    Negotiated,
    OptionRefused,
    Receive,
    Send,
    T,
    UnknownExport,
    list_dialogue,
    negotiate,
)
from vmount.backends.nbd.wire import NbdProtocolError

NEWSTYLE = b"NBDMAGICIHAVEOPT"
FIXED = NEWSTYLE + struct.pack(">H", 3)
UNSUP, UNKNOWN = 0x80000001, 0x80000006
STARTTLS, INFO, GO, STRUCTURED, META, LIST = 5, 6, 7, 8, 10, 3


class HungUp(Exception):
    """The bytes of the server are at an end."""


def answer(option: int, kind: int = 1, data: bytes = b"", magic: int = 0x3E889045565A9) -> bytes:
    return struct.pack(">QIII", magic, option, kind, len(data)) + data


def export_info(size: int = 1 << 20, flags: int = 0x101) -> bytes:
    return answer(GO, 3, struct.pack(">HQH", 0, size, flags))


def blocks(low: int, preferred: int, high: int) -> bytes:
    return answer(GO, 3, struct.pack(">HIII", 3, low, preferred, high))


def converse(dialogue: Dialogue[T], stream: bytes) -> tuple[T, bytes]:
    """Drive a dialogue over bytes; return its result and what it sent."""
    sent = b""
    try:
        step = next(dialogue)
        while True:
            reply = b""
            if isinstance(step, Send):
                sent += step.data
            elif isinstance(step, Receive):
                assert 0 <= step.length <= MAX_OPTION_REPLY
                if step.length > len(stream):
                    raise HungUp
                reply, stream = stream[: step.length], stream[step.length :]
            step = dialogue.send(reply)
    except StopIteration as stop:
        value: T = stop.value
        return value, sent


def test_all_that_can_be_agreed() -> None:
    stream = (
        FIXED
        + answer(STRUCTURED)
        + answer(META, 4, struct.pack(">I", 9) + b"base:allocation")
        + answer(META)
        + export_info()
        + blocks(512, 4096, 1 << 20)
        + answer(GO, 3, struct.pack(">H", 2) + b"a disk")
        + answer(GO, 3, struct.pack(">H", 77) + b"whatever is to come")
        + answer(GO)
    )
    agreed, sent = converse(negotiate("name", tls=False), stream)
    assert agreed == Negotiated(
        1 << 20, 0x101, 512, 4096, 1 << 20, structured=True, context=9, description="a disk"
    )
    assert agreed.multi_conn
    assert sent[:4] == b"\0\0\0\3"
    assert sent.endswith(b"\0\0\0\4name\0\2\0\2\0\3")


def test_an_old_server_knows_no_option() -> None:
    stream = FIXED + answer(STRUCTURED, UNSUP) + answer(GO, UNSUP) + struct.pack(">QH", 99, 1)
    agreed, sent = converse(negotiate("name", tls=False), stream)
    assert (agreed.size, agreed.structured, agreed.context) == (99, False, None)
    assert sent.endswith(b"IHAVEOPT\0\0\0\1\0\0\0\4name")


def test_an_older_server_wants_the_name_at_once() -> None:
    stream = NEWSTYLE + b"\0\0" + struct.pack(">QH", 99, 1) + bytes(124)
    agreed, sent = converse(negotiate("", tls=False), stream)
    assert (agreed.size, agreed.handshake) == (99, "newstyle")
    assert sent == bytes(4) + b"IHAVEOPT\0\0\0\1\0\0\0\0"


def test_the_oldest_server_has_one_export() -> None:
    stream = (
        b"NBDMAGIC" + bytes.fromhex("0000420281861253") + struct.pack(">QI", 99, 3) + bytes(124)
    )
    assert converse(negotiate("", tls=False), stream) == (
        Negotiated(99, 3, handshake="oldstyle"),
        b"",
    )
    with pytest.raises(NbdProtocolError, match="it has no name"):
        converse(negotiate("name", tls=False), stream)
    with pytest.raises(NbdProtocolError, match="no TLS"):
        converse(negotiate("", tls=True), stream)


def test_an_unknown_export_brings_the_names_of_the_others() -> None:
    stream = (
        FIXED
        + answer(STRUCTURED, UNSUP)
        + answer(GO, UNKNOWN, b"no such thing")
        + answer(LIST, 2, struct.pack(">I", 3) + b"one")
        + answer(LIST, 2, struct.pack(">I", 3) + b"two and its description")
        + answer(LIST)
    )
    with pytest.raises(UnknownExport, match="UNKNOWN: no such thing") as caught:
        converse(negotiate("x", tls=False), stream)
    assert caught.value.exports == ["one", "two"]


def test_tls_comes_before_everything() -> None:
    with pytest.raises(OptionRefused, match="STARTTLS refused with UNSUP") as caught:
        converse(negotiate("secret", tls=True), FIXED + answer(STARTTLS, UNSUP))
    assert caught.value.option == STARTTLS
    dialogue = negotiate("secret", tls=True)
    with pytest.raises(HungUp):
        converse(dialogue, FIXED + answer(STARTTLS))


PRELUDE = FIXED + answer(STRUCTURED, UNSUP)
LIES = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "an unknown style": b"NBDMAGIC" + bytes(8),
    "bad magic": FIXED + answer(STRUCTURED, magic=1),
    "another option": FIXED + answer(GO),
    "a huge answer": FIXED + struct.pack(">QIII", 0x3E889045565A9, STRUCTURED, 1, 0xFFFFFFFF),
    "answers without end": FIXED + answer(STRUCTURED, 3, b"x") * 1000,
    "no size": PRELUDE + answer(GO),
    "a huge size": PRELUDE + export_info(1 << 63) + answer(GO),
    "a short size": PRELUDE + answer(GO, 3, bytes(6)) + answer(GO),
    "a block size of nothing": PRELUDE + export_info() + blocks(0, 1, 1) + answer(GO),
    "an odd block size": PRELUDE + export_info() + blocks(3, 4096, 8192) + answer(GO),
    "a huge block size": PRELUDE + export_info() + blocks(1 << 17, 1 << 17, 1 << 20) + answer(GO),
    "block sizes upside down": PRELUDE + export_info() + blocks(4096, 4096, 512) + answer(GO),
    "another kind of answer": PRELUDE + answer(GO, 2, bytes(4)) + answer(GO),
}


@pytest.mark.requirement("R22")
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_lies(lie: bytes) -> None:
    with pytest.raises(NbdProtocolError):
        converse(negotiate("", tls=False), lie)


def test_a_list_without_end() -> None:
    entry = answer(LIST, 2, struct.pack(">I", 8000) + b"n" * 8000)
    with pytest.raises(NbdProtocolError, match="more than"):
        converse(list_dialogue(tls=False), FIXED + entry * 1000)
    with pytest.raises(NbdProtocolError, match="export name of 4294967295 bytes"):
        converse(list_dialogue(tls=False), FIXED + answer(LIST, 2, b"\xff" * 4) + answer(LIST))


answers = st.builds(
    answer,
    st.sampled_from([LIST, STARTTLS, INFO, GO, STRUCTURED, META]),
    st.sampled_from([1, 2, 3, 4, UNSUP, UNKNOWN, 0x80000005]),
    st.one_of(
        st.binary(max_size=40),
        st.builds(struct.pack, st.just(">HQH"), st.just(0), st.integers(0, 1 << 63), st.just(1)),
    ),
)
greetings = st.sampled_from([FIXED, NEWSTYLE + b"\0\0", b"NBDMAGIC" + bytes(8), b""])


@pytest.mark.requirement("R22")
@given(greetings, st.lists(st.one_of(answers, st.binary(max_size=30)), max_size=12), st.booleans())
def test_any_bytes_are_agreed_on_or_refused(greeting: bytes, parts: list[bytes], tls: bool) -> None:
    stream = greeting + b"".join(parts)
    try:
        agreed, _ = converse(negotiate("x", tls=tls), stream)
        assert 0 <= agreed.size < 1 << 63
        assert agreed.min_block <= agreed.max_block
    except (HungUp, NbdProtocolError, OptionRefused):
        pass
    with contextlib.suppress(HungUp, NbdProtocolError, OptionRefused):
        converse(list_dialogue(tls=tls), stream)
