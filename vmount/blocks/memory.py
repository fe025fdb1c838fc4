"""What the process may keep in memory at a time, in sum.

Strategy: two kinds of memory share one bound. What an open object holds (a file's map, a listing) is *held*:
it is taken before it is kept and given back when its owner is gone; an object that finds no room costs its
caller ENOMEM, and nobody else anything. What can be fetched again (lines of distant disks, decoded chunks) is
*cached*: caches shrink to what is left. Small objects are not counted one by one: their number is bounded by
the descriptors of those who opened them.

Several threads may share a bound, each with caches of its own that no other thread touches.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from vmount.parsers.lru import Lru
from vmount.parsers.reader import Buffer

K = TypeVar("K")

SMALL = 64 << 10
"""Bytes: objects up to this size are not counted."""
NAME = 400
"""Bytes: about the least that a name takes with its attributes (tree.listing.cost_of counts more exactly)."""
NAME_AT_WORK = 1800
"""Bytes: about the most that a name takes while its listing is made: with its inode or MFT record."""
MOST_HELD = 512 << 20
"""Bytes that open objects may hold together, where the machine has memory enough."""
MOST_DECODED = 64 << 20
"""Bytes of decoded chunks of compressed files that are kept, where the machine has memory enough."""
LEAST = 64 << 20
"""Bytes: the bound of a process on a machine, or in a container, that has very little."""

ANY_THREAD = -1
"""In place of a thread's number."""
CGROUP = Path("/sys/fs/cgroup")


class TooLarge(OSError):
    """An object needs more memory than is left for it (ENOMEM)."""

    def __init__(self, what: str, wanted: int, left: int) -> None:
        self.wanted = wanted
        """Bytes."""
        self.reason = (
            f"{what} needs {wanted >> 20} MiB of memory, {max(left, 0) >> 20} MiB are free for open"
            " files and listings; close some files, or give the process more memory"
        )
        super().__init__(errno.ENOMEM, self.reason)


class Cache(Protocol):
    """Something that releases memory on request."""

    @property
    def cached(self) -> int:
        """Bytes kept now."""
        ...

    def evict(self) -> None:
        """Let go of what was used longest ago; of something, if `cached` is not 0."""
        ...


class MemoryBudget:
    """A bound in bytes on what is held and cached together."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.most_held = min(MOST_HELD, capacity // 2)
        self.held = 0
        """Bytes taken by open objects."""
        self._caches: weakref.WeakKeyDictionary[Cache, int] = weakref.WeakKeyDictionary()
        """And the thread whose each is; ANY_THREAD: all may let it shrink."""
        self._mutex = threading.RLock()
        """Held while the caches are gone over. What is called then waits for no other thread."""

    @property
    def cached(self) -> int:
        """Bytes kept by caches."""
        with self._mutex:
            return sum(cache.cached for cache in self._caches)

    def share(self, cache: Cache, thread: int | None = None) -> None:
        """Count what a cache keeps, and let it shrink when others of its thread need the memory.

        `thread` is the one that uses it: by default the caller's; ANY_THREAD if it looks after itself.
        """
        with self._mutex:
            self._caches[cache] = threading.get_ident() if thread is None else thread

    def trim(self) -> None:
        """Let the largest caches of this thread shrink until all is within the bound.

        For who has just kept something. What other threads keep was within the bound when they kept it.
        """
        with self._mutex:
            over = self.held + self.cached - self.capacity
            if over <= 0:
                return
            own = [
                cache
                for cache, thread in self._caches.items()
                if thread in (ANY_THREAD, threading.get_ident())
            ]
            while over > 0 and own:
                largest = max(own, key=lambda cache: cache.cached)
                before = largest.cached
                if not before:
                    return
                largest.evict()
                over -= before - largest.cached

    def hold(self, owner: object, amount: int, what: str) -> None:
        """Count `amount` bytes for as long as `owner` lives. Raises TooLarge; `what` is for its message."""
        if amount <= SMALL:
            return
        if self.held + amount > self.most_held:
            raise TooLarge(what, amount, self.most_held - self.held)
        # No other thread runs within such a statement: the interpreter's lock changes hands at calls and loops.
        self.held += amount
        weakref.finalize(owner, self._give_back, amount).atexit = False
        self.trim()

    def check_names(self, names: int) -> None:
        """Raise TooLarge if so many names of one directory, with their attributes, do not fit in what is left.

        For a listing that is still being made: nothing is taken.
        """
        for each, most in ((NAME, self.most_held), (NAME_AT_WORK, self.capacity)):
            needed = names * each
            if needed > SMALL and self.held + needed > most:
                raise TooLarge(f"a directory of {names} names or more", needed, most - self.held)

    def _give_back(self, amount: int) -> None:
        self.held -= amount


class Decoded(Generic[K]):
    """Decoded pieces of many objects, as many as there is memory for. Any thread may use it."""

    def __init__(self, budget: MemoryBudget, capacity: int = MOST_DECODED) -> None:
        self._budget = budget
        self._pieces: Lru[K, Buffer] = Lru(min(capacity, budget.capacity // 8), weigh=len)
        self.get = self._pieces.get
        self._mutex = threading.Lock()
        budget.share(self, ANY_THREAD)

    @property
    def cached(self) -> int:
        """Bytes kept now."""
        return self._pieces.weight

    def keep(self, key: K, piece: Buffer) -> None:
        """Keep a piece."""
        with self._mutex:
            self._pieces.put(key, piece)
        self._budget.trim()

    def evict(self) -> None:
        """Let go of the piece that was used longest ago."""
        with self._mutex:
            self._pieces.drop_oldest()


def memory_of_process(cgroup: Path = CGROUP, membership: Path = Path("/proc/self/cgroup")) -> int:
    """Return the bytes that this process may use: the machine's, or the least of its control groups'."""
    least = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            folder, name = cgroup, "memory.max"
        elif "memory" in controllers.split(","):
            folder, name = cgroup / "memory", "memory.limit_in_bytes"
        else:
            continue
        own = folder / path.lstrip("/")
        for group in (own, *own.parents):
            if group != folder and folder not in group.parents:
                break
            least = min(least, _limit(group / name, least))
    return least


def _limit(file: Path, otherwise: int) -> int:
    try:
        text = file.read_text().strip()
    except OSError:
        return otherwise
    return int(text) if text.isdigit() else otherwise


PROCESS = MemoryBudget(max(LEAST, memory_of_process() // 2))
"""The bound of this process, for all that is not given another."""
