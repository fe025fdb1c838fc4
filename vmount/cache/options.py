"""The bounds of a distant disk's cache."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CacheOptions:
    """Bounds of a CachedDisk, in bytes where nothing else is said."""

    capacity: int = 256 << 20
    """Kept in memory at most."""
    guesses_in_flight: int = 8 << 20
    """Being fetched ahead at a time."""
    guess_requests: int = 32
    """Requests for them at a time: half of what an NBD connection takes, so that what is demanded finds
    room beside them."""
    guesses_queued: int = 32 << 20
    """Waiting to be fetched ahead; what comes in addition is forgotten."""
