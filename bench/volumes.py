"""The volumes that the benches read: 20,000 small files in 200 directories, and a few large ones.

Made once, by ntfs-3g and by the kernel's ext4, and kept. Root is needed to make them.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

DIRECTORIES = 200
FILES_EACH = 100
SMALLEST, LARGEST = 300, 60_000
"""Bytes in a small file."""
LARGE_FILES = {"large-0": 128, "large-1": 128, "large-2": 128, "large-3": 128, "huge": 512}
"""MiB."""
IMAGE_SIZE = 3 << 30


def run(*command: str | Path) -> str:
    """Run a program and return what it prints; its failure is an exception."""
    return subprocess.run(
        [str(word) for word in command], check=True, capture_output=True, text=True
    ).stdout


def ntfs_image(folder: Path) -> Path:
    """Return the NTFS volume, made if it is not there."""

    def make(image: Path) -> None:
        run("mkntfs", "-F", "-Q", "-q", image)

    return _image(folder / "bench-ntfs.img", make, mounted_by_ntfs3g)


def ext4_image(folder: Path) -> Path:
    """Return the ext4 volume, made if it is not there."""

    def make(image: Path) -> None:
        run("mke2fs", "-q", "-F", "-t", "ext4", image)

    return _image(folder / "bench-ext4.img", make, mounted_by_kernel)


@contextmanager
def mounted_by_ntfs3g(image: Path, mountpoint: Path, *, read_only: bool = True) -> Iterator[Path]:
    """Mount with ntfs-3g."""
    mountpoint.mkdir(parents=True, exist_ok=True)
    run("ntfs-3g", "-o", "ro" if read_only else "rw", image, mountpoint)
    try:
        yield mountpoint
    finally:
        run("umount", mountpoint)


@contextmanager
def mounted_by_kernel(image: Path, mountpoint: Path, *, read_only: bool = True) -> Iterator[Path]:
    """Mount with the kernel over a loop device."""
    mountpoint.mkdir(parents=True, exist_ok=True)
    run("mount", "-o", "loop,ro,noload" if read_only else "loop", image, mountpoint)
    try:
        yield mountpoint
    finally:
        run("umount", mountpoint)


def _image(image: Path, make: Callable[[Path], None], mounted: Callable[..., object]) -> Path:
    if image.exists():
        return image
    image.parent.mkdir(parents=True, exist_ok=True)
    scratch = image.with_suffix(".new")
    with scratch.open("wb") as file:
        file.truncate(IMAGE_SIZE)
    make(scratch)
    with mounted(scratch, image.parent / "filling", read_only=False) as root:  # type: ignore[attr-defined]
        _fill(root)
    scratch.rename(image)
    return image


def _fill(root: Path) -> None:
    chosen = random.Random(2026)
    content = chosen.randbytes(1 << 20)
    for directory in range(DIRECTORIES):
        folder = root / f"directory-{directory:03}"
        folder.mkdir()
        for number in range(FILES_EACH):
            size = chosen.randint(SMALLEST, LARGEST)
            start = chosen.randrange(len(content) - size)
            (folder / f"file-{number:03}.dat").write_bytes(content[start : start + size])
    for name, mebibytes in LARGE_FILES.items():
        with (root / name).open("wb") as file:
            for _ in range(mebibytes):
                file.write(chosen.randbytes(1 << 20))
