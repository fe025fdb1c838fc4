"""Volumes that the tests of FAT read, built once a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fixtures import fat
from tests.support.parsers.reading import FileReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KINDS: dict[str, Callable[[Path], fat.FatVolume]] = {
    "fat12": fat.build_fat12,
    "fat16": fat.build_fat16,
    "fat32": fat.build_fat32,
    "sectors-4096": fat.build_4k_sectors,
    "clusters-64KiB": fat.build_64k_clusters,
    "clusters-256KiB": fat.build_256k_clusters,
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fat")


@pytest.fixture(scope="session", params=list(KINDS))
def volume(request: pytest.FixtureRequest, folder: Path) -> fat.FatVolume:
    return KINDS[request.param](folder)


@pytest.fixture
def reader(volume: fat.FatVolume) -> Iterator[FileReader]:
    opened = FileReader(volume.image)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def floppy(folder: Path) -> fat.FatVolume:
    return fat.build_fat12(folder)


@pytest.fixture(scope="session")
def small_32(folder: Path) -> fat.FatVolume:
    return fat.build_fat32(folder)


@pytest.fixture(scope="session")
def many(folder: Path) -> fat.FatVolume:
    return fat.build_many(folder)
