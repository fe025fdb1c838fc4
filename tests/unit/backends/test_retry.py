"""Waits grow to a limit and are spread."""

from __future__ import annotations

from itertools import islice

from vmount.backends.retry import Backoff


def test_waits_double_up_to_the_limit() -> None:
    steady = Backoff(first=0.1, limit=1.0, uniform=lambda low, high: high)
    assert list(islice(steady.delays(), 6)) == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_waits_are_spread_over_their_upper_half() -> None:
    waits = [next(Backoff(first=1.0).delays()) for _ in range(200)]
    assert all(0.5 <= wait <= 1.0 for wait in waits)
    assert len(set(waits)) > 100
