"""Volumes put together from pieces read as the byte-by-byte model says, whole or with columns missing."""

from __future__ import annotations

import errno
import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.block_source import check_block_source
from tests.support.blocks.raid_model import RAID5, RAID6, Unreliable, parity_columns, stripe_columns
from vmount.blocks.assembly import build_source
from vmount.parsers.availability import is_readable
from vmount.parsers.errors import Corrupt, OutOfBounds, Unsupported
from vmount.parsers.reader import BlockSource, BytesReader, Span, run_sync
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

LAYOUTS = [(layout, 1) for layout in RAID5] + [(layout, 2) for layout in RAID6]


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def areas(columns: tuple[bytes, ...]) -> tuple[Area, ...]:
    return tuple(Area(str(number), 0, len(column)) for number, column in enumerate(columns))


def present(columns: tuple[bytes, ...], without: tuple[int, ...] = ()) -> dict[str, BlockSource]:
    return {
        str(number): BytesReader(column)
        for number, column in enumerate(columns)
        if number not in without
    }


async def test_concat_of_areas_and_zeros() -> None:
    data = content(100_000)
    mapping = Concat((Area("a", 500, 30_001), Zero(4096), Area("b", 0, 1), Area("a", 0, 60_000)))
    source = build_source(mapping, {"a": BytesReader(data), "b": BytesReader(b"x")})
    assert source.size == length_of(mapping)
    await check_block_source(source, data[500:30_501] + bytes(4096) + b"x" + data[:60_000])


@pytest.mark.parametrize("count", [1, 2, 3, 7])
async def test_a_stripe(count: int) -> None:
    data = content(512 * 5 * count * 7)
    columns = stripe_columns(data, 512 * 5, count)
    mapping = Stripe(areas(columns), 512 * 5)
    assert length_of(mapping) == len(data)
    await check_block_source(build_source(mapping, present(columns)), data)


@pytest.mark.parametrize(("layout", "parities"), LAYOUTS)
async def test_parity_with_any_columns_missing_that_it_makes_up_for(
    layout: ParityLayout, parities: int
) -> None:
    data = content(512 * 3 * 11)
    columns = parity_columns(data, 512, layout, parities)
    mapping = Parity(areas(columns), 512, layout, parities)
    assert length_of(mapping) == len(data)
    for lost in range(parities + 1):
        for without in combinations(range(len(columns)), lost):
            await check_block_source(build_source(mapping, present(columns, without)), data)


@pytest.mark.parametrize(("layout", "parities"), LAYOUTS)
async def test_parity_refuses_what_too_many_missing_columns_held(
    layout: ParityLayout, parities: int
) -> None:
    data = content(512 * 3 * 11)
    columns = parity_columns(data, 512, layout, parities)
    mapping = Parity(areas(columns), 512, layout, parities)
    for without in combinations(range(len(columns)), parities + 1):
        source = build_source(mapping, present(columns, without))
        read = 0
        for offset in range(0, len(data), 512):
            try:
                assert await source.read(offset, 512) == data[offset : offset + 512]
                read += 1
            except OSError as error:
                assert error.errno == errno.EIO
                assert error.filename in [str(number) for number in without]
        assert read < len(data) // 512


@given(data=st.data())
def test_parity_with_bad_sectors(data: st.DataObject) -> None:
    layout, parities = data.draw(st.sampled_from(LAYOUTS))
    chunk = data.draw(st.sampled_from([1, 8, 24]))
    rows = data.draw(st.integers(1, 12))
    expected = content(chunk * 3 * rows)
    columns = parity_columns(expected, chunk, layout, parities)
    spans = st.builds(Span, st.integers(0, chunk * rows), st.integers(1, chunk))
    bad = data.draw(st.sets(st.integers(0, len(columns) - 1), max_size=parities))
    at_hand = data.draw(st.booleans())
    devices: dict[str, BlockSource] = {
        str(number): Unreliable(
            column, data.draw(st.lists(spans)) if number in bad else [], at_hand
        )
        for number, column in enumerate(columns)
    }
    source = build_source(Parity(areas(columns), chunk, layout, parities), devices)
    offset = data.draw(st.integers(0, len(expected)))
    length = data.draw(st.integers(0, len(expected) - offset))
    at_once = source.try_read(offset, length)
    assert at_once is None or at_once == expected[offset : offset + length]
    assert run_sync(source.read(offset, length)) == expected[offset : offset + length]


async def test_a_failing_column_is_read_once_a_request() -> None:
    data = content(512 * 3 * 8)
    columns = parity_columns(data, 512, ParityLayout.LEFT_SYMMETRIC, 1)
    devices = {
        str(number): Unreliable(column, [Span(0, len(column))] if number == 1 else [], False)
        for number, column in enumerate(columns)
    }
    mapping = Parity(areas(columns), 512, ParityLayout.LEFT_SYMMETRIC, 1)
    assert await build_source(mapping, devices).read(0, len(data)) == data
    assert len(devices["1"].read_spans) == 1


