"""What happens when the server or the way to it fails."""

from __future__ import annotations

import errno
import hashlib
import os
import random
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.support.backends.nbd.scripted import DISC, MULTI_CONN, Scripted, Session
from tests.support.backends.nbd.servers import Server, listen_unix, nbdkit, running, uri_of
from tests.unit.backends.nbd.test_wire import READ_LIES
from vmount.backends.base import (
    BackendError,
    BackendRefused,
    BackendTimeout,
    SourceChanged,
)
from vmount.backends.nbd.backend import NbdBackend, NbdOptions, open_nbd
from vmount.backends.retry import Backoff

QUICK = NbdOptions(
    connect_timeout=5,
    reply_timeout=0.3,
    total_timeout=0.6,
    backoff=Backoff(first=0.01, limit=0.05),
)
PATIENT = NbdOptions(backoff=Backoff(first=0.01, limit=0.05))
DISK = random.Random(8).randbytes(300_000)


@pytest.fixture
async def scripted(tmp_path: Path, nursery: trio.Nursery) -> Scripted:
    """A server that is honest so far."""
    server = Scripted(tmp_path / "socket", DISK)
    nursery.start_soon(server.run)
    return server


@pytest.mark.requirement("R38")
async def test_a_server_that_is_killed_and_restarted(
    image: Path, content: bytes, tmp_path: Path, nursery: trio.Nursery
) -> None:
    listener = listen_unix(tmp_path / "socket")
    with running(nbdkit("--filter=delay", "file", str(image), "rdelay=1ms"), listener) as server:
        backend = await open_nbd(uri_of(listener), nursery, PATIENT)
        got = bytearray(backend.size)
        done = 0

        async def read(offset: int) -> None:
            nonlocal done
            length = min(8192, backend.size - offset)
            got[offset : offset + length] = await backend.read(offset, length)
            done += 1
            if done % 100 == 0:
                server.kill()
                server.start()

        async with trio.open_nursery() as readers:
            for offset in range(0, backend.size, 8192):
                readers.start_soon(read, offset)
        assert hashlib.sha256(got).digest() == hashlib.sha256(content).digest()
        assert backend.stats().reconnects >= 3
        assert backend.stats().retries > 0
        await backend.aclose()


@pytest.mark.requirement("R38")
async def test_a_server_that_is_killed_for_good(
    image: Path, tmp_path: Path, nursery: trio.Nursery
) -> None:
    listener = listen_unix(tmp_path / "socket")
    with running(nbdkit("file", str(image)), listener) as server:
        backend = await open_nbd(uri_of(listener), nursery, QUICK)
        await backend.read(0, 4096)
        server.close()
        with trio.fail_after(5), pytest.raises(BackendTimeout, match=r"not read within 0\.6 s"):
            await backend.read(4096, 4096)
        await backend.aclose()


