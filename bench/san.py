"""dd of a disk that is in a datastore on a LUN, through vmount, against dd of the LUN itself with O_DIRECT.

    python -m bench.san [FOLDER] [--rounds N]

The LUN is a loop device, read past the page cache itself, over a copy of a VMFS-6 LUN without holes (as
tests/datastores/vmfs_luns.py finds it). The disk is a file of it of 1 GiB. Both read the same number of
bytes, in turn, each time from a cold cache. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path

from bench.local import mounted_by_us
from bench.timing import drop_caches, median, shell, timed
from tests.support.datastores.vmfs_luns import unpack
from tests.support.loop_devices import attached

FILE = ".sbc.sf"
"""A file of 1 GiB that every VMFS-6 datastore has, in large pieces as a disk's are."""
MIB = 1 << 20
TARGET = 0.7
"""Our throughput over the LUN's."""


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, default=Path("build/bench"))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with attached(solid_lun(folder)) as device:
        for block in ("1M", "128K"):
            report(device, folder, block, arguments.rounds)


def report(device: Path, folder: Path, block: str, rounds: int) -> None:
    """Time both in turn and print a line."""
    ours, peer = [], []
    for _ in range(rounds):
        ours.append(run_ours(device, folder, block))
        drop_caches()
        peer.append(timed(shell(dd(device, block, "direct,count_bytes"), folder)))
    our_rate, peer_rate = (1024 / median(times) for times in (ours, peer))
    print(
        f"dd bs={block:<5} ours {our_rate:6.0f} MiB/s   LUN {peer_rate:6.0f} MiB/s   "
        f"ours/LUN {our_rate / peer_rate:5.2f}   (aim {TARGET})",
        flush=True,
    )


def run_ours(device: Path, folder: Path, block: str) -> float:
    """Time dd of the disk through a new mount."""
    drop_caches()
    with mounted_by_us(f"san:{device}:[vmfs6] {FILE}", folder / "ours") as root:
        info = json.loads((root / "info.json").read_text())
        assert info["disks"][0]["transport"]["used"] == "san"
        return timed(shell(dd(root / "disks/disk0.raw", block, "count_bytes"), root))


def dd(path: Path, block: str, flags: str) -> str:
    """Return the command that reads 1 GiB."""
    size = 1024 * MIB
    return f"dd if={path} of=/dev/null bs={block} count={size} iflag={flags} status=none"


def solid_lun(folder: Path) -> Path:
    """Return a LUN without holes and with random bytes where it had them: all is read from the disk below."""
    path = folder / "san-lun.img"
    if not path.exists():
        sparse = unpack(folder)[6]
        made = path.with_suffix(".new")
        with sparse.open("rb") as source, made.open("wb") as target:
            while block := source.read(MIB):
                target.write(block if any(block) else os.urandom(MIB))
        subprocess.run(["sync", made], check=True)
        made.rename(path)
    return path


if __name__ == "__main__":
    main()
