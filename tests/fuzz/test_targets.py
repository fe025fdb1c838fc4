"""The targets themselves: they reach what they are for, and nothing known breaks them."""

from __future__ import annotations

import random

import pytest

from tests.fuzz import targets
from tests.fuzz.worker import mutated

ROUNDS = 25


@pytest.mark.requirement("R22")
@pytest.mark.parametrize("name", targets.names())
def test_damage_at_random_is_a_value_or_an_error(name: str) -> None:
    target, chosen = targets.target(name), random.Random(22)
    for data in [*target.seeds, *(mutated(target.seeds, chosen) for _ in range(ROUNDS))]:
        target.run(data)
