"""How long NTFS takes without a network: listings, lookups, opens. Run by hand.

    python -m bench.ntfs_listing FOLDER     (needs what fixtures/ntfs.py needs; keeps its volume in FOLDER)

ntfs-3g's figure beside ours is for `find` over its mount, so it has the kernel and FUSE in it.
"""

from __future__ import annotations

import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fixtures.ntfs import READ_OPTIONS, build_large, mounted
from vmount.parsers.ntfs import NtfsFilesystem, open_ntfs
from vmount.parsers.reader import BytesReader, run_sync

if TYPE_CHECKING:
    from vmount.parsers.model import DirEntry


async def walk(filesystem: NtfsFilesystem) -> list[DirEntry]:
    found: list[DirEntry] = []
    todo = [filesystem.root]
    while todo:
        entries = await filesystem.listdir(todo.pop())
        found += entries
        todo += [entry.ino for entry in entries if entry.kind == stat.S_IFDIR]
    return found


async def lookups(filesystem: NtfsFilesystem, folder: int, names: list[bytes]) -> None:
    for name in names:
        await filesystem.lookup(folder, name)


async def opens(filesystem: NtfsFilesystem, entries: list[DirEntry]) -> None:
    for entry in entries:
        await filesystem.data(entry.ino)


def report(what: str, seconds: float, count: int) -> None:
    print(f"{what:30} {seconds:7.3f} s  {seconds / count * 1e6:7.2f} us each of {count}")


def main() -> None:
    folder = Path(sys.argv[1])
    volume = build_large(folder)
    image = volume.image.read_bytes()
    clock = time.process_time

    start = clock()
    filesystem = run_sync(open_ntfs(BytesReader(image)))
    report("open", clock() - start, 1)
    start = clock()
    entries = run_sync(walk(filesystem))
    report("listings, cold", clock() - start, len(entries))
    start = clock()
    run_sync(walk(filesystem))
    report("listings, again", clock() - start, len(entries))

    flat = next(entry.ino for entry in entries if entry.name == b"flat")
    inside = list(run_sync(filesystem.listdir(flat)))
    names = [entry.name for entry in inside[::10]]
    start = clock()
    run_sync(lookups(filesystem, flat, names))
    report("lookups in 10,000 names", clock() - start, len(names))
    start = clock()
    run_sync(opens(filesystem, inside))
    report("data() of small files", clock() - start, len(inside))

    with mounted(volume.image, folder, READ_OPTIONS) as mountpoint:
        began = time.perf_counter()
        subprocess.run(["find", mountpoint, "-size", "+1000G"], check=True)
        report("ntfs-3g: find", time.perf_counter() - began, len(entries))


if __name__ == "__main__":
    main()
