"""What of distant disks is in memory, and what goes first when there is too much.

Strategy: the buffer that one request brought is kept whole, as a slab of neighbouring lines. Slabs are what
is evicted, the least recently used first, over all disks that share a CacheBudget.
"""

from __future__ import annotations

from collections import OrderedDict

from vmount.blocks.memory import PROCESS, MemoryBudget

LINE = 32 << 10
"""Bytes. Larger lines make a small read on a distant disk wait for what it does not need; smaller ones
make more requests of a walk through metadata."""
SHIFT = LINE.bit_length() - 1


class Slab:
    """Neighbouring lines that came by one request."""

    __slots__ = ("first", "guess", "start", "view")

    def __init__(self, first: int, view: memoryview, *, guess: bool) -> None:
        self.first = first
        """Number of the first line."""
        self.start = first << SHIFT
        """Offset on the disk."""
        self.view = view
        self.guess = guess
        """Fetched ahead and not read yet."""

    @property
    def lines(self) -> range:
        """The numbers of its lines; the last line of a disk may be shorter."""
        return range(self.first, self.first + -(-len(self.view) // LINE))


class CacheBudget:
    """The slabs that may be kept, of one CachedDisk or of several that share what they may take."""

    def __init__(self, capacity: int, memory: MemoryBudget = PROCESS) -> None:
        self.capacity = capacity
        """Bytes; less is kept while others of `memory` need it."""
        self.slabs: OrderedDict[Slab, Slabs] = OrderedDict()
        """And whose they are, the least recently used first."""
        self.cached = 0
        """Bytes."""
        self._memory = memory
        memory.share(self)

    def add(self, slab: Slab, owner: Slabs) -> None:
        """Keep a slab, and let go of what is over the bounds."""
        self.slabs[slab] = owner
        self.cached += len(slab.view)
        while self.cached > self.capacity:
            self.evict()
        self._memory.trim()

    def evict(self) -> None:
        """Let go of the slab that was used longest ago."""
        if self.slabs:
            slab, owner = self.slabs.popitem(last=False)
            self.cached -= len(slab.view)
            owner.forget(slab)


class Slabs:
    """The slabs of one disk."""

    def __init__(self, budget: CacheBudget) -> None:
        self.lines: dict[int, Slab] = {}
        """By the number of the line. Only this class changes it."""
        self.cached = 0
        """Bytes."""
        self.guesses_used = self.guesses_wasted = 0
        """Bytes, as CacheStats has them."""
        self._budget = budget
        self._recent = budget.slabs

    def touch(self, slab: Slab) -> None:
        """Note that a slab is used; it may have been evicted meanwhile."""
        if slab in self._recent:
            self._recent.move_to_end(slab)
        if slab.guess:
            slab.guess = False
            self.guesses_used += len(slab.view)

    def keep(self, slab: Slab) -> None:
        """Store a slab, and let go of those that are over the bound."""
        self.cached += len(slab.view)
        for line in slab.lines:
            self.lines[line] = slab
        self._budget.add(slab, self)

    def forget(self, slab: Slab) -> None:
        """Let go of an evicted slab."""
        for line in slab.lines:
            del self.lines[line]
        self.cached -= len(slab.view)
        if slab.guess:
            self.guesses_wasted += len(slab.view)
