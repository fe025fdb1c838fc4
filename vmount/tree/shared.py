"""Objects that are made once for all simultaneous users."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

import trio

from vmount.parsers.errors import ParseError
from vmount.parsers.lru import Lru

K = TypeVar("K")
V = TypeVar("V")


MOST_FAILURES = 1000
"""Objects remembered as damaged, each with its error."""


class _Making:
    """An object that is being made."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.error: ParseError | OSError | None = None


class Shared(Generic[K, V]):
    """Objects by their keys, for as long as they have a holder.

    Who asks for one that is being made waits for it, or for its error: many opens of a file that takes seconds
    and much memory to open cost as much as one. What is damaged stays so, for sources are only ever read: its
    error is remembered.
    """

    def __init__(self) -> None:
        self._alive: WeakValueDictionary[K, V] = WeakValueDictionary()
        self._making: dict[K, _Making] = {}
        self._damaged: Lru[K, ParseError] = Lru(MOST_FAILURES)

    async def get(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        """Return the object of a key; `make` it if there is none. Raises what `make` raises."""
        found = self._alive.get(key)
        while found is None and key in self._making:
            making = self._making[key]
            await making.done.wait()
            if making.error is not None:
                raise making.error.with_traceback(None)
            found = self._alive.get(key)  # None: the task that made it was cancelled
        return found if found is not None else await self._make(key, make)

    async def _make(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        damage = self._damaged.get(key)
        if damage is not None:
            raise damage.with_traceback(None)
        making = self._making[key] = _Making()
        try:
            made = await make()
            self._alive[key] = made
        except (ParseError, OSError) as error:
            making.error = error
            if isinstance(error, ParseError):
                # Without what led to it: frames would keep all that was read.
                error.__cause__ = error.__context__ = None
                self._damaged.put(key, error)
            raise
        finally:
            del self._making[key]
            making.done.set()
            del making
        return made
