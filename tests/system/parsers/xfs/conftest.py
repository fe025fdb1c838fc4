"""Volumes for the tests of XFS, made once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.xfs import EVERYDAY, XfsFixture, build

RECIPES = {recipe.name: recipe for recipe in EVERYDAY}


@pytest.fixture(scope="session")
def xfs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("xfs")


@pytest.fixture(scope="session")
def xfs_volume(xfs_folder: Path) -> Callable[[str], XfsFixture]:
    """Return a volume by the name of its recipe."""

    def volume(name: str) -> XfsFixture:
        return build(RECIPES[name], xfs_folder)

    return volume
