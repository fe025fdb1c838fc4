"""Volumes made of several disks, through the whole program: dynamic disks, MD arrays, LVM2."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.parsers.volume_images import IMAGES, digest, load
from tests.support.paths import ROOT
from vmount.api import open_disks

if TYPE_CHECKING:
    from tests.system.mounts.conftest import Vmount

SHARED = Path(os.environ.get("VMOUNT_SHARED", ROOT.parent / "shared"))
WINDOWS_IMAGES = SHARED / "ldm" / "ldm-2003r2.tar.xz"

DYNAMIC = {"simple": 1, "spanned": 2, "striped": 2, "mirrored": 2, "raid5": 3}
"""Sets made by Windows, with the number of their disks."""
REDUNDANT = {"mirrored", "raid5"}

ALL_GROUPS = sorted(path.stem for path in IMAGES.glob("*.json"))
EVERYDAY_GROUPS = [
    name
    for name in ALL_GROUPS
    if name.startswith("lvm-")
    or name in {"md-5ls", "md-6ls", "md-near", "md-offset", "md-linear", "md-five090"}
]


@pytest.fixture(scope="module")
def windows_disks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not WINDOWS_IMAGES.exists():
        pytest.skip(f"{WINDOWS_IMAGES}, disks written by Windows, is not here")
    folder = tmp_path_factory.mktemp("ldm")
    subprocess.run(["tar", "-xSJf", WINDOWS_IMAGES, "-C", folder], check=True)
    return folder


@pytest.mark.requirement("R34", "R35")
@pytest.mark.parametrize(("kind", "count"), DYNAMIC.items())
def test_dynamic_disks_of_windows(windows_disks: Path, kind: str, count: int) -> None:
    disks = sorted(windows_disks.rglob(f"*{kind}-?.img"))
    assert len(disks) == count
    for left_out in (None, *disks) if count > 1 else (None,):
        with open_disks(*(disk for disk in disks if disk != left_out)) as opened:
            readable = [volume for volume in opened.volumes if volume.filesystem is not None]
            if left_out is None or kind in REDUNDANT:
                assert readable
                for volume in readable:
                    assert volume.kind == "ldm"
                    with opened.open(f"{volume.name}/test.txt") as file:
                        assert file.read().startswith(b"Filesystem test")
                assert (left_out is None) or any("redundancy" in text for text in opened.warnings)
            else:
                assert not readable
                assert all(volume.problem for volume in opened.volumes)


@pytest.mark.requirement("R33")
@pytest.mark.mount
def test_a_set_and_its_clone_mounted_at_once(
    vmount: Vmount, windows_disks: Path, tmp_path: Path
) -> None:
    disks = sorted(windows_disks.rglob("*raid5-?.img"))
    copies = [Path(shutil.copy(disk, tmp_path)) for disk in disks]
    with vmount.mounted(*disks) as first, vmount.mounted(*copies) as second:
        for mountpoint in (first, second):
            (text,) = mountpoint.glob("volumes/ldm-*/test.txt")
            assert text.read_bytes().startswith(b"Filesystem test")


@pytest.mark.requirement("R35")
@pytest.mark.parametrize("group", EVERYDAY_GROUPS)
def test_arrays_and_logical_volumes_as_the_kernel_read_them(group: str, tmp_path: Path) -> None:
    image = load(group)
    paths = {name: tmp_path / name for name in image.members}
    for name, data in image.members.items():
        paths[name].write_bytes(data)
    for left_out, expected in image.read.items():
        present = [path for n, path in enumerate(paths.values()) if n not in left_out]
        with open_disks(*present) as disks:
            made = [volume for volume in disks.volumes if volume.kind in {"lvm", "md"}]
            found = {volume.name.rpartition("-")[2]: volume for volume in made}
            for name, read in expected.items():
                # An array with a superblock of version 0.90 has no name but its UUID.
                volume = made[0] if len(made) == 1 else found[name.rpartition("-")[2]]
                if volume.data is None:
                    # The kernel reads it, and we refuse it by name.
                    assert volume.problem is not None
                    assert "not supported: " in volume.problem
                    continue
                assert (volume.size, digest(volume.data)) == (read.size, read.sha256)
