"""What is open, and what is cached, stays within one bound; what does not fit costs itself only."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import trio

from tests.unit.test_cache import CONTENT, MemoryBackend
from vmount.blocks.file_map import open_file
from vmount.blocks.memory import SMALL, Decoded, MemoryBudget, TooLarge, memory_of_process
from vmount.cache import LINE, CacheBudget, CachedDisk
from vmount.parsers.errors import Corrupt
from vmount.parsers.model import FileData, Inline, Run, Runs
from vmount.parsers.reader import BytesReader
from vmount.parsers.runs import LIST_COST, RunList

BLOCK = 512


class Owner:
    """Something that is open."""


def test_what_is_held_is_given_back_with_its_owner() -> None:
    budget = MemoryBudget(4 << 20)
    owner, other = Owner(), Owner()
    budget.hold(owner, 1 << 20, "a map")
    with pytest.raises(TooLarge, match="a listing needs 2 MiB of memory, 1 MiB are free") as caught:
        budget.hold(other, 2 << 20, "a listing")
    assert caught.value.errno == errno.ENOMEM
    del owner
    budget.hold(other, 2 << 20, "a listing")
    assert budget.held == 2 << 20


def test_small_things_are_not_counted() -> None:
    budget = MemoryBudget(0)
    budget.hold(Owner(), SMALL, "a map")
    assert budget.held == 0


def test_the_largest_cache_makes_room_for_what_is_held() -> None:
    budget = MemoryBudget(8 << 20)
    large: Decoded[int] = Decoded(budget)
    small: Decoded[int] = Decoded(budget)
    large._pieces.limit = small._pieces.limit = 8 << 20
    for number in range(7):
        large.keep(number, bytes(1 << 20))
    small.keep(0, bytes(1 << 20))
    owner = Owner()
    budget.hold(owner, 4 << 20, "a map")
    assert (large.cached, small.cached) == (3 << 20, 1 << 20)
    assert large.get(6) is not None
    assert large.get(0) is None


async def test_caches_of_several_disks_share_the_bound(nursery: trio.Nursery) -> None:
    memory = MemoryBudget(10 * LINE)
    budgets = [CacheBudget(8 * LINE, memory) for _ in range(3)]
    disks = [CachedDisk(MemoryBackend(most_lines=1), nursery, budget=budget) for budget in budgets]
    for line in range(12):
        for disk in disks:
            start = line * LINE
            assert await disk.read(start, LINE) == CONTENT[start : start + LINE]
            assert memory.cached <= 10 * LINE
    assert all(budget.cached for budget in budgets)


def many_runs(count: int) -> FileData:
    runs = tuple(Run(n * BLOCK, BLOCK, (count - 1 - n) * BLOCK) for n in range(count))
    return FileData(count * BLOCK, count * BLOCK, Runs(RunList.of(runs)))


def test_a_map_that_does_not_fit_is_refused_and_leaves_nothing() -> None:
    source = BytesReader(bytes(BLOCK * 10_000))
    memory = MemoryBudget(400_000)
    first = open_file(source, many_runs(10_000), memory)
    assert memory.held == 160_000 + LIST_COST
    with pytest.raises(TooLarge):
        open_file(source, many_runs(9_999), memory)
    del first
    assert memory.held == 0
    assert open_file(source, many_runs(9_999), memory).size == 9_999 * BLOCK


def test_a_size_without_bytes_takes_no_memory() -> None:
    with pytest.raises(Corrupt, match="inline"):
        open_file(BytesReader(b""), FileData(1 << 40, 3, Inline(b"abc")))


def test_the_memory_of_a_control_group_counts(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("0::/a/b\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "memory.max").write_text("max\n")
    (tmp_path / "a" / "memory.max").write_text("1048576\n")
    assert memory_of_process(tmp_path, membership) == 1 << 20
    membership.write_text("5:cpu,memory:/c\n")
    (tmp_path / "memory" / "c").mkdir(parents=True)
    (tmp_path / "memory" / "c" / "memory.limit_in_bytes").write_text("4096\n")
    assert memory_of_process(tmp_path, membership) == 4096
    assert memory_of_process(tmp_path, tmp_path / "nothing") > 1 << 20
