"""The one LRU cache: it evicts what was used longest ago."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

K = TypeVar("K")
V = TypeVar("V")


class Lru(Generic[K, V]):
    """Values by key, the least recently used forgotten first, while they weigh more than `limit`.

    `weigh` returns what a value weighs, the same at each call; without it each weighs 1, and `limit` is a
    number of values. A value that alone weighs more than the limit is not kept. `dropped` is called with
    each key and value that is forgotten for the limit's sake. Every method but iteration takes constant
    time: an eviction does not look at the values that stay.
    """

    def __init__(
        self,
        limit: int,
        weigh: Callable[[V], int] | None = None,
        dropped: Callable[[K, V], None] | None = None,
    ) -> None:
        self.limit = limit
        self.weight = 0
        """Of all values kept."""
        self._weigh = weigh
        self._dropped = dropped
        # A plain dict keeps the places of deleted keys, and finding its first key passes all of them.
        self._values: OrderedDict[K, V] = OrderedDict()
        self._touch = self._values.move_to_end

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: K) -> bool:
        """Say whether a key has a value. This is no use of it."""
        return key in self._values

    def __iter__(self) -> Iterator[V]:
        """Go over the values, the most recently used first. This is no use of them."""
        return reversed(self._values.values())

    def get(self, key: K) -> V | None:
        """Return a value and count this as a use of it; None if it is not kept."""
        value = self._values.get(key)
        if value is not None:
            try:  # noqa: SIM105 (another context manager would cost each hit a call)
                self._touch(key)
            except KeyError:  # another thread has just dropped it (vmount.blocks.memory)
                pass
        return value

    def peek(self, key: K) -> V | None:
        """Return a value without counting this as a use; None if it is not kept."""
        return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep a value, as the one used last; drop others as far as the limit asks for it."""
        values = self._values
        if key in values:
            self.pop(key)
        weight = 1 if self._weigh is None else self._weigh(value)
        if weight > self.limit:
            return
        values[key] = value
        self.weight += weight
        while self.weight > self.limit:
            self.drop_oldest()

    def drop_oldest(self) -> None:
        """Forget the value that was used longest ago, if there is any."""
        if not self._values:
            return
        oldest, dropped = self._values.popitem(last=False)
        self.weight -= 1 if self._weigh is None else self._weigh(dropped)
        if self._dropped is not None:
            self._dropped(oldest, dropped)

    def pop(self, key: K) -> V | None:
        """Return a value and forget it; None if it is not kept."""
        value = self._values.pop(key, None)
        if value is not None:
            self.weight -= 1 if self._weigh is None else self._weigh(value)
        return value

    def clear(self) -> None:
        """Forget all."""
        self._values.clear()
        self.weight = 0
