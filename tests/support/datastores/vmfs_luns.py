"""The LUNs that ESXi wrote, with other content in the files that are on them.

The blocks of a file are overwritten in place; vmfs-fuse and vmfs6-fuse say whether that went right.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from vmount.parsers.reader import Buffer, check_bounds, run_sync
from vmount.parsers.vmfs.filesystem import Vmfs, open_vmfs

SHARED = Path(os.environ.get("VMOUNT_SHARED", ROOT.parent / "shared")) / "vmfs"
FUSE = {5: "vmfs-fuse", 6: "vmfs6-fuse"}


def unpack(folder: Path) -> dict[int, Path]:
    """Unpack the LUNs and return them by version of VMFS; skip the test if they are not there."""
    archive = SHARED / "vmfs-luns.tar.xz"
    if not archive.exists():
        pytest.skip(f"no LUNs written by ESXi: {archive} is not there (VMOUNT_SHARED says where)")
    subprocess.run(["tar", "-xSJf", archive, "-C", folder], check=True)
    return {version: folder / f"vmfs{version}.img" for version in FUSE}


def copy_of(image: Path, copy: Path) -> Path:
    """Copy an image, its holes as holes."""
    subprocess.run(["cp", "--sparse=always", image, copy], check=True)
    return copy


def put(image: Path, path: str, content: bytes) -> None:
    """Overwrite a file of a datastore; it keeps its size, what is left of it becomes zeros."""
    with image.open("r+b") as file:
        filesystem = run_sync(open_vmfs([_FileReader(image)]))
        ino, size = run_sync(_find(filesystem, path))
        assert len(content) <= size, f"{path} has {size} bytes, not {len(content)}"
        for offset, length, _, start in run_sync(filesystem.device_runs(ino)):
            part = content[offset : offset + length].ljust(length, b"\0")
            file.seek(start)
            file.write(part)


def end_of(image: Path, path: str) -> int:
    """Return where the last byte of a file is on a LUN, and one more."""
    filesystem = run_sync(open_vmfs([_FileReader(image)]))
    ino, _ = run_sync(_find(filesystem, path))
    return max(start + length for _, length, _, start in run_sync(filesystem.device_runs(ino)))


async def _find(filesystem: Vmfs, path: str) -> tuple[int, int]:
    ino, size = filesystem.root, 0
    for name in path.split("/"):
        found = await filesystem.lookup(ino, name.encode())
        assert found is not None, path
        ino, size = found.ino, found.size
    return ino, size


@contextmanager
def mounted(device: Path, version: int, mountpoint: Path) -> Iterator[Path]:
    """Mount a datastore with the program that nobody here wrote."""
    if shutil.which(FUSE[version]) is None:
        pytest.skip(f"{FUSE[version]} is not installed")
    mountpoint.mkdir()
    subprocess.run([FUSE[version], device, mountpoint], check=True, capture_output=True)
    try:
        yield mountpoint
    finally:
        subprocess.run(["umount", mountpoint], check=True)
        mountpoint.rmdir()


def is_readable(path: Path) -> bool:
    """Say whether a file is one that can be compared: small enough, and no socket."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_size < 1 << 30


class _FileReader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = path.stat().st_size

    async def read(self, offset: int, length: int) -> Buffer:
        check_bounds(offset, length, self.size)
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def prefetch(self, spans: object) -> None:
        """Do nothing."""
