"""CachedDisk over a transport in memory whose every answer the test decides, and over a real server."""

from __future__ import annotations

import random
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import assert_no_checkpoints, wait_all_tasks_blocked

from tests.support.backends.nbd.servers import listen_unix, nbdkit, running, uri_of
from vmount.backends.base import BackendError, BackendStats, Extent
from vmount.backends.nbd.backend import open_nbd
from vmount.cache import LINE, CacheBudget, CachedDisk, CacheOptions
from vmount.parsers.errors import OutOfBounds
from vmount.parsers.reader import Buffer, Span, check_bounds

CONTENT = random.Random(3).randbytes(40 * LINE + 12345)


class MemoryBackend:
    """A Backend over bytes. It notes what is asked, and waits while `gate` is not set."""

    def __init__(self, content: bytes = CONTENT, most_lines: int = 8) -> None:
        self.content = content
        self.size = len(content)
        self.max_read = most_lines * LINE
        self.asked: list[Span] = []
        self.gate = trio.Event()
        self.gate.set()
        self.error: OSError | None = None

    async def read(self, offset: int, length: int) -> Buffer:
        check_bounds(offset, length, self.size)
        assert length <= self.max_read
        self.asked.append(Span(offset, length))
        await trio.lowlevel.checkpoint()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return bytearray(self.content[offset : offset + length])

    async def allocated(self, offset: int, length: int) -> Sequence[Extent]:
        return [Extent(offset, length, zero=False)]

    def describe(self) -> dict[str, object]:
        return {}

    def stats(self) -> BackendStats:
        return BackendStats(len(self.asked), 0, 0, 0, 0, 0.0)

    async def aclose(self) -> None:
        self.gate.set()


def lines(first: int, count: int = 1) -> Span:
    """Return the span of whole lines."""
    return Span(first * LINE, count * LINE)


async def test_a_hit_takes_no_waiting(nursery: trio.Nursery) -> None:
    transport = MemoryBackend()
    disk = CachedDisk(transport, nursery)
    assert disk.try_read(10, 100) is None
    assert await disk.read(10, 100) == CONTENT[10:110]
    with assert_no_checkpoints():
        assert disk.try_read(LINE - 7, 7) == CONTENT[LINE - 7 : LINE]
        assert await disk.read(500, 1) == CONTENT[500:501]
    assert transport.asked == [lines(0)]
    stats = disk.stats()
    assert (stats.hits, stats.misses, stats.bytes_demanded, stats.bytes_fetched) == (
        2,
        1,
        108,
        LINE,
    )
    assert stats.bytes_cached == LINE


async def test_a_hit_in_one_slab_is_not_copied(nursery: trio.Nursery) -> None:
    disk = CachedDisk(MemoryBackend(), nursery)
    await disk.read(0, 4 * LINE)
    data = disk.try_read(100, 3 * LINE)
    assert isinstance(data, memoryview)
    assert data.readonly
    assert data == CONTENT[100 : 100 + 3 * LINE]


async def test_neighbouring_misses_are_one_request(nursery: trio.Nursery) -> None:
    transport = MemoryBackend(most_lines=8)
    disk = CachedDisk(transport, nursery)
    assert await disk.read(3, 20 * LINE) == CONTENT[3 : 3 + 20 * LINE]
    assert sorted(transport.asked) == [lines(0, 8), lines(8, 8), lines(16, 5)]
    transport.asked.clear()
    assert await disk.read(22 * LINE, 1) == CONTENT[22 * LINE : 22 * LINE + 1]
    assert await disk.read(19 * LINE, 6 * LINE) == CONTENT[19 * LINE : 25 * LINE]
    assert sorted(transport.asked) == [lines(21), lines(22), lines(23, 2)]


