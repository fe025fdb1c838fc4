"""The datastores that ESXi made, where they are at hand, and readers of them that nobody here wrote."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.parsers.vmfs.readers import FUSE, mounted
from tests.support.paths import ROOT

ARCHIVE = "vmfs-luns.tar.xz"


@pytest.fixture(scope="session")
def luns(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A VMFS-5 and a VMFS-6 LUN, by name. Not to be written to."""
    checkout = ROOT
    shared = Path(os.environ.get("VMOUNT_SHARED", checkout.parent / "shared"))
    archive = shared / "vmfs" / ARCHIVE
    if not archive.exists():
        pytest.skip(f"{ARCHIVE} is not here: set VMOUNT_SHARED to the folder with vmfs/{ARCHIVE}")
    folder = tmp_path_factory.mktemp("vmfs")
    subprocess.run(["tar", "-xSJf", archive, "-C", folder], check=True)
    return {name: folder / f"{name}.img" for name in FUSE}


@pytest.fixture(params=sorted(FUSE))
def name(request: pytest.FixtureRequest) -> str:
    """The name of a LUN, which is its label too."""
    value: str = request.param
    return value


@pytest.fixture
def fuse(luns: dict[str, Path], name: str, tmp_path: Path) -> Iterator[Path]:
    """The LUN mounted by vmfs-tools or vmfs6-tools."""
    with mounted(name, [luns[name]], tmp_path) as mountpoint:
        yield mountpoint
