"""Slices of mappings, what is readable of them, and telling clones apart."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.parsers.volume_images import builder
from vmount.parsers.availability import is_readable, missing_devices
from vmount.parsers.copies import partition_by_copy
from vmount.parsers.errors import OutOfBounds, Unsupported
from vmount.parsers.reader import BytesReader, run_sync
from vmount.parsers.volume_map import (
    Area,
    Concat,
    Mirror,
    Missing,
    Parity,
    ParityLayout,
    Raid10,
    Stripe,
    VolumeMap,
    Zero,
    length_of,
)
from vmount.parsers.volume_map_slices import slice_of

DEVICE = random.Random(1).randbytes(1000)
LEAVES = st.one_of(
    st.builds(Area, st.just("d"), st.integers(0, 900), st.integers(1, 100)),
    st.builds(Zero, st.integers(1, 100)),
)
MAPPINGS = st.recursive(
    LEAVES,
    lambda parts: st.one_of(
        st.lists(parts, min_size=1, max_size=4).map(lambda found: Concat(tuple(found))),
        parts.map(lambda part: Mirror((part, part))),
    ),
    max_leaves=8,
)


def content(mapping: VolumeMap) -> bytes:
    source = builder({"d": BytesReader(DEVICE)})(mapping)
    return bytes(run_sync(source.read(0, source.size)))


@given(MAPPINGS, st.data())
def test_a_slice_has_the_bytes_of_its_range(mapping: VolumeMap, data: st.DataObject) -> None:
    size = length_of(mapping)
    start = data.draw(st.integers(0, size - 1))
    length = data.draw(st.integers(1, size - start))
    part = slice_of(mapping, start, length)
    assert length_of(part) == length
    assert content(part) == content(mapping)[start : start + length]


def test_slices_that_there_are_not() -> None:
    stripe = Stripe((Area("d", 0, 8), Area("d", 8, 8)), 4)
    assert slice_of(stripe, 0, 16) is stripe
    with pytest.raises(Unsupported):
        slice_of(stripe, 0, 8)
    for start, length in ((0, 17), (-1, 2), (16, 1)):
        with pytest.raises(OutOfBounds):
            slice_of(stripe, start, length)


def columns(count: int, lost: tuple[int, ...]) -> tuple[VolumeMap, ...]:
    return tuple(
        Missing(f"m{index}", 64) if index in lost else Area("d", index * 64, 64)
        for index in range(count)
    )


@pytest.mark.parametrize("count", [2, 3, 4, 5])
@pytest.mark.parametrize(("near", "far", "offset"), [(2, 1, False), (1, 2, False), (1, 2, True)])
def test_what_is_readable_of_raid10(count: int, near: int, far: int, offset: bool) -> None:
    for number in range(count + 1):
        for lost in combinations(range(count), number):
            mapping = Raid10(columns(count, lost), 4, near, far, offset)
            try:
                content(mapping)
                readable = True
            except OSError:
                readable = False
            assert is_readable(mapping) == readable
            assert missing_devices(mapping) == [f"m{index}" for index in lost]


def test_what_is_readable_with_redundancy() -> None:
    layout = ParityLayout.LEFT_SYMMETRIC
    for lost in range(4):
        parts = columns(4, tuple(range(lost)))
        assert is_readable(Mirror(parts))
        assert is_readable(Parity(parts, 4, layout)) == (lost <= 1)
        assert is_readable(Parity(parts, 4, layout, 2)) == (lost <= 2)
        assert is_readable(Parity(parts, 4, layout, 2, in_sync=False)) == (lost == 0)
        assert is_readable(Stripe(parts, 4)) == (lost == 0)
        assert is_readable(Concat(parts)) == (lost == 0)
    assert not is_readable(Mirror(columns(2, (0, 1))))


def test_clones_are_told_apart_by_order() -> None:
    assert partition_by_copy("abcab", str) == [["a", "b", "c"], ["a", "b"]]
    assert partition_by_copy("", str) == []