async def test_a_mirror_goes_on_with_the_next_copy() -> None:
    data = content(5000)
    first, second = Unreliable(data, [Span(100, 10)]), BytesReader(data)
    mapping = Mirror((Area("gone", 0, 5000), Area("a", 0, 5000), Area("b", 0, 5000)))
    source = build_source(mapping, {"a": first, "b": second})
    assert source.try_read(0, 100) == data[:100]
    assert source.try_read(50, 100) is None
    assert await source.read(50, 100) == data[50:150]
    await check_block_source(source, data)
    alone = build_source(mapping, {"a": first})
    with pytest.raises(OSError, match="a bad sector"):
        await alone.read(50, 100)


async def test_a_mirror_of_spans_with_a_piece_missing_in_either() -> None:
    data = content(4000)
    one = Concat((Area("a", 0, 1000), Missing("b", 3000)))
    two = Concat((Missing("c", 1000), Area("d", 0, 3000)))
    devices: dict[str, BlockSource] = {"a": BytesReader(data[:1000]), "d": BytesReader(data[1000:])}
    source = build_source(Mirror((one, two)), devices)
    assert await source.read(0, 1000) == data[:1000]
    assert await source.read(1000, 3000) == data[1000:]
    assert await source.read(500, 500) == data[500:1000]


RAID10_TABLES = [
    # near, far, offset, what the columns hold: md(4) and the figures of the MD documentation
    (2, 1, False, ["0 2 4 6", "0 2 4 6", "1 3 5 7", "1 3 5 7"]),
    (2, 1, False, ["0 1 3 4 6 7", "0 2 3 5 6 8", "1 2 4 5 7 8"]),
    (3, 1, False, ["0 1 2 3", "0 1 2 3", "0 1 2 3"]),
    (1, 2, False, ["0 3 6 2 5 8", "1 4 7 0 3 6", "2 5 8 1 4 7"]),
    (1, 2, False, ["0 4 3 7", "1 5 0 4", "2 6 1 5", "3 7 2 6"]),
    (1, 2, True, ["0 2 3 5 6 8", "1 0 4 3 7 6", "2 1 5 4 8 7"]),
    (1, 2, True, ["0 3 4 7", "1 0 5 4", "2 1 6 5", "3 2 7 6"]),
    (2, 2, False, ["0 2 1 3", "0 2 1 3", "1 3 0 2", "1 3 0 2"]),
]


@pytest.mark.parametrize(("near", "far", "offset", "table"), RAID10_TABLES)
async def test_raid10(near: int, far: int, offset: bool, table: list[str]) -> None:
    numbers = [[int(cell) for cell in line.split()] for line in table]
    data = content(512 * (max(map(max, numbers)) + 1))
    columns = tuple(b"".join(data[number * 512 :][:512] for number in column) for column in numbers)
    mapping = Raid10(areas(columns), 512, near, far, offset)
    assert length_of(mapping) == len(data)
    for lost in range(near * far):
        for without in combinations(range(len(columns)), lost):
            await check_block_source(build_source(mapping, present(columns, without)), data)
            devices: dict[str, BlockSource] = {
                str(number): Unreliable(
                    column, [Span(0, len(column))] if number in without else [], False
                )
                for number, column in enumerate(columns)
            }
            assert await build_source(mapping, devices).read(0, len(data)) == data
    nothing = build_source(mapping, {})
    with pytest.raises(OSError, match="missing"):
        await nothing.read(0, 512)


async def test_raid10_that_was_never_synchronised_is_read_from_its_first_copies() -> None:
    first, second = content(2048), bytes(2048)
    mapping = Raid10(areas((first, second)), 512, in_sync=False)
    whole = present((first, second), ())
    assert await build_source(mapping, whole).read(0, 2048) == first
    failing: dict[str, BlockSource] = dict(whole)
    failing["0"] = Unreliable(first, [Span(512, 512)], False)
    source = build_source(mapping, failing)
    assert await source.read(1024, 512) == first[1024:1536]
    with pytest.raises(OSError):
        await source.read(512, 512)
    assert not is_readable(Raid10((*areas((first,)), Missing("1", 2048)), 512, in_sync=False))


def test_a_device_that_is_too_short_is_refused() -> None:
    with pytest.raises(OutOfBounds):
        build_source(Area("a", 1, 100), {"a": BytesReader(bytes(100))})


@pytest.mark.parametrize(
    "mapping",
    [
        Stripe((Zero(1024), Zero(512)), 512),
        Stripe((Zero(700), Zero(700)), 512),
        Stripe((), 512),
        Stripe((Zero(512),), 0),
        Mirror(()),
        Mirror((Zero(1), Zero(2))),
        Parity((Zero(512),), 512, ParityLayout.LEFT_SYMMETRIC),
        Parity((Zero(512),) * 300, 512, ParityLayout.LEFT_SYMMETRIC),
        Raid10((Zero(512),), 512, 2),
        Raid10((Zero(512),) * 3, 512, 0),
    ],
)
def test_what_does_not_go_together_is_refused(mapping: VolumeMap) -> None:
    with pytest.raises(Corrupt):
        build_source(mapping, {})


@pytest.mark.parametrize(
    ("layout", "parities"),
    [
        (ParityLayout.ROTATING_N_CONTINUE, 1),
        (ParityLayout.LEFT_SYMMETRIC_6, 1),
        (ParityLayout.LEFT_SYMMETRIC, 3),
    ],
)
def test_layouts_that_there_are_not(layout: ParityLayout, parities: int) -> None:
    with pytest.raises(Unsupported):
        build_source(Parity((Zero(512),) * 5, 512, layout, parities), {})
