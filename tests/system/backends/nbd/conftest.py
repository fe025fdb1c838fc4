"""Images and certificates that the tests of the NBD client share."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.backends.nbd.servers import make_certificates

MIB = 1 << 20


def sample() -> bytes:
    """Return a disk with data, zeros and data, which no power of two divides far."""
    chance = random.Random(41)
    return chance.randbytes(MIB) + bytes(2 * MIB) + chance.randbytes(MIB + 12288)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw image whose zeros are a hole."""
    path = tmp_path_factory.mktemp("nbd") / "disk.raw"
    data = sample()
    with path.open("wb") as file:
        file.write(data[:MIB])
        file.seek(3 * MIB)
        file.write(data[3 * MIB :])
    return path


@pytest.fixture(scope="session")
def content(image: Path) -> bytes:
    """The bytes of the image."""
    return image.read_bytes()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificates."""
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder
