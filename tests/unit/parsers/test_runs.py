"""Runs over ranges: what a list of tuples would answer, in a tenth of the memory, within bounds."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmount.parsers import runs as module
from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.model import FileData, Run, Runs
from vmount.parsers.reader import BytesReader, run_sync
from vmount.parsers.runs import NO_RUNS, RunBuilder, RunList

VOLUME = bytes(range(256)) * 8
PARTS = st.lists(st.tuples(st.integers(1, 300), st.none() | st.integers(0, 1700)), max_size=12)


def built(parts: list[tuple[int, int | None]]) -> tuple[RunList, bytes]:
    builder, content = RunBuilder(), b""
    for length, start in parts:
        builder.add(length, start)
        content += bytes(length) if start is None else VOLUME[start : start + length]
    return builder.finish(), content


@given(PARTS, st.data())
def test_a_range_has_the_bytes_of_its_runs(
    parts: list[tuple[int, int | None]], data: st.DataObject
) -> None:
    runs, content = built(parts)
    assert runs.end == len(content)
    offset = data.draw(st.integers(0, len(content)))
    length = data.draw(st.integers(0, len(content) - offset))
    found = run_sync(runs.read(BytesReader(VOLUME), offset, length))
    assert bytes(found) == content[offset : offset + length]
    cut = runs.cut(length)
    assert bytes(run_sync(cut.read(BytesReader(VOLUME), 0, cut.end))) == content[:length]
    place = runs.place(offset, length) if length else None
    if place is not None:
        assert VOLUME[place : place + length] == content[offset : offset + length]
    with pytest.raises(Corrupt):
        runs.pieces(offset, len(content) - offset + 1)


@given(PARTS)
def test_a_list_is_a_sequence_of_runs_and_neighbours_are_one(
    parts: list[tuple[int, int | None]],
) -> None:
    runs, _ = built(parts)
    assert [runs[index] for index in range(len(runs))] == list(runs) == list(runs[:])
    assert RunList.of(tuple(runs)) == runs
    for before, after in pairwise(runs):
        assert after.offset == before.offset + before.length
        if before.start is None or after.start is None:
            assert before.start != after.start
        else:
            assert after.start != before.start + before.length


def test_a_run_takes_sixteen_bytes() -> None:
    count = 100_000
    tracemalloc.start()
    try:
        builder = RunBuilder()
        for number in range(count):
            builder.add(4096, (2 * number + 1) << 40)
        runs = builder.finish()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(runs) == count
    assert held < 20 * count
    described = FileData(runs.end, runs.end, Runs(runs))
    assert 16 * count <= described.cost < 20 * count


def test_more_runs_than_fit_in_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RUNS", 10)
    builder = RunBuilder()
    for number in range(10):
        builder.add(1, 2 * number)
    builder.add(1, 19)
    with pytest.raises(Unsupported, match="more than 10 pieces"):
        builder.add(1, 30)


@pytest.mark.parametrize(("length", "start"), [(1 << 63, None), (1, 1 << 63), (1, -1)])
def test_what_no_file_and_no_volume_has_is_damage(length: int, start: int | None) -> None:
    with pytest.raises(Corrupt, match="beyond the limit"):
        RunBuilder().add(length, start)


def test_holes_may_be_longer_than_the_volume_and_runs_may_not_leave_it() -> None:
    runs = RunList.of((Run(0, 10_000, None), Run(10_000, 8, 92)))
    runs.check_within(100)
    runs.check_within(200)
    with pytest.raises(Corrupt, match="beyond the end of the volume"):
        runs.check_within(99)
    NO_RUNS.check_within(0)
