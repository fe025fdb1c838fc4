"""Volumes that the tests of NTFS read, built once a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fixtures.ntfs import NtfsVolume, build_fragmented_mft, build_large, build_small
from tests.support.parsers.ntfs.reading import FileReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GIB = 1 << 30

KINDS: dict[str, Callable[[Path], NtfsVolume]] = {
    "clusters-4096": build_small,
    "clusters-512": lambda folder: build_small(folder, 512),
    "clusters-65536": lambda folder: build_small(folder, 65536),
    "clusters-2MiB": lambda folder: build_small(folder, 2 << 20, size=2 * GIB),
    "sectors-4096": lambda folder: build_small(folder, sector_size=4096),
    "fragmented-mft": build_fragmented_mft,
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ntfs")


@pytest.fixture(scope="session")
def small(folder: Path) -> NtfsVolume:
    return build_small(folder)


@pytest.fixture(scope="session")
def large(folder: Path) -> NtfsVolume:
    return build_large(folder)


@pytest.fixture(scope="session", params=list(KINDS))
def volume(request: pytest.FixtureRequest, folder: Path) -> NtfsVolume:
    return KINDS[request.param](folder)


@pytest.fixture
def reader(volume: NtfsVolume) -> Iterator[FileReader]:
    opened = FileReader(volume.image)
    yield opened
    opened.close()


@pytest.fixture
def small_reader(small: NtfsVolume) -> Iterator[FileReader]:
    opened = FileReader(small.image)
    yield opened
    opened.close()
