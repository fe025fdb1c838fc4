"""The directories that were read last, so that a look-up does not read its directory each time."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

WEIGHT_KEPT = 200_000
"""Files in all directories that are kept: some 100 MiB at worst. One larger than that is not kept."""

DIRECTORIES_KEPT = 64
"""All of them are looked through for a file whose number alone is known."""


class DirectoryCache(Generic[T]):
    """Directories by number, forgotten in the order of their last use."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[T, int]] = OrderedDict()
        self._weight = 0

    def get(self, ino: int) -> T | None:
        """Return a directory if it is here."""
        found = self._kept.get(ino)
        if found is None:
            return None
        self._kept.move_to_end(ino)
        return found[0]

    def put(self, ino: int, directory: T, weight: int) -> None:
        """Keep a directory of `weight` files."""
        if ino in self._kept or weight > WEIGHT_KEPT:
            return
        self._kept[ino] = directory, weight
        self._weight += weight
        while self._weight > WEIGHT_KEPT or len(self._kept) > DIRECTORIES_KEPT:
            _, (_, lost) = self._kept.popitem(last=False)
            self._weight -= lost

    def __iter__(self) -> Iterator[T]:
        """Go over the directories, the last used first."""
        return (directory for directory, _ in reversed(self._kept.values()))