@pytest.mark.requirement("R38")
async def test_a_black_hole(
    scripted: Scripted, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    deaf = False

    async def sometimes_deaf(session: Session) -> None:
        while True:
            request = await session.request()
            if not deaf:
                end = request.offset + request.length
                await session.answer(request.cookie, DISK[request.offset : end])

    scripted.serving = sometimes_deaf
    backend = await open_nbd(scripted.uri, nursery)
    assert await backend.read(0, 100) == DISK[:100]
    deaf = True
    started = trio.current_time()
    with pytest.raises(BackendTimeout, match="is the server up and reachable"):
        await backend.read(0, 100)
    assert trio.current_time() - started == pytest.approx(60, abs=1)
    # Known to be gone: nobody waits for it any more.
    started = trio.current_time()
    async with trio.open_nursery() as readers:
        for _ in range(20):
            readers.start_soon(expect_timeout, backend)
    assert trio.current_time() - started == 0
    deaf = False
    await trio.sleep(
        60
    )  # until the one connection that is tried now has got an answer or was given up
    assert await backend.read(100, 100) == DISK[100:200]
    await backend.aclose()


async def expect_timeout(backend: NbdBackend) -> None:
    with pytest.raises(BackendTimeout, match="is the server up and reachable"):
        await backend.read(0, 100)


async def test_reads_that_wait_for_a_server_that_is_given_up_fail_at_once(
    scripted: Scripted, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    scripted.serving = deaf
    backend = await open_nbd(scripted.uri, nursery)
    async with trio.open_nursery() as readers:
        readers.start_soon(expect_timeout, backend)
        await trio.sleep(50)
        readers.start_soon(expect_timeout, backend)
    assert trio.current_time() == pytest.approx(60, abs=1)
    await backend.aclose()


async def deaf(session: Session) -> None:
    """Take requests and answer none."""
    while True:
        await session.receive(1)


@pytest.mark.requirement("R38")
async def test_requests_that_nobody_waits_for_do_not_block_the_line(
    scripted: Scripted, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    sessions = 0

    async def deaf_once(session: Session) -> None:
        nonlocal sessions
        sessions += 1
        while sessions == 1:
            await session.receive(1)
        await scripted.honest(session)

    scripted.serving = deaf_once
    backend = await open_nbd(scripted.uri, nursery)
    async with trio.open_nursery() as readers:
        for _ in range(40):
            readers.start_soon(backend.read, 0, 10)
        await trio.sleep(1)
        readers.cancel_scope.cancel()
    assert await backend.read(0, 10) == DISK[:10]
    assert trio.current_time() < 40
    await backend.aclose()


@pytest.mark.requirement("R38")
async def test_silence_in_the_handshake(
    scripted: Scripted, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    scripted.silent = True
    with pytest.raises(BackendTimeout, match="no answer within 10 s"):
        await open_nbd(scripted.uri, nursery)
    assert trio.current_time() == pytest.approx(10, abs=0.1)


async def closes_when_idle(scripted: Scripted, session: Session) -> None:
    """Hang up after three minutes of silence, as some hosts do."""
    while True:
        with trio.move_on_after(180) as scope:
            if not await scripted.serve_one(session):
                return
        if scope.cancelled_caught:
            return


@pytest.mark.requirement("R38")
@pytest.mark.parametrize(("interval", "sessions"), [(None, 2), (60.0, 1)])
async def test_a_server_that_closes_idle_connections(
    scripted: Scripted,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    interval: float | None,
    sessions: int,
) -> None:
    scripted.serving = lambda session: closes_when_idle(scripted, session)
    backend = await open_nbd(scripted.uri, nursery, NbdOptions(keepalive_interval=interval))
    assert await backend.read(5, 50) == DISK[5:55]
    await trio.sleep(4 * 3600)
    assert await backend.read(5, 50) == DISK[5:55]
    assert scripted.counts["begun"] == sessions
    await backend.aclose()


@pytest.mark.requirement("R39")
async def test_sessions_are_not_left_behind(scripted: Scripted, nursery: trio.Nursery) -> None:
    async def two_reads(session: Session) -> None:
        await scripted.serve_one(session)
        await scripted.serve_one(session)

    scripted.serving = two_reads
    backend = await open_nbd(scripted.uri, nursery, PATIENT)
    for _ in range(10):
        assert await backend.read(0, 1000) == DISK[:1000]
    assert scripted.counts["most"] <= 2
    assert backend.stats().reconnects >= 4
    scripted.serving = None
    await backend.aclose()


@pytest.mark.requirement("R39")
async def test_goodbye(scripted: Scripted, nursery: trio.Nursery) -> None:
    farewell = trio.Event()

    async def expect_goodbye(session: Session) -> None:
        request = await session.request()
        assert request.command == DISC
        farewell.set()

    scripted.serving = expect_goodbye
    backend = await open_nbd(scripted.uri, nursery)
    await backend.aclose()
    with trio.fail_after(5):
        await farewell.wait()


@pytest.mark.requirement("R27")
async def test_nothing_leaks(scripted: Scripted, nursery: trio.Nursery) -> None:
    async def use() -> None:
        backend = await open_nbd(scripted.uri, nursery)
        await backend.read(0, 10)
        await backend.aclose()
        while scripted.counts["living"]:
            await trio.lowlevel.checkpoint()

    await use()
    before = len(os.listdir("/proc/self/fd")), len(nursery.child_tasks)
    for _ in range(50):
        await use()
    assert (len(os.listdir("/proc/self/fd")), len(nursery.child_tasks)) == before


async def test_closing_ends_reads_in_flight(scripted: Scripted, nursery: trio.Nursery) -> None:
    asked = trio.Event()

    async def never(session: Session) -> None:
        await session.request()
        asked.set()
        await trio.sleep_forever()

    async def read() -> None:
        with pytest.raises(OSError, match="closed"):
            await backend.read(0, 10)

    scripted.serving = never
    backend = await open_nbd(scripted.uri, nursery)
    async with trio.open_nursery() as readers:
        readers.start_soon(read)
        await asked.wait()
        await backend.aclose()


async def test_errors_of_the_server_are_asked_again(
    image: Path, content: bytes, tmp_path: Path, nursery: trio.Nursery
) -> None:
    listener = listen_unix(tmp_path / "socket")
    with running(
        nbdkit("--filter=error", "file", str(image), "error=EIO", "error-pread-rate=10%"), listener
    ):
        options = NbdOptions(backoff=Backoff(first=0.001, limit=0.001), max_errors=10)
        backend = await open_nbd(uri_of(listener), nursery, options)
        got = bytearray()
        for offset in range(0, backend.size, 16384):
            got += await backend.read(offset, min(16384, backend.size - offset))
        assert got == content
        assert backend.stats().retries > 0
        await backend.aclose()


@pytest.mark.parametrize(
    ("name", "times"), [("EIO", "3 times"), ("EPERM", "read of"), ("ENOMEM", "3 times")]
)
async def test_errors_that_last(
    image: Path, tmp_path: Path, nursery: trio.Nursery, name: str, times: str
) -> None:
    listener = listen_unix(tmp_path / "socket")
    with running(
        nbdkit("--filter=error", "file", str(image), f"error={name}", "error-pread-rate=100%"),
        listener,
    ):
        options = NbdOptions(backoff=Backoff(first=0.001, limit=0.001), max_errors=2)
        backend = await open_nbd(uri_of(listener), nursery, options)
        with pytest.raises(BackendError, match=f"answered {name}.*{times}") as caught:
            await backend.read(0, 5 << 19)
        assert caught.value.errno == getattr(errno, name)
        await backend.aclose()


def restart(server: Server, *argv: str) -> None:
    server.kill()
    server.argv = nbdkit(*argv)
    server.start()


@pytest.mark.requirement("R15")
async def test_another_size_after_a_restart(
    image: Path, tmp_path: Path, nursery: trio.Nursery
) -> None:
    listener = listen_unix(tmp_path / "socket")
    with running(nbdkit("file", str(image)), listener) as server:
        backend = await open_nbd(uri_of(listener), nursery, PATIENT)
        restart(server, "--filter=truncate", "file", str(image), "truncate=4M")
        for _ in range(2):
            with pytest.raises(SourceChanged, match=r"are 4194304.*mount it again"):
                await backend.read(0, 10)
        restart(server, "file", str(image))
        with pytest.raises(SourceChanged):
            await backend.read(0, 10)
        await backend.aclose()


@pytest.mark.requirement("R15")
async def test_another_disk_of_the_same_size_after_a_restart(
    image: Path, content: bytes, tmp_path: Path, nursery: trio.Nursery
) -> None:
    other = tmp_path / "other.raw"
    other.write_bytes(random.Random(9).randbytes(len(content)))
    listener = listen_unix(tmp_path / "socket")
    with running(nbdkit("file", str(image)), listener) as server:
        backend = await open_nbd(uri_of(listener), nursery, PATIENT)
        assert await backend.read(512, 10) == content[512:522]
        restart(server, "file", str(other))
        with pytest.raises(SourceChanged, match="bytes at 0x200 have changed"):
            await backend.read(0, 10)
        await backend.aclose()


@pytest.mark.requirement("R22")
@pytest.mark.parametrize("lie", READ_LIES.values(), ids=READ_LIES)
async def test_a_server_that_lies(scripted: Scripted, nursery: trio.Nursery, lie: bytes) -> None:
    async def liar(session: Session) -> None:
        await session.request()
        await session.send(lie)
        await trio.sleep_forever()

    scripted.structured = True
    scripted.serving = liar
    backend = await open_nbd(scripted.uri, nursery, PATIENT)
    with pytest.raises(BackendRefused, match="broke the NBD protocol: "):
        await backend.read(4096, 1024)
    await backend.aclose()


@pytest.mark.requirement("R22")
async def test_short_replies(scripted: Scripted, nursery: trio.Nursery) -> None:
    async def short(session: Session) -> None:
        request = await session.request()
        await session.answer(request.cookie, DISK[:100])

    scripted.serving = short
    backend = await open_nbd(scripted.uri, nursery, QUICK)
    with pytest.raises(BackendTimeout, match="server closed the connection"):
        await backend.read(0, 200)
    await backend.aclose()


async def test_requests_in_flight_are_bounded(
    scripted: Scripted, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    outstanding: list[int] = []

    async def gather(session: Session) -> None:
        while True:
            requests = [await session.request()]
            with trio.move_on_after(0.02):
                while True:
                    requests.append(await session.request())
            outstanding.append(len(requests))
            random.Random(1).shuffle(requests)
            for request in requests:
                end = request.offset + request.length
                await session.answer(request.cookie, DISK[request.offset : end])

    scripted.serving = gather
    backend = await open_nbd(scripted.uri, nursery, NbdOptions(max_in_flight=5))
    results: dict[int, bytes] = {}

    async def read(offset: int) -> None:
        results[offset] = bytes(await backend.read(offset, 777))

    async with trio.open_nursery() as readers:
        for offset in range(0, 40_000, 1000):
            readers.start_soon(read, offset)
    assert max(outstanding) == 5
    assert all(DISK[offset : offset + 777] == data for offset, data in results.items())
    await backend.aclose()


@pytest.mark.requirement("R25")
@pytest.mark.parametrize(("flags", "sessions"), [(1 | MULTI_CONN, 4), (1, 1)])
async def test_several_connections_where_the_server_allows_it(
    scripted: Scripted, nursery: trio.Nursery, flags: int, sessions: int
) -> None:
    scripted.flags = flags
    backend = await open_nbd(scripted.uri, nursery)
    assert scripted.counts["begun"] == 1
    for _ in range(20):
        async with trio.open_nursery() as readers:
            for _ in range(32):
                readers.start_soon(backend.read, 0, 100_000)
    assert scripted.counts["begun"] == sessions
    await backend.aclose()


@pytest.mark.requirement("R25")
async def test_reads_at_the_same_time_are_faster(
    image: Path, tmp_path: Path, nursery: trio.Nursery
) -> None:
    listener = listen_unix(tmp_path / "socket")
    with running(nbdkit("--filter=delay", "file", str(image), "rdelay=20ms"), listener):
        backend = await open_nbd(uri_of(listener), nursery)
        begun = trio.current_time()
        for _ in range(16):
            await backend.read(0, 4096)
        alone = trio.current_time() - begun
        begun = trio.current_time()
        async with trio.open_nursery() as readers:
            for _ in range(16):
                readers.start_soon(backend.read, 0, 4096)
        assert trio.current_time() - begun < alone / 4
        await backend.aclose()


async def test_nobody_there(tmp_path: Path, nursery: trio.Nursery) -> None:
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path / "dead", "refused")):
        if path.name == "dead":
            listen_unix(path).close()
        with pytest.raises(BackendError, match=f"cannot connect: .*{reason}.*check the address"):
            await open_nbd(f"nbd+unix:///?socket={path}", nursery)


async def test_another_protocol(tmp_path: Path, nursery: trio.Nursery) -> None:
    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await stream.receive_some()

    raw = listen_unix(tmp_path / "socket")
    raw.setblocking(False)
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(raw))
    await nursery.start(trio.serve_listeners, greet, [listener])
    with pytest.raises(BackendRefused, match="not an NBD server"):
        await open_nbd(uri_of(raw), nursery)


def test_the_error_number_of_a_transport_error() -> None:
    assert BackendError("x").errno == errno.EIO
    assert str(BackendError("x")) == "x"
