"""Distinguishing clones: open devices with the same identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

T = TypeVar("T")


def partition_by_copy(items: Sequence[T], identity: Callable[[T], Hashable]) -> list[list[T]]:
    """Return the first of each identity, then the second of each, and so on.

    Within each of these lists, and so between clones of one set of devices, the order given is kept.
    """
    seen: dict[Hashable, list[T]] = {}
    for item in items:
        seen.setdefault(identity(item), []).append(item)
    count = max(map(len, seen.values()), default=0)
    return [
        [same[number] for same in seen.values() if number < len(same)] for number in range(count)
    ]