async def test_neighbouring_misses_of_several_tasks_share_requests(nursery: trio.Nursery) -> None:
    transport = MemoryBackend()
    disk = CachedDisk(transport, nursery)
    async with trio.open_nursery() as readers:
        for line in (5, 6, 7, 6, 5):
            readers.start_soon(disk.read, line * LINE + 10, 10)
    assert sum(span.length for span in transport.asked) == 3 * LINE
    assert len(transport.asked) <= 2  # trio decides who comes first; 5, 7, 6 makes two


async def test_concurrent_misses_share_a_fetch(nursery: trio.Nursery) -> None:
    transport = MemoryBackend()
    transport.gate = trio.Event()
    disk = CachedDisk(transport, nursery)
    got: list[bytes] = []

    async def read() -> None:
        got.append(bytes(await disk.read(7, 9)))

    async with trio.open_nursery() as readers:
        for _ in range(16):
            readers.start_soon(read)
        await wait_all_tasks_blocked()
        assert disk.stats().in_flight == 1
        transport.gate.set()
    assert got == [CONTENT[7:16]] * 16
    assert transport.asked == [lines(0)]


async def test_an_error_reaches_everyone_and_is_not_kept(nursery: trio.Nursery) -> None:
    transport = MemoryBackend()
    transport.error = BackendError("the cable is out")
    disk = CachedDisk(transport, nursery)

    async def read() -> None:
        with pytest.raises(BackendError, match="cable"):
            await disk.read(0, 10)

    async with trio.open_nursery() as readers:
        for _ in range(3):
            readers.start_soon(read)
    assert len(transport.asked) == 1
    assert disk.stats().failures == 1
    transport.error = None
    assert await disk.read(0, 10) == CONTENT[:10]


async def test_a_cancelled_reader_does_not_harm_the_others(nursery: trio.Nursery) -> None:
    transport = MemoryBackend()
    transport.gate = trio.Event()
    disk = CachedDisk(transport, nursery)
    got: list[bytes] = []

    async def read(scope: trio.CancelScope) -> None:
        with scope:
            got.append(bytes(await disk.read(0, 10)))

    scopes = [trio.CancelScope() for _ in range(3)]
    async with trio.open_nursery() as readers:
        for scope in scopes:
            readers.start_soon(read, scope)
        await wait_all_tasks_blocked()
        scopes[0].cancel()  # the first is the one that began the fetch
        await wait_all_tasks_blocked()
        transport.gate.set()
    assert got == [CONTENT[:10]] * 2
    assert len(transport.asked) == 1


async def test_the_end_of_the_nursery_ends_the_waiting() -> None:
    transport = MemoryBackend()
    transport.gate = trio.Event()

    async def read(disk: CachedDisk) -> None:
        with pytest.raises(OSError, match="closed"):
            await disk.read(0, 10)

    async with trio.open_nursery() as readers, trio.open_nursery() as nursery:
        readers.start_soon(read, CachedDisk(transport, nursery))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_the_least_recently_used_goes_first(nursery: trio.Nursery) -> None:
    transport = MemoryBackend(most_lines=1)
    disk = CachedDisk(transport, nursery, CacheOptions(capacity=3 * LINE))
    for line in (0, 1, 2):
        await disk.read(line * LINE, 1)
    disk.try_read(0, 1)
    await disk.read(3 * LINE, 1)
    assert [disk.try_read(line * LINE, 1) is not None for line in range(4)] == [
        True,
        False,
        True,
        True,
    ]
    assert disk.stats().bytes_cached == 3 * LINE


@pytest.mark.parametrize("length", [0, 1, LINE - 1, LINE, 3 * LINE + 5, len(CONTENT)])
async def test_what_was_read_before_is_not_fetched(nursery: trio.Nursery, length: int) -> None:
    transport = MemoryBackend()
    disk = CachedDisk(transport, nursery)
    disk.preload(CONTENT[:length])
    known = length if length == len(CONTENT) else length // LINE * LINE
    assert await disk.read(0, known) == CONTENT[:known]
    assert transport.asked == []
    assert await disk.read(0, len(CONTENT)) == CONTENT
    assert disk.stats().bytes_cached == len(CONTENT)


