"""R15, R19, R38, R39: a server that misbehaves costs one clear error, or nothing, never wrong bytes."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator

import pytest
import trio

from tests.contracts.backend import BackendContract
from tests.support.backends.https.scripted import Fault, Handler, Server
from vmount.backends.base import (
    BackendError,
    BackendRefused,
    BackendTimeout,
    SourceChanged,
)
from vmount.backends.https.backend import HttpsBackend, HttpsOptions, open_https
from vmount.backends.retry import Backoff

QUICK = HttpsOptions(
    reply_timeout=0.5,
    total_timeout=2.0,
    max_request=256 << 10,
    backoff=Backoff(first=0.001, limit=0.01),
)
SECRET = {"Authorization": "Basic secret"}


@pytest.fixture
async def backend(server: Server, trust: ssl.SSLContext) -> AsyncIterator[HttpsBackend]:
    opened = await open_https(
        server.url,
        headers=SECRET,
        ssl_context=trust,
        options=HttpsOptions(max_request=256 << 10),
    )
    yield opened
    await opened.aclose()


@pytest.fixture
async def quick(server: Server, trust: ssl.SSLContext) -> AsyncIterator[HttpsBackend]:
    opened = await open_https(server.url, headers=SECRET, ssl_context=trust, options=QUICK)
    yield opened
    await opened.aclose()


class TestContract(BackendContract):
    pass


def once(fault: Fault) -> Fault:
    pending = [fault]
    return lambda handler: bool(pending) and pending.pop()(handler)


def unavailable(handler: Handler) -> bool:
    handler.answer(503, {"Retry-After": "0"})
    return True


def short(handler: Handler) -> bool:
    first, last = handler.range()
    handler.close_connection = True
    handler.answer(
        206,
        {
            "Content-Length": str(last + 1 - first),
            "Content-Range": f"bytes {first}-{last}/{len(handler.server.content)}",
            "ETag": handler.server.etag,
        },
        b"x" * ((last - first) // 2),
    )
    return True


def stall(handler: Handler) -> bool:
    handler.close_connection = True
    handler.server.released.wait(30)
    return True


def whole(handler: Handler) -> bool:
    handler.answer(200, {}, handler.server.content)
    return True


def shifted(handler: Handler) -> bool:
    first, last = handler.range()
    size = len(handler.server.content)
    handler.answer(
        206,
        {"Content-Range": f"bytes {first + 1}-{last + 1}/{size}", "ETag": handler.server.etag},
        handler.server.content[first + 1 : last + 2],
    )
    return True


def elsewhere(handler: Handler) -> bool:
    handler.answer(302, {"Location": "https://127.0.0.2/disk"})
    return True


def status(code: int) -> Fault:
    def answer(handler: Handler) -> bool:
        handler.answer(code, {})
        return True

    return answer


def interim(handler: Handler) -> bool:
    """Send interim answers for as long as somebody listens."""
    handler.close_connection = True
    with contextlib.suppress(OSError):
        while not handler.server.released.is_set():
            handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 4096)
    return True


def header(handler: Handler) -> bool:
    """Send a head that never ends."""
    handler.close_connection = True
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 206 Partial Content\r\n")
        while not handler.server.released.is_set():
            handler.wfile.write(b"X-More: and more\r\n" * 4096)
    return True


def trickle(handler: Handler) -> bool:
    """Send a body in chunks of a byte with long extensions."""
    first, last = handler.range()
    size = len(handler.server.content)
    handler.close_connection = True
    with contextlib.suppress(OSError):
        handler.send_response(206)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        handler.send_header("ETag", handler.server.etag)
        handler.end_headers()
        while not handler.server.released.is_set():
            handler.wfile.write((b"1;" + b"x" * 60_000 + b"\r\n.\r\n") * 4)
    return True


async def test_interim_answers_without_end_are_refused(quick: HttpsBackend, server: Server) -> None:
    server.fault = interim
    with trio.fail_after(5), pytest.raises(BackendRefused, match="broke the HTTP protocol"):
        await quick.read(1000, 5000)


@pytest.mark.parametrize("fault", [header, trickle])
async def test_a_flood_ends_at_the_deadline_and_holds_nobody_up(
    quick: HttpsBackend, server: Server, fault: Fault
) -> None:
    server.fault = fault
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.sleep(0.01)
            turns += 1

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            with pytest.raises(BackendError):
                await quick.read(1000, 1 << 20)
            nursery.cancel_scope.cancel()
    assert turns > 5


async def test_a_server_that_is_gone_is_waited_for_once(
    quick: HttpsBackend, server: Server, reference: bytes
) -> None:
    server.fault = stall
    with pytest.raises(BackendTimeout):
        await quick.read(1000, 5000)
    before = trio.current_time()
    for _ in range(20):
        with pytest.raises(BackendTimeout, match="not read within 2 s"):
            await quick.read(1000, 5000)
    assert trio.current_time() - before < 1
    server.fault = lambda _: False
    with trio.fail_after(10):
        while True:
            try:
                assert await quick.read(1000, 5000) == reference[1000:6000]
                break
            except BackendTimeout:
                await trio.sleep(0.05)


@pytest.mark.requirement("R38")
@pytest.mark.parametrize("fault", [unavailable, short, stall])
async def test_what_passes_is_asked_again(
    quick: HttpsBackend, server: Server, reference: bytes, fault: Fault
) -> None:
    server.fault = once(fault)
    assert await quick.read(1000, 5000) == reference[1000:6000]
    assert quick.stats().retries == 1


@pytest.mark.requirement("R38")
@pytest.mark.parametrize("fault", [unavailable, short, stall])
async def test_what_stays_ends_at_the_deadline(
    quick: HttpsBackend, server: Server, fault: Fault
) -> None:
    server.fault = fault
    with trio.fail_after(5), pytest.raises(BackendTimeout, match="not read within 2 s"):
        await quick.read(1000, 5000)


@pytest.mark.requirement("R19")
@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (whole, BackendRefused, "does not serve ranges"),
        (shifted, BackendRefused, "requested bytes 1000-5999"),
        (elsewhere, BackendRefused, "redirects to https://127.0.0.2"),
        (status(401), BackendRefused, "not authorised"),
        (status(404), BackendError, "no such file"),
        (status(500), BackendError, "locked"),
        (status(416), SourceChanged, "shrunk"),
    ],
)
async def test_one_clear_error_without_secrets(
    quick: HttpsBackend, server: Server, fault: Fault, kind: type[Exception], message: str
) -> None:
    server.fault = fault
    with pytest.raises(kind, match=message) as caught:
        await quick.read(1000, 5000)
    for text in (str(caught.value), str(quick.describe()), repr(quick)):
        assert "secret" not in text
        assert "hidden" not in text


@pytest.mark.requirement("R15")
async def test_a_changed_file_is_not_mixed(quick: HttpsBackend, server: Server) -> None:
    server.etag = '"two"'
    with pytest.raises(SourceChanged, match="has changed"):
        await quick.read(0, 10)


@pytest.mark.requirement("R15")
async def test_a_longer_file_is_not_mixed(quick: HttpsBackend, server: Server) -> None:
    server.content += b"more"
    with pytest.raises(SourceChanged, match="has changed"):
        await quick.read(0, 10)


async def test_a_session_is_renewed_once_for_all(
    server: Server, trust: ssl.SSLContext, reference: bytes
) -> None:
    valid, renewals = ["Basic old"], 0

    def guarded(handler: Handler) -> bool:
        if handler.headers["Authorization"] == valid[0]:
            return False
        handler.answer(401, {})
        return True

    async def renew() -> dict[str, str]:
        nonlocal renewals
        renewals += 1
        return {"Authorization": "Basic new"}

    server.fault = guarded
    opened = await open_https(
        server.url,
        headers={"Authorization": "Basic old"},
        renew=renew,
        ssl_context=trust,
        options=QUICK,
    )
    valid[0] = "Basic new"
    assert await opened.read(0, len(reference)) == reference
    assert renewals == 1
    valid[0] = "Basic other"
    with pytest.raises(BackendRefused, match="not authorised"):
        await opened.read(0, 1)
    await opened.aclose()


async def test_an_unknown_certificate_is_refused(server: Server) -> None:
    with pytest.raises(BackendRefused, match="not trusted"):
        await open_https(server.url, options=QUICK)
    assert server.seen == []


async def test_a_server_that_was_never_reached_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(BackendRefused, match="cannot connect: Connection refused"):
        await open_https(f"https://127.0.0.1:{port}/disk")


async def test_an_empty_file(server: Server, trust: ssl.SSLContext) -> None:
    server.content = b""
    opened = await open_https(server.url, ssl_context=trust, options=QUICK)
    assert opened.size == 0
    await opened.aclose()


async def test_user_and_password_in_the_address_are_refused() -> None:
    with pytest.raises(BackendRefused, match="must not contain") as caught:
        await open_https("https://me:secret@127.0.0.1/disk")
    assert "secret" not in str(caught.value)
