"""What a directory holds, under names that a path can hold, and what that takes of memory."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from vmount.disks.disk import path_component

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.model import DirEntry

SAMPLES = 64
"""Entries that are looked at to estimate what all take."""
FEW = 128
"""Entries of a directory whose memory nobody counts."""


class Listing:
    """What a directory holds. The number of an entry is `base` | DirEntry.ino."""

    __slots__ = ("__weakref__", "base", "entries")

    def __init__(self, base: int, entries: Sequence[DirEntry]) -> None:
        self.base = base
        self.entries = entries


def cost_of(entries: Sequence[DirEntry]) -> int:
    """Return about how many bytes of memory entries take."""
    if len(entries) <= FEW:
        return 0
    sample = entries[:: max(1, len(entries) // SAMPLES)]
    return sum(map(_entry_cost, sample)) * len(entries) // len(sample)


def _entry_cost(entry: DirEntry) -> int:
    cost = 8 + sys.getsizeof(entry) + sum(map(sys.getsizeof, (entry.name, entry.ino)))
    if entry.attrs is not None:
        cost += sys.getsizeof(entry.attrs) + sum(map(sys.getsizeof, entry.attrs))
    return cost


_RESERVED = frozenset((b"", b".", b".."))


def usable(entries: Sequence[DirEntry]) -> Sequence[DirEntry]:
    """Percent-encode names that no path can hold: damage, or an attempt to make a copy write elsewhere."""
    names = [entry.name for entry in entries]
    # All at once: a call for each name would take longer than the rest of a listing's way from here on.
    together = b"\n".join(names)
    if b"/" in together or b"\0" in together or not _RESERVED.isdisjoint(names):
        return [
            entry._replace(name=shown(entry.name)) if is_unusable(entry.name) else entry
            for entry in entries
        ]
    return entries


def shown(name: bytes) -> bytes:
    """Return the name under which an unusable one is shown."""
    return os.fsencode(path_component(os.fsdecode(name)))


def is_unusable(name: bytes) -> bool:
    """Say whether no path can hold a name."""
    return b"/" in name or b"\0" in name or name in _RESERVED
