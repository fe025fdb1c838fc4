"""A loop device to read directly."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.loop_devices import attached

MIB = 1 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Three and a half MiB and a few sectors: no whole number of 4096-byte blocks."""
    path = tmp_path / "lun.img"
    path.write_bytes(random.Random(7).randbytes(3 * MIB + MIB // 2 + 3 * 512))
    return path


@pytest.fixture
def device(image: Path) -> Iterator[Path]:
    with attached(image) as device:
        yield device
