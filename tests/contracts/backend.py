"""What every Backend keeps to. A test module inherits BackendContract and gives two fixtures."""

from __future__ import annotations

import random

import pytest
import trio

from vmount.backends.base import Backend
from vmount.parsers.errors import OutOfBounds

SEED = 20260
READS = 60


class BackendContract:
    """Fixtures wanted: `backend`, open, and `reference`, the bytes as another program gives them."""

    async def test_size(self, backend: Backend, reference: bytes) -> None:
        assert backend.size == len(reference)
        assert backend.max_read > 0

    @pytest.mark.requirement("R24")
    async def test_random_ranges(self, backend: Backend, reference: bytes) -> None:
        chance = random.Random(SEED)
        for _ in range(READS):
            length = min(chance.choice([1, 7, 512, 4096, 65536, 300_000]), len(reference))
            offset = chance.randrange(len(reference) - length + 1)
            data = await backend.read(offset, length)
            assert len(data) == length
            assert data == reference[offset : offset + length], f"{length} bytes at {offset:#x}"

    async def test_longer_than_one_request(self, backend: Backend, reference: bytes) -> None:
        assert await backend.read(0, len(reference)) == reference
        if len(reference) > 3:
            assert await backend.read(1, len(reference) - 2) == reference[1:-1]

    @pytest.mark.requirement("R23")
    async def test_the_end(self, backend: Backend, reference: bytes) -> None:
        size = backend.size
        for length in (1, 511, 4097):
            assert await backend.read(size - length, length) == reference[-length:]
        assert bytes(await backend.read(size, 0)) == b""
        assert bytes(await backend.read(0, 0)) == b""

    @pytest.mark.requirement("R23")
    @pytest.mark.parametrize("beyond", [(0, 1), (-1, 2), (-4096, 4097), (1 << 40, 1)])
    async def test_over_the_end(self, backend: Backend, beyond: tuple[int, int]) -> None:
        with pytest.raises(OutOfBounds):
            await backend.read(backend.size + beyond[0], beyond[1])
        with pytest.raises(OutOfBounds):
            await backend.read(-1, 1)

    @pytest.mark.requirement("R25")
    async def test_many_readers(self, backend: Backend, reference: bytes) -> None:
        wrong: list[int] = []

        async def reader(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(8):
                length = min(chance.randrange(1, 200_000), len(reference))
                offset = chance.randrange(len(reference) - length + 1)
                if await backend.read(offset, length) != reference[offset : offset + length]:
                    wrong.append(offset)

        async with trio.open_nursery() as nursery:
            for seed in range(16):
                nursery.start_soon(reader, seed)
        assert wrong == []
        assert backend.stats().in_flight == 0

    async def test_a_cancelled_read_harms_no_other(
        self, backend: Backend, reference: bytes
    ) -> None:
        length = min(len(reference), 1 << 20)
        for _ in range(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(backend.read, 0, length)
                nursery.start_soon(backend.read, len(reference) - length, length)
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            assert await backend.read(3, 1000) == reference[3:1003]
        assert await backend.read(0, len(reference)) == reference

    @pytest.mark.requirement("R32")
    async def test_allocated(self, backend: Backend, reference: bytes) -> None:
        size = len(reference)
        for offset, length in ((0, size), (1, size - 1), (size // 3, size // 2), (size, 0)):
            position = offset
            previous: bool | None = None
            for extent in await backend.allocated(offset, length):
                assert extent.offset == position
                assert extent.length > 0
                assert extent.zero is not previous
                if extent.zero:  # true of the honest sources that run this suite
                    assert not any(reference[position : position + extent.length])
                position += extent.length
                previous = extent.zero
            assert position == offset + length

    async def test_stats_and_description(self, backend: Backend) -> None:
        before = backend.stats()
        await backend.read(0, 4096)
        after = backend.stats()
        assert after.requests == before.requests + 1
        assert after.bytes_received >= before.bytes_received + 4096
        assert backend.describe()

    async def test_closing_twice(self, backend: Backend) -> None:
        await backend.aclose()
        await backend.aclose()
        with pytest.raises(OSError, match="closed"):
            await backend.read(0, 1)
