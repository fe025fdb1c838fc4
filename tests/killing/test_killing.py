"""What stops a command stops it, and `vmount cleanup` leaves nothing, whenever that comes."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.killing.commands import COMMANDS, NEED_VCENTER, Site
from tests.killing.site import site
from tests.killing.tries import SIGNALS, Way, attempt, moments

if TYPE_CHECKING:
    from collections.abc import Iterator

TRIES = int(os.environ.get("VMOUNT_KILLING_TRIES", "3"))
"""Of each command in the everyday run, the ways and signals by turns."""
LIMIT = 10.0
"""Seconds: the machine may have other things to do."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("killing")) as made:
        yield made


@pytest.mark.mount
@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_stopped_ends_and_leaves_nothing(
    shared: Site, name: str, tmp_path: Path
) -> None:
    if name in NEED_VCENTER and "GOVC_URL" not in shared.environment:
        pytest.skip("no vcsim; run scripts/vcsim")
    random = Random(name)
    combinations = [(way, number) for way in Way for number in SIGNALS]
    random.shuffle(combinations)
    for turn, moment in enumerate(moments(shared, name, tmp_path, TRIES, random)):
        way, number = combinations[turn % len(combinations)]
        result = attempt(shared, name, way, number, moment, tmp_path / f"try{turn}", LIMIT)
        assert not result.problems, result
