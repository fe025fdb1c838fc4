"""Volumes for the tests of ext, made once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.ext import EVERYDAY, LARGE, ExtFixture, build

RECIPES = {recipe.name: recipe for recipe in (*EVERYDAY, *LARGE)}


@pytest.fixture(scope="session")
def ext_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ext")


@pytest.fixture(scope="session")
def ext_volume(ext_folder: Path) -> Callable[[str], ExtFixture]:
    """Return a volume by the name of its recipe."""

    def volume(name: str) -> ExtFixture:
        return build(RECIPES[name], ext_folder)

    return volume
