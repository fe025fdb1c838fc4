"""A disk set runs the suite of FileSource."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.file_source import FILES, HARD_LINK, LINK, FileSourceContract
from vmount.api import DiskSet, open_disks


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, image = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("image") / "x.img"
    for path, content in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    (folder / LINK[0]).symlink_to(LINK[1])
    os.link(folder / HARD_LINK[1], folder / HARD_LINK[0])
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-d", folder, image, "8M"],
        check=True,
        capture_output=True,
    )
    return image


class TestDiskSet(FileSourceContract):
    @pytest.fixture
    def files(self, image: Path, tmp_path: Path) -> Iterator[DiskSet]:
        with open_disks(image, state_dir=tmp_path / "state") as disks:
            yield disks

    @pytest.fixture
    def top(self) -> str:
        return "volumes/disk0"
