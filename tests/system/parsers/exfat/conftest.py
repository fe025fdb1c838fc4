"""Volumes that the tests of exFAT read, built once a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fixtures import exfat
from tests.support.parsers.reading import FileReader, Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KINDS: dict[str, Callable[[Path], exfat.ExfatVolume]] = {
    "clusters-512": lambda folder: exfat.build_small(folder, 512),
    "clusters-4096": exfat.build_small,
    "clusters-64KiB": lambda folder: exfat.build_small(folder, 65536),
    "clusters-32MiB": exfat.build_32m_clusters,
    "sectors-4096": lambda folder: exfat.build_small(folder, 4096, 4096),
    "contiguous": exfat.build_contiguous,
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exfat")


@pytest.fixture(scope="session", params=list(KINDS))
def volume(request: pytest.FixtureRequest, folder: Path) -> exfat.ExfatVolume:
    return KINDS[request.param](folder)


@pytest.fixture
def reader(volume: exfat.ExfatVolume) -> Iterator[FileReader]:
    opened = FileReader(volume.image)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def many(folder: Path) -> exfat.ExfatVolume:
    return exfat.build_many(folder)


@pytest.fixture(scope="session")
def contiguous(folder: Path) -> exfat.ExfatVolume:
    return exfat.build_contiguous(folder)


@pytest.fixture(scope="session")
def pristine(folder: Path) -> bytes:
    return exfat.build_small(folder, 512, size=8 << 20).image.read_bytes()


@pytest.fixture
def image(pristine: bytes) -> Image:
    return Image(pristine)
