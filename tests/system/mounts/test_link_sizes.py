"""lstat's size is the length of the target that readlink gives, for every link of every file system: programs
such as cpio read as many bytes as lstat says."""

from __future__ import annotations

import os
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from fixtures.ext import EVERYDAY
from fixtures.ext import build as build_ext
from fixtures.ntfs import build_small
from fixtures.xfs import EVERYDAY as XFS_EVERYDAY
from fixtures.xfs import build as build_xfs
from vmount.api import open_disks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.mounts.conftest import Vmount

pytestmark = pytest.mark.mount


def sources_of(kind: str, images: Path, windows: list[Path], linux: Path) -> list[Path]:
    match kind:
        case "windows":
            return windows
        case "linux":
            return [linux]
        case "ntfs":
            return [build_small(images).image]
        case "ext":
            return [build_ext(recipe, images).image for recipe in EVERYDAY if recipe.mountable]
    return [build_xfs(recipe, images).image for recipe in XFS_EVERYDAY]


@pytest.mark.parametrize("kind", ["windows", "linux", "ntfs", "ext", "xfs"])
def test_the_size_of_a_link_is_the_length_of_its_target(
    images: Path, windows: list[Path], linux: Path, kind: str
) -> None:
    links = 0
    with open_disks(*sources_of(kind, images, windows, linux)) as disks:
        for top in (entry.name for entry in disks.listdir("/")):
            for file in disks.below(top, lambda _error: None):
                if not stat.S_ISLNK(file.attrs.mode):
                    continue
                try:
                    target = os.fsencode(disks.readlink(file.path))
                except OSError:  # damaged on purpose
                    continue
                links += 1
                assert file.attrs.size == len(target), (file.path, target)
                assert disks.stat(file.path, follow=False).size == len(target), file.path
    assert links


def test_a_mount_says_the_same(vmount: Vmount, windows: list[Path]) -> None:
    with vmount.mounted(*windows) as mountpoint:
        listed = subprocess.run(
            ["find", ".", "-type", "l", "-printf", "%s %p\\n"],
            cwd=mountpoint,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        assert len(listed) >= 8
        for line in listed:
            size, _, path = line.partition(" ")
            target = os.fsencode((mountpoint / path).readlink())
            assert int(size) == len(target), path
