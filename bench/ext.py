"""What listings, lookups and opening cost in CPU over bytes in memory.

Run as root (it makes a volume of 28,000 files): `python -m bench.ext FOLDER [RECIPE]`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from fixtures.ext import LARGE, build
from vmount.parsers.ext.filesystem import ExtFilesystem, open_ext
from vmount.parsers.model import DirEntry, Runs
from vmount.parsers.reader import BytesReader, run_sync

ROUNDS = 5


def main(folder: Path, name: str) -> None:
    """Print the best of some rounds."""
    [recipe] = [recipe for recipe in LARGE if recipe.name == name]
    reader = BytesReader(build(recipe, folder).image.read_bytes())

    def opened() -> ExtFilesystem:
        return run_sync(open_ext(reader))

    volume = opened()
    large, many, fragments = (
        _child(volume, name).ino for name in (b"large", b"many", b"fragments")
    )
    children: list[DirEntry] = []

    def list_large(volume: ExtFilesystem) -> int:
        children[:] = run_sync(volume.listdir(large))
        return len(children)

    def list_many(volume: ExtFilesystem) -> int:
        folders = run_sync(volume.listdir(many))
        return sum(len(run_sync(volume.listdir(one.ino))) for one in folders)

    def look_up(volume: ExtFilesystem) -> int:
        for child in children[:200]:
            assert run_sync(volume.lookup(large, child.name))
        return 200

    def open_listed(volume: ExtFilesystem) -> int:
        for child in children[:1000]:
            run_sync(volume.data(child.ino))
        return 1000

    def open_fragments(volume: ExtFilesystem) -> int:
        layout = run_sync(volume.data(fragments)).layout
        assert isinstance(layout, Runs)
        return len(layout.runs)

    _measure("listing a large folder, a child", opened, list_large)
    _measure("listing 200 folders, a child", opened, list_many)
    _measure("looking up in a large folder", opened, look_up)
    _measure("data() after a listing", opened, open_listed, prepare=list_large)
    _measure("opening a fragmented file, a run", opened, open_fragments)


def _measure(
    title: str,
    opened: Callable[[], ExtFilesystem],
    action: Callable[[ExtFilesystem], int],
    prepare: Callable[[ExtFilesystem], int] | None = None,
) -> None:
    best = float("inf")
    for _ in range(ROUNDS):
        volume = opened()
        if prepare is not None:
            prepare(volume)
        started = time.perf_counter()
        count = action(volume)
        best = min(best, (time.perf_counter() - started) / count)
    print(f"{title:40} {best * 1e6:8.2f} us")


def _child(volume: ExtFilesystem, name: bytes) -> DirEntry:
    [child] = [one for one in run_sync(volume.listdir(volume.root)) if one.name == name]
    return child


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "ext4-large")
