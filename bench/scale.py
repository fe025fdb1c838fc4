"""CPU a file of scan, cp, find, `ls -l` and tar, as directories grow, beside the kernel and ntfs-3g.

    python -m bench.scale [--folder FOLDER] [--sizes 10000 100000] [--kinds ext4 xfs ntfs]

All files of a volume are in one directory: the worst case. A figure is the CPU time of the process that
serves the mount and of the program that reads it, in microseconds a file; the kernel's own work for a peer is
in the program's. Needs root, e2fsprogs, xfsprogs, ntfs-3g and clamd. The volumes are made once, and kept in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from bench.local import VMOUNT, mounted_by_us
from bench.volumes import mounted_by_kernel, mounted_by_ntfs3g, run
from fixtures.malware import clamd, write_signatures

IMAGE_SIZE = 4 << 30
TASKS = {
    "ls -l": "ls -l files >/dev/null",
    "find": "find files -newermt 2001-01-01 >/dev/null",
    "tar": "tar cf - files | cat >/dev/null",
    "cp": "cp -r files {target}",
}
SCAN = "vmount scan"
"""With a clamd of one signature, whose own CPU is not counted."""
MAKERS = {
    "ext4": ["mke2fs", "-q", "-F", "-t", "ext4", "-N", "300000"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "ntfs": ["mkntfs", "-F", "-Q", "-q"],
}


def main() -> None:
    """Print a line for each file system and task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 50_000, 100_000, 200_000])
    parser.add_argument("--kinds", nargs="+", choices=list(MAKERS), default=list(MAKERS))
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    write_signatures(folder / "signatures")
    sizes = sorted(arguments.sizes)
    print(
        f"{'us a file, at':<14}" + "".join(f"{size:>12}" for size in sizes) + "   largest/smallest"
    )
    for kind in arguments.kinds:
        for task in [*TASKS, SCAN]:
            ours = [_ours(volume(folder, kind, size), folder, task) / size for size in sizes]
            print(_line(f"{kind} {task}", ours), flush=True)
            if task in TASKS:
                theirs = [_peers(volume(folder, kind, size), folder, task) / size for size in sizes]
                print(_line(f"  {'ntfs-3g' if kind == 'ntfs' else 'kernel'}", theirs), flush=True)


def volume(folder: Path, kind: str, files: int) -> Path:
    """Return a volume of so many files in one directory, made if it is not there."""
    image = folder / f"scale-{files}.{kind}"
    if image.exists():
        return image
    scratch = image.with_suffix(".new")
    with scratch.open("wb") as file:
        file.truncate(IMAGE_SIZE)
    run(*MAKERS[kind], scratch)
    with _mounted(kind)(scratch, folder / "filling", read_only=False) as root:
        (root / "files").mkdir()
        for number in range(files):
            (root / "files" / f"file-{number:07}.dat").write_bytes(b"%07d " % number * 8)
    scratch.rename(image)
    return image


def _ours(image: Path, folder: Path, task: str) -> float:
    if task not in TASKS:
        with clamd(folder / "clamd") as socket, _cpu() as spent:
            run(*VMOUNT, "scan", "--socket", str(socket), image)
            return spent()
    with mounted_by_us(image, folder / "ours") as root:
        served_by = int(json.loads((root / ".vmount" / "status.json").read_text())["pid"])
        return _run(task, root / "volumes" / "disk0", folder, served_by)


def _peers(image: Path, folder: Path, task: str) -> float:
    kind = image.suffix[1:]
    with _mounted(kind)(image, folder / "peer") as root:
        served_by = None
        if kind == "ntfs":
            served_by = int(run("pgrep", "-n", "-f", f"^ntfs-3g .*{image}").split()[0])
        return _run(task, root, folder, served_by)


def _run(task: str, root: Path, folder: Path, served_by: int | None) -> float:
    """Return the microseconds of CPU that a task takes, here and in the process that serves the files."""
    target = folder / "copied"
    shutil.rmtree(target, ignore_errors=True)
    before = _cpu_of(served_by)
    with _cpu() as spent:
        command = TASKS[task].format(target=target)
        subprocess.run(["bash", "-ceu", command], cwd=root, check=True)
    taken = spent() + _cpu_of(served_by) - before
    shutil.rmtree(target, ignore_errors=True)
    return taken


def _mounted(kind: str) -> Callable[..., AbstractContextManager[Path]]:
    return mounted_by_ntfs3g if kind == "ntfs" else mounted_by_kernel


@contextmanager
def _cpu() -> Iterator[Callable[[], float]]:
    """Give a call that returns the microseconds of CPU of the programs run since."""
    begun = resource.getrusage(resource.RUSAGE_CHILDREN)

    def spent() -> float:
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        return 1e6 * (now.ru_utime + now.ru_stime - begun.ru_utime - begun.ru_stime)

    yield spent


def _cpu_of(pid: int | None) -> float:
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1e6 / os.sysconf("SC_CLK_TCK")


def _line(title: str, figures: list[float]) -> str:
    ratio = figures[-1] / figures[0] if figures[0] else float("nan")
    return f"{title:<14}" + "".join(f"{figure:12.1f}" for figure in figures) + f"   {ratio:10.2f}"


if __name__ == "__main__":
    main()
