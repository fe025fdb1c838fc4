"""R22: volumes with damaged metadata through a real mount, used by the programs that people use."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuzz import targets
from tests.fuzz.disk import DAMAGE, DamagedDisk
from vmount.mounting.mountinfo import find_mount

if TYPE_CHECKING:
    from tests.system.mounts.conftest import Vmount

pytestmark = pytest.mark.mount

SEEDS = (1, 2, 3)
DAMAGES = 6
"""Of each disk."""
ALLOWED = (
    b"Input/output error",
    b"Structure needs cleaning",
    b"Operation not supported",
    b"No such file or directory",
    b"Not a directory",
    b"Is a directory",
    b"Invalid argument",
    b"Too many levels of symbolic links",
    b"File system loop detected",
)
"""What a damaged object may cost. The last two are what damage has made of the tree."""
USES = (
    "find . -maxdepth 6 -ls",
    "find . -maxdepth 6 -type f -exec head -q -c 300000 {} +",
    "find . -maxdepth 6 -type l -exec readlink {} +",
    "find . -maxdepth 6 -exec getfattr --no-dereference --dump --match=- {} +",
)
LONGEST = 60
"""Seconds of one use."""


@pytest.fixture(scope="module")
def disks() -> list[targets.Image]:
    return [image for name in ("ntfs", "ext", "fat", "exfat") for image in targets.undamaged(name)]


@pytest.mark.requirement("R22")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_mount_of_damaged_volumes_lives_on(
    vmount: Vmount, disks: list[targets.Image], tmp_path: Path, seed: int
) -> None:
    chosen, paths = random.Random(seed), []
    for number, image in enumerate(disks):
        paths.append(tmp_path / f"{number}.img")
        damages = chosen.randbytes(DAMAGES * DAMAGE.size)
        paths[-1].write_bytes(DamagedDisk(image.data, image.units, damages).image())
    log_file = tmp_path / "log"
    mountpoint = vmount.new_mountpoint()
    vmount.run(*(f"raw:{path}" for path in paths), mountpoint, "--log-file", log_file)
    try:
        shown = [path for path in (mountpoint / "volumes").iterdir() if path.is_dir()]
        assert len(shown) > len(disks) // 3
        for use in USES:
            done = subprocess.run(
                ["sh", "-c", use],
                cwd=mountpoint / "volumes",
                env={"PATH": vmount.environment["PATH"], "LC_ALL": "C"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=LONGEST,
                check=False,
            )
            for line in done.stderr.splitlines():
                assert any(text in line for text in ALLOWED), line
        status = json.loads((mountpoint / ".vmount/status.json").read_text())
        assert status["open_files"] == 0
    finally:
        vmount.run("umount", mountpoint)
    assert find_mount(str(mountpoint)) is None
    assert not list(vmount.state.iterdir())
    assert "a bug in vmount" not in log_file.read_text(errors="replace")


def test_a_volume_without_a_root_leaves_the_others_in_sight(
    vmount: Vmount, disks: list[targets.Image], tmp_path: Path
) -> None:
    """An NTFS volume of which only the first records are there: opened, and then no root directory."""
    whole, cut = tmp_path / "whole.img", tmp_path / "cut.img"
    whole.write_bytes(disks[0].data)
    cut.write_bytes(disks[0].data[:19704])
    shown = [b"disk0", b"disk0.raw", b"disk1", b"disk1.raw"]
    with vmount.mounted(f"raw:{cut}", f"raw:{whole}") as mountpoint:
        assert sorted(os.listdir(bytes(mountpoint / "volumes"))) == shown
        assert (mountpoint / "volumes/disk1/a/b/c/deep").read_text() == "deep"
        with pytest.raises(OSError, match="Structure needs cleaning"):
            os.listdir(mountpoint / "volumes/disk0")
    done = vmount.run("ls", f"raw:{cut}", "volumes", check=False)
    assert done.returncode == 3
    listed = done.stdout.splitlines()
    assert sorted(listed) == shown[:2]
