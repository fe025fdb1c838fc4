"""The two jobs, restoring and scanning, beside what people use today, over one distant NBD server.

    python -m bench.jobs [FOLDER] [--delay MS] [--rounds N]

Restored and scanned are 2,000 files of an NTFS volume; the peers read it through ntfs-3g over nbdfuse. The
times of vmount's own commands hold all of it, from the start to the end of the program; those of the
others begin when their mount is there. Needs root, nbdkit, nbdfuse, ntfs-3g, clamd and clamscan.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.local import mounted_by_us
from bench.remote import run_peer, served
from bench.timing import drop_caches, median, shell, timed
from bench.volumes import mounted_by_ntfs3g, ntfs_image
from fixtures.malware import clamd, write_signatures

NAMES = "directory-00* directory-01*"
"""2,000 files."""
AIMS = {"restore": 4.0}
"""Peer's time over that of vmount's own command, at 5 ms."""


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("build/bench"))
    parser.add_argument("--delay", type=int, default=5, help="milliseconds a read")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    image = ntfs_image(folder)
    signatures = write_signatures(folder / "signatures")
    shell(f"cat {image} >/dev/null", folder)()
    targets = Targets(folder / "restored")
    with clamd(folder / "clamd") as socket, served(image, folder, arguments.delay) as uri:
        paths = [f"disk0/{name}" for name in NAMES.split()]
        scan_paths = [f"disk0/directory-{number:03}" for number in range(20)]
        clamscan = f"clamscan -r -i --no-summary -d {signatures} {NAMES}"
        jobs: dict[str, tuple[Callable[[], float], ...]] = {
            "restore": (
                lambda: command("cp", uri, *paths, f"{targets.new()}/"),
                lambda: through_our_mount(uri, folder, f"cp -a {NAMES} {targets.new()}"),
                lambda: peer(uri, folder, f"cp -a {NAMES} {targets.new()}"),
            ),
            "scan": (
                partial(command, "scan", "--socket", str(socket), uri, *scan_paths),
                partial(through_our_mount, uri, folder, clamscan),
                partial(peer, uri, folder, clamscan),
            ),
        }
        for name, sides in jobs.items():
            report(name, sides, arguments.rounds)
    targets.remove()


class Targets:
    """Folders to restore into, a new one each time.

    None is removed before the last run: ext4 is slow to make files where others were removed just before.
    """

    def __init__(self, top: Path) -> None:
        self._top = top
        self._made = 0
        self.remove()

    def new(self) -> Path:
        """Make an empty folder."""
        self._made += 1
        target = self._top / str(self._made)
        target.mkdir(parents=True)
        return target

    def remove(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self._top, ignore_errors=True)


def report(name: str, sides: tuple[Callable[[], float], ...], rounds: int) -> None:
    """Time all sides in turn and print a line."""
    rows = [[side() for side in sides] for _ in range(rounds)]
    own, mounted, theirs = (median([row[index] for row in rows]) for index in range(3))
    aim = f"   (aim {AIMS[name]:.0f})" if name in AIMS else ""
    print(
        f"{name:<8} vmount {own:6.2f} s   out of our mount {mounted:6.2f} s   peer {theirs:6.2f} s   "
        f"peer/vmount {theirs / own:5.2f}{aim}   peer/our mount {theirs / mounted:5.2f}",
        flush=True,
    )


def command(*words: str) -> float:
    """Time one of vmount's own commands."""
    drop_caches()
    began = time.perf_counter()
    # What was found or left out is not the question here.
    line = shlex.join([sys.executable, "-m", "vmount", *words]) + " >/dev/null 2>&1"
    shell(f"{line} || [ $? = 3 ]", Path.cwd())()
    return time.perf_counter() - began


def through_our_mount(uri: str, folder: Path, line: str) -> float:
    """Time a command in the volume below our mount."""
    drop_caches()
    with mounted_by_us(uri, folder / "ours") as root:
        return timed(shell(f"cd volumes/disk0 && {line} >/dev/null", root))


def peer(uri: str, folder: Path, line: str) -> float:
    """Time a command in the peer's mount."""
    return run_peer(uri, folder, mounted_by_ntfs3g, f"{line} >/dev/null")


if __name__ == "__main__":
    main()