async def test_several_share_one_budget(nursery: trio.Nursery) -> None:
    budget = CacheBudget(3 * LINE)
    first, second = (
        CachedDisk(MemoryBackend(most_lines=1), nursery, budget=budget) for _ in range(2)
    )
    for line in (0, 1):
        await first.read(line * LINE, 1)
    first.try_read(0, 1)
    for line in (0, 1):
        assert await second.read(line * LINE, LINE) == CONTENT[line * LINE : (line + 1) * LINE]
    assert [first.try_read(line * LINE, 1) is not None for line in range(2)] == [True, False]
    assert (first.stats().bytes_cached, second.stats().bytes_cached) == (LINE, 2 * LINE)
    assert budget.cached == 3 * LINE


async def test_a_read_larger_than_the_cache(nursery: trio.Nursery) -> None:
    disk = CachedDisk(MemoryBackend(most_lines=2), nursery, CacheOptions(capacity=LINE))
    assert await disk.read(5, len(CONTENT) - 5) == CONTENT[5:]
    assert disk.stats().bytes_cached <= LINE


@pytest.mark.requirement("R23")
async def test_the_end(nursery: trio.Nursery) -> None:
    disk = CachedDisk(MemoryBackend(), nursery)
    size = len(CONTENT)
    assert await disk.read(size - 3, 3) == CONTENT[-3:]
    assert await disk.read(size, 0) == b""
    for offset, length in ((size, 1), (size - 1, 2), (-1, 1), (0, size + 1)):
        with pytest.raises(OutOfBounds):
            disk.try_read(offset, length)
        with pytest.raises(OutOfBounds):
            await disk.read(offset, length)


async def test_guesses_are_fetched_together_and_used(nursery: trio.Nursery) -> None:
    transport = MemoryBackend()
    disk = CachedDisk(transport, nursery)
    with assert_no_checkpoints():
        disk.prefetch([Span(5 * LINE, 10), Span(3 * LINE, 2 * LINE), Span(20 * LINE + 5, 1)])
    await wait_all_tasks_blocked()
    assert sorted(transport.asked) == [lines(3, 3), lines(20)]
    assert disk.try_read(3 * LINE, 3 * LINE) == CONTENT[3 * LINE : 6 * LINE]
    assert disk.stats().guesses_used == 3 * LINE
    disk.prefetch([Span(0, 40 * LINE)])
    await wait_all_tasks_blocked()
    assert sum(span.length for span in transport.asked) == 40 * LINE


async def test_guesses_are_bounded(nursery: trio.Nursery) -> None:
    transport = MemoryBackend(most_lines=2)
    transport.gate = trio.Event()
    options = CacheOptions(guesses_in_flight=6 * LINE, guess_requests=2, guesses_queued=10 * LINE)
    disk = CachedDisk(transport, nursery, options)
    disk.prefetch([Span(0, len(CONTENT)), Span(0, 1 << 60), Span(-5, 3), Span(1 << 60, 1)])
    await wait_all_tasks_blocked()
    assert len(transport.asked) == 2
    demanded = trio.Event()

    async def read() -> None:
        assert await disk.read(30 * LINE, 1) == CONTENT[30 * LINE : 30 * LINE + 1]
        demanded.set()

    nursery.start_soon(read)  # a demand does not queue behind guesses
    await wait_all_tasks_blocked()
    assert transport.asked[-1] == lines(30)
    transport.gate.set()
    await demanded.wait()
    await wait_all_tasks_blocked()
    assert sum(span.length for span in transport.asked) == 11 * LINE


async def test_guesses_that_are_wasted_or_fail(nursery: trio.Nursery) -> None:
    transport = MemoryBackend(most_lines=1)
    disk = CachedDisk(transport, nursery, CacheOptions(capacity=2 * LINE, guess_requests=1))
    disk.prefetch([lines(0)])
    await wait_all_tasks_blocked()
    assert transport.asked == [lines(0)]
    await disk.read(LINE, 2 * LINE)
    assert disk.stats().guesses_wasted == LINE
    transport.error = BackendError("no")
    disk.prefetch([lines(5)])
    await wait_all_tasks_blocked()
    transport.error = None
    assert await disk.read(5 * LINE, 1) == CONTENT[5 * LINE : 5 * LINE + 1]


