"""Ours against ntfs-3g on the same image, and against the kernel's ext4 through a loop device.

    python -m bench.local [FOLDER]

Needs root, ntfs-3g and e2fsprogs. The images are in the page cache, as they are just after they were
copied; every round mounts anew, so that neither side has names or data left of the round before.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from bench.timing import Pair, median, shell, timed
from bench.volumes import ext4_image, mounted_by_kernel, mounted_by_ntfs3g, ntfs_image

ROUNDS = 3
VMOUNT = [sys.executable, "-m", "vmount"]
TASKS = {
    "find, 20,000 files": "find . -type f -size +0 -newermt 2001-01-01 >/dev/null",
    "tar, 20,000 small files": "tar cf - directory-* | cat >/dev/null",
    "one 512 MiB file": "cat huge >/dev/null",
    "tar, everything (1.6 GiB)": "tar cf - . | cat >/dev/null",
}


def main() -> None:
    """Print the report."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/bench").resolve()
    for image, mounted, peer in (
        (ntfs_image(folder), mounted_by_ntfs3g, "ntfs-3g"),
        (ext4_image(folder), mounted_by_kernel, "kernel ext4"),
    ):
        print(f"\n{image.name}")
        shell(f"cat {image} >/dev/null", folder)()
        for pair in compare(image, mounted, peer, folder):
            print(pair.line, flush=True)
        report_ours(image, folder)


def compare(
    image: Path,
    mounted: Callable[[Path, Path], AbstractContextManager[Path]],
    peer: str,
    folder: Path,
) -> Iterator[Pair]:
    """Time each task on both sides in turn."""
    for task, command in TASKS.items():
        ours, theirs = [], []
        for _ in range(ROUNDS):
            with mounted_by_us(image, folder / "ours") as root:
                ours.append(timed(shell(command, root / "volumes" / "disk0")))
            with mounted(image, folder / "peer") as root:
                theirs.append(timed(shell(command, root)))
        yield Pair(task, median(ours), median(theirs), peer)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        with mounted_by_us(image, folder / "ours") as root:
            ours.append(timed(shell("head -c 1G disks/disk0.raw | sha256sum >/dev/null", root)))
        theirs.append(timed(shell(f"head -c 1G {image} | sha256sum >/dev/null", folder)))
    yield Pair("sha256sum, 1 GiB of the disk", median(ours), median(theirs), "the image itself")


def report_ours(image: Path, folder: Path) -> None:
    """Print the time to the first listing, and the most memory that reading everything took."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        with mounted_by_us(image, folder / "ours") as root:
            list((root / "volumes" / "disk0").iterdir())
            times.append(time.perf_counter() - began)
    print(f"{'command to first listing':<34} ours {median(times):8.3f} s")
    with mounted_by_us(image, folder / "ours") as root:
        for command in TASKS.values():
            shell(command, root / "volumes" / "disk0")()
        pid = json.loads((root / ".vmount" / "status.json").read_text())["pid"]
        status = Path(f"/proc/{pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        print(f"{'peak memory':<34} ours {int(peak.split()[1]) / 1024:8.0f} MiB")


@contextmanager
def mounted_by_us(source: Path | str, mountpoint: Path) -> Iterator[Path]:
    """Mount with vmount."""
    mountpoint.mkdir(parents=True, exist_ok=True)
    subprocess.run([*VMOUNT, str(source), str(mountpoint)], check=True)
    try:
        yield mountpoint
    finally:
        subprocess.run([*VMOUNT, "umount", str(mountpoint)], check=True)


if __name__ == "__main__":
    main()
