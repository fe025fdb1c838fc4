"""Objects that are made once for all who have them open at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

import trio

K = TypeVar("K")
V = TypeVar("V")


class Shared(Generic[K, V]):
    """Objects by their keys, for as long as somebody holds them.

    Who asks for one that is being made waits for it: many opens of a file that takes seconds and much memory
    to open cost as much as one.
    """

    def __init__(self) -> None:
        self._alive: WeakValueDictionary[K, V] = WeakValueDictionary()
        self._making: dict[K, trio.Event] = {}

    async def get(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        """Return the object of a key; `make` it if there is none. Raises what `make` raises."""
        while True:
            found = self._alive.get(key)
            if found is not None:
                return found
            making = self._making.get(key)
            if making is None:
                break
            await making.wait()
        done = self._making[key] = trio.Event()
        try:
            made = await make()
            self._alive[key] = made
        finally:
            del self._making[key]
            done.set()
        return made
