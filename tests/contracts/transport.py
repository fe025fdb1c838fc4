"""What every Transport keeps to. A test module inherits TransportContract and gives two fixtures."""

from __future__ import annotations

import random

import pytest
import trio

from vmount.parsers.errors import OutOfBounds
from vmount.transports.base import Transport

SEED = 20260
READS = 60


class TransportContract:
    """Fixtures wanted: `transport`, open, and `reference`, the bytes as another program gives them."""

    async def test_size(self, transport: Transport, reference: bytes) -> None:
        assert transport.size == len(reference)
        assert 0 < transport.preferred_read <= transport.max_read

    async def test_r24_random_ranges(self, transport: Transport, reference: bytes) -> None:
        chance = random.Random(SEED)
        for _ in range(READS):
            length = min(chance.choice([1, 7, 512, 4096, 65536, 300_000]), len(reference))
            offset = chance.randrange(len(reference) - length + 1)
            data = await transport.read(offset, length)
            assert len(data) == length
            assert data == reference[offset : offset + length], f"{length} bytes at {offset:#x}"

    async def test_longer_than_one_request(self, transport: Transport, reference: bytes) -> None:
        assert await transport.read(0, len(reference)) == reference
        if len(reference) > 3:
            assert await transport.read(1, len(reference) - 2) == reference[1:-1]

    async def test_r23_the_end(self, transport: Transport, reference: bytes) -> None:
        size = transport.size
        for length in (1, 511, 4097):
            assert await transport.read(size - length, length) == reference[-length:]
        assert bytes(await transport.read(size, 0)) == b""
        assert bytes(await transport.read(0, 0)) == b""

    @pytest.mark.parametrize("beyond", [(0, 1), (-1, 2), (-4096, 4097), (1 << 40, 1)])
    async def test_r23_over_the_end(self, transport: Transport, beyond: tuple[int, int]) -> None:
        with pytest.raises(OutOfBounds):
            await transport.read(transport.size + beyond[0], beyond[1])
        with pytest.raises(OutOfBounds):
            await transport.read(-1, 1)

    async def test_r25_many_readers(self, transport: Transport, reference: bytes) -> None:
        wrong: list[int] = []

        async def reader(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(8):
                length = min(chance.randrange(1, 200_000), len(reference))
                offset = chance.randrange(len(reference) - length + 1)
                if await transport.read(offset, length) != reference[offset : offset + length]:
                    wrong.append(offset)

        async with trio.open_nursery() as nursery:
            for seed in range(16):
                nursery.start_soon(reader, seed)
        assert wrong == []
        assert transport.stats().in_flight == 0

    async def test_a_cancelled_read_harms_no_other(
        self, transport: Transport, reference: bytes
    ) -> None:
        length = min(len(reference), 1 << 20)
        for _ in range(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(transport.read, 0, length)
                nursery.start_soon(transport.read, len(reference) - length, length)
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            assert await transport.read(3, 1000) == reference[3:1003]
        assert await transport.read(0, len(reference)) == reference

    async def test_r32_allocated(self, transport: Transport, reference: bytes) -> None:
        size = len(reference)
        for offset, length in ((0, size), (1, size - 1), (size // 3, size // 2), (size, 0)):
            position = offset
            previous: bool | None = None
            for extent in await transport.allocated(offset, length):
                assert extent.offset == position
                assert extent.length > 0
                assert extent.zero is not previous
                if extent.zero:  # true of the honest sources that run this suite
                    assert not any(reference[position : position + extent.length])
                position += extent.length
                previous = extent.zero
            assert position == offset + length

    async def test_stats_and_description(self, transport: Transport) -> None:
        before = transport.stats()
        await transport.read(0, 4096)
        after = transport.stats()
        assert after.requests == before.requests + 1
        assert after.bytes_received >= before.bytes_received + 4096
        assert transport.describe()

    async def test_closing_twice(self, transport: Transport) -> None:
        await transport.aclose()
        await transport.aclose()
        with pytest.raises(OSError, match="closed"):
            await transport.read(0, 1)