@pytest.mark.requirement("R32")
async def test_a_lie_about_zeros_changes_no_byte(nursery: trio.Nursery) -> None:
    transport = MemoryBackend()
    disk = CachedDisk(transport, nursery)
    disk.note_zeros([Extent(0, len(CONTENT), zero=True)])
    disk.prefetch([Span(0, len(CONTENT))])
    await wait_all_tasks_blocked()
    assert transport.asked == []
    assert await disk.read(0, len(CONTENT)) == CONTENT
    half = CachedDisk(MemoryBackend(), nursery)
    half.note_zeros([Extent(0, LINE + 1, zero=True), Extent(LINE + 1, LINE, zero=False)])
    half.prefetch([lines(0, 2)])
    await wait_all_tasks_blocked()
    assert half.try_read(0, 1) is None
    assert half.try_read(LINE, 1) == CONTENT[LINE : LINE + 1]


@pytest.mark.requirement("R32")
async def test_a_server_that_lies_about_zeros(tmp_path: Path, nursery: trio.Nursery) -> None:
    (tmp_path / "disk").write_bytes(CONTENT)
    disk_path = shlex.quote(str(tmp_path / "disk"))
    listener = listen_unix(tmp_path / "socket")
    argv = nbdkit(
        "eval",
        f"get_size=echo {len(CONTENT)}",
        f"pread=dd if={disk_path} iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none",
        "can_extents=exit 0",
        "extents=echo $4 $3 hole,zero",
    )
    with running(argv, listener):
        transport = await open_nbd(uri_of(listener), nursery)
        extents = await transport.allocated(0, transport.size)
        assert extents == [Extent(0, len(CONTENT), zero=True)]
        disk = CachedDisk(transport, nursery)
        disk.note_zeros(extents)
        disk.prefetch([Span(0, disk.size)])
        assert await disk.read(0, disk.size) == CONTENT
        await transport.aclose()


@pytest.mark.requirement("R25")
async def test_many_readers_of_a_small_cache(nursery: trio.Nursery) -> None:
    transport = MemoryBackend(most_lines=4)
    disk = CachedDisk(transport, nursery, CacheOptions(capacity=6 * LINE))

    async def reader(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(40):
            offset = chance.randrange(len(CONTENT))
            length = min(chance.randrange(1, 5 * LINE), len(CONTENT) - offset)
            disk.prefetch([Span(chance.randrange(len(CONTENT)), 3 * LINE)])
            assert await disk.read(offset, length) == CONTENT[offset : offset + length]

    async with trio.open_nursery() as readers:
        for seed in range(16):
            readers.start_soon(reader, seed)
    await wait_all_tasks_blocked()
    stats = disk.stats()
    assert stats.bytes_cached <= 6 * LINE
    assert stats.in_flight == 0


reads = st.tuples(st.integers(0, len(CONTENT)), st.integers(0, 5 * LINE), st.booleans())


@pytest.mark.requirement("R24")
@given(st.lists(reads, max_size=12), st.integers(1, 9), st.integers(0, 12))
def test_any_sequence_of_reads(
    steps: list[tuple[int, int, bool]], most_lines: int, capacity: int
) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            options = CacheOptions(capacity=capacity * LINE)
            disk = CachedDisk(MemoryBackend(most_lines=most_lines), nursery, options)
            for offset, length, guess in steps:
                if guess:
                    disk.prefetch([Span(offset, length)])
                end = min(offset + length, len(CONTENT))
                assert await disk.read(offset, end - offset) == CONTENT[offset:end]
                assert disk.try_read(offset, end - offset) in (None, CONTENT[offset:end])

    trio.run(main)
