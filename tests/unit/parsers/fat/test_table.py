"""Chains of clusters: any chain comes out as it went in, anything else is refused."""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.parsers.reading import Image
from vmount.parsers.errors import Corrupt
from vmount.parsers.fat.clusters import Heap, read_all
from vmount.parsers.fat.table import EXFAT, FAT12, FAT16, FAT32, PAGE, Kind, Table
from vmount.parsers.model import Run
from vmount.parsers.reader import BytesReader, run_sync

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = [FAT12, FAT16, FAT32, EXFAT]
OFFSET = 512


def build(kind: Kind, entries: Sequence[int]) -> bytes:
    """Return a table after `OFFSET` bytes, with the bits set that FAT32 wants to be ignored."""
    if kind.bits == 12:
        bits = sum(entry << 12 * index for index, entry in enumerate(entries))
        data = bits.to_bytes((len(entries) * 12 + 7) // 8, "little")
    elif kind.bits == 16:
        data = struct.pack(f"<{len(entries)}H", *entries)
    else:
        ignored = ~kind.mask & 0xFFFF_FFFF
        data = struct.pack(f"<{len(entries)}I", *(entry | ignored for entry in entries))
    return bytes(OFFSET) + data


def table(kind: Kind, entries: Sequence[int]) -> Table:
    return Table(BytesReader(build(kind, entries)), kind, OFFSET, len(entries) - 2)


def chained(kind: Kind, clusters: Sequence[int], total: int) -> list[int]:
    entries = [0] * (total + 2)
    for cluster, following in zip(clusters, [*clusters[1:], kind.mask], strict=True):
        entries[cluster] = following
    return entries


@st.composite
def chains(draw: st.DrawFn) -> tuple[Kind, list[int], int]:
    kind = draw(st.sampled_from(KINDS))
    total = draw(st.integers(1, 300))
    pieces = draw(st.lists(st.integers(1, 20), max_size=20))
    order = draw(st.permutations(range(2, total + 2)))
    clusters: list[int] = []
    used: set[int] = set()
    for start, length in zip(order, pieces, strict=False):
        for cluster in range(start, min(start + length, total + 2)):
            if cluster in used:
                break
            used.add(cluster)
            clusters.append(cluster)
    return kind, clusters or [2], total


@pytest.mark.requirement("R24")
@given(chains())
def test_any_chain(case: tuple[Kind, list[int], int]) -> None:
    kind, clusters, total = case
    opened = table(kind, chained(kind, clusters, total))
    runs = run_sync(opened.chain(clusters[0], len(clusters)))
    assert [at for run in runs for at in range(run.first, run.first + run.length)] == clusters
    assert all(a.first + a.length != b.first for a, b in itertools.pairwise(runs))
    assert run_sync(opened.whole_chain(clusters[0], len(clusters))) == runs
    part = run_sync(opened.chain(clusters[0], (len(clusters) + 1) // 2))
    assert sum(run.length for run in part) == (len(clusters) + 1) // 2
    assert run_sync(opened.count_free()) == total - len(clusters)
    if len(clusters) < total:
        with pytest.raises(Corrupt, match="ends early"):
            run_sync(opened.chain(clusters[0], len(clusters) + 1))
    if len(clusters) > 1:
        with pytest.raises(Corrupt, match="too long"):
            run_sync(opened.whole_chain(clusters[0], len(clusters) - 1))


@pytest.mark.requirement("R22")
@given(st.sampled_from(KINDS), st.lists(st.integers(0, 0xFFFF_FFFF), min_size=3, max_size=60))
def test_any_table_gives_a_chain_or_corrupt(kind: Kind, entries: list[int]) -> None:
    entries = [entry % (len(entries) + 2) if entry % 3 else entry & kind.mask for entry in entries]
    opened = table(kind, entries)
    for count in range(1, len(entries)):
        try:
            runs = run_sync(opened.chain(2, count))
        except Corrupt:
            continue
        clusters = [at for run in runs for at in range(run.first, run.first + run.length)]
        assert len(set(clusters)) == len(clusters) == count
        assert all(2 <= cluster < len(entries) for cluster in clusters)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_chain_may_not_go_through(kind: Kind) -> None:
    entries = chained(kind, range(2, 12), 20)
    for value, message in (
        (0, "free cluster"),
        (1, "outside the volume"),
        (22, "outside the volume"),
        (kind.bad, "bad cluster"),
        (3, "loop"),
        (6, "loop"),
    ):
        entries[6] = value
        with pytest.raises(Corrupt, match=message):
            run_sync(table(kind, entries).chain(2, 10))
        with pytest.raises(Corrupt, match=message):
            run_sync(table(kind, entries).whole_chain(2, 1000))
    assert run_sync(table(kind, entries).chain(2, 4)) == [(2, 4)]
    # The last cluster that a file needs is in use, or it is not the file's.
    entries[6] = 0
    with pytest.raises(Corrupt, match="free cluster"):
        run_sync(table(kind, entries).chain(2, 5))
    for first in (0, 1, 22, 0x0FFF_FFFF):
        with pytest.raises(Corrupt, match="first cluster"):
            run_sync(table(kind, entries).chain(first, 1))
    with pytest.raises(Corrupt, match="more clusters than"):
        run_sync(table(kind, entries).chain(2, 1 << 40))


@pytest.mark.parametrize("kind", [FAT16, FAT32, EXFAT])
def test_chains_across_pages(kind: Kind) -> None:
    total = min(20 * PAGE * 8 // kind.bits, kind.mask - 16)
    # Backwards in pieces of 1000, so that every page is met again and again; then all in one.
    starts = range(total - 1000, 2, -1000)
    clusters = [at for start in starts for at in range(start, start + 1000)]
    entries = chained(kind, clusters, total)
    runs = run_sync(table(kind, entries).chain(clusters[0], len(clusters)))
    assert runs == [(start, 1000) for start in starts]
    entries = chained(kind, range(2, total + 2), total)
    image = Image(build(kind, entries))
    opened = Table(image, kind, OFFSET, total)
    assert run_sync(opened.chain(2, total)) == [(2, total)]
    assert image.bytes_read == len(image.data) - OFFSET
    assert image.reads <= 7


@pytest.mark.requirement("R24")
@given(st.lists(st.tuples(st.integers(0, 5 << 20), st.integers(1, 3 << 20)), max_size=12))
def test_runs_are_read_in_their_order(places: list[tuple[int, int]]) -> None:
    data = bytes(range(251)) * 34_000  # over 5 + 3 MiB
    image = Image(data)
    runs, offset = [], 0
    for start, length in places:
        runs.append(Run(offset, length, start))
        offset += length
    expected = b"".join(data[start : start + length] for start, length in places)
    assert run_sync(read_all(image, runs)) == expected


def test_clusters_and_bytes() -> None:
    heap = Heap(1 << 20, 4096)
    assert heap.start(2) == 1 << 20
    assert heap.cluster(heap.start(77) + 4095) == 77
    assert [heap.count(size) for size in (0, 1, 4096, 4097)] == [0, 1, 1, 2]
