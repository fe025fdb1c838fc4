"""Delays between retries."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Waits that grow by a factor up to a limit, in seconds.

    Each is drawn between half of its nominal value and all of it, so that clients which lost one
    server at the same moment do not come back to it at the same moment.
    """

    first: float = 0.1
    factor: float = 2.0
    limit: float = 5.0
    uniform: Callable[[float, float], float] = random.uniform

    def delays(self) -> Iterator[float]:
        """Yield the waits, for ever."""
        nominal = min(self.first, self.limit)
        while True:
            yield self.uniform(nominal / 2, nominal)
            nominal = min(nominal * self.factor, self.limit)
