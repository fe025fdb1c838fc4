"""A cache that forgets what was used longest ago when it holds too much."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """A mapping whose values' costs, in bytes, stay within `limit`.

    A value that alone costs more than the limit is not kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.cost = 0
        """Bytes held."""
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """Return a value and count this as a use of it, None if it is not here."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, cost: int) -> None:
        """Keep a value that takes `cost` bytes."""
        old = self._entries.pop(key, None)
        if old is not None:
            self.cost -= old[1]
        if cost > self.limit:
            return
        self._entries[key] = value, cost
        self.cost += cost
        while self.cost > self.limit:
            _, (_, dropped) = self._entries.popitem(last=False)
            self.cost -= dropped
