"""What every BlockSource must do, whatever it is made of."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from vmount.parsers.errors import OutOfBounds
from vmount.parsers.reader import Span

if TYPE_CHECKING:
    from vmount.parsers.reader import BlockSource

ROUNDS = 200


async def check_block_source(source: BlockSource, expected: bytes, seed: int = 1) -> None:
    """Compare a source with its content: random ranges, both ends, and beyond them."""
    assert source.size == len(expected)
    chosen = random.Random(seed)
    size = len(expected)
    ranges = [(0, 0), (size, 0), (0, size), (size - 1, 1)]
    for _ in range(ROUNDS):
        offset = chosen.randrange(size)
        ranges.append((offset, chosen.randrange(min(size - offset, 200_000) + 1)))
    source.prefetch([Span(offset, length) for offset, length in ranges])
    for offset, length in ranges:
        at_once = source.try_read(offset, length)
        if at_once is not None:
            assert bytes(at_once) == expected[offset : offset + length]
        assert bytes(await source.read(offset, length)) == expected[offset : offset + length]
    for offset, length in [(size, 1), (size - 1, 2), (-1, 1), (0, size + 1), (1 << 70, 1)]:
        with pytest.raises(OutOfBounds):
            source.try_read(offset, length)
        with pytest.raises(OutOfBounds):
            await source.read(offset, length)
