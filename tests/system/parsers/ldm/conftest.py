"""The disks that Windows made, where they are at hand."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

ARCHIVE = "ldm-2003r2.tar.xz"


@pytest.fixture(scope="session")
def windows_disks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """The members of each of five sets, by name; they are all of one disk group."""
    checkout = ROOT
    shared = Path(os.environ.get("VMOUNT_SHARED", checkout.parent / "shared"))
    archive = shared / "ldm" / ARCHIVE
    if not archive.exists():
        pytest.skip(f"{ARCHIVE} is not here: set VMOUNT_SHARED to the folder with ldm/{ARCHIVE}")
    folder = tmp_path_factory.mktemp("windows")
    subprocess.run(["tar", "-xSJf", archive, "-C", folder], check=True)
    sets: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.img")):
        sets.setdefault(path.stem.split("-")[2], []).append(path)
    return sets
