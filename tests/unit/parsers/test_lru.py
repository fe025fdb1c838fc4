"""The cache that forgets what was used longest ago: what it keeps, and what an eviction costs."""

from __future__ import annotations

import tracemalloc

import pytest

from tests.support.paths import ROOT
from vmount.parsers.lru import Lru

OWN_EVICTION = {"parsers/lru.py", "vmount/cache/slabs.py", "vmount/jobs/copying/target.py"}
"""Slabs of several disks share a budget, on the path of each read; descriptors must be closed in order."""


class _Key:
    """A key that counts how often a cache looks at one."""

    looks = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        _Key.looks += 1
        return hash(self.number)

    def __eq__(self, other: object) -> bool:
        _Key.looks += 1
        return isinstance(other, _Key) and self.number == other.number


def test_what_was_used_last_is_kept_within_the_limit() -> None:
    cache: Lru[str, bytes] = Lru(10, len)
    cache.put("a", bytes(4))
    cache.put("b", bytes(4))
    assert cache.get("a") == bytes(4)
    cache.put("c", bytes(4))
    assert [key in cache for key in "abc"] == [True, False, True]
    cache.put("a", bytes(10))
    assert [key in cache for key in "abc"] == [True, False, False]
    cache.put("d", bytes(11))
    assert cache.get("d") is None
    assert (len(cache), cache.weight) == (1, 10)


def test_peeking_and_going_over_the_values_are_no_use_of_them() -> None:
    cache: Lru[str, int] = Lru(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.peek("a") == 1
    assert list(cache) == [2, 1]
    cache.put("c", 3)
    assert list(cache) == [3, 2]
    assert (cache.pop("b"), cache.pop("b"), cache.weight) == (2, None, 1)
    cache.clear()
    assert (len(cache), cache.weight) == (0, 0)


def test_the_owner_hears_of_what_is_dropped() -> None:
    dropped: list[tuple[str, int]] = []
    cache: Lru[str, int] = Lru(2, dropped=lambda key, value: dropped.append((key, value)))
    for number, key in enumerate("abca"):
        cache.put(key, number)
    assert dropped == [("a", 0), ("b", 1)]


@pytest.mark.parametrize("limit", [100, 1 << 15])
def test_an_eviction_costs_the_same_in_a_small_and_in_a_large_cache(limit: int) -> None:
    cache: Lru[_Key, int] = Lru(limit)
    for number in range(limit):
        cache.put(_Key(number), number)
    keys = [_Key(limit + number) for number in range(1000)]
    _Key.looks = 0
    tracemalloc.start()
    try:
        for key in keys:
            cache.put(key, 0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(cache) == limit
    assert _Key.looks <= 6 * len(keys)
    # A copy of the keys of the large one would be 256 KiB; the entries themselves are some 100 bytes each.
    assert peak < 200 * len(keys)


def test_no_module_evicts_by_itself() -> None:
    found = {
        str(path.relative_to(ROOT))
        for folder in ("parsers", "vmount")
        for path in (ROOT / folder).rglob("*.py")
        if "OrderedDict" in path.read_text() or ".popitem(" in path.read_text()
    }
    assert found <= OWN_EVICTION
