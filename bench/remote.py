"""Ours against ntfs-3g, and against the kernel's ext4 on a loop device, all over one distant NBD server.

    python -m bench.remote [FOLDER] [--delay MS] [--rounds N] [--only WORD]

The server is nbdkit with its delay filter; the peers read it through nbdfuse. Needs root, nbdkit, nbdfuse
(libnbd-bin), ntfs-3g and e2fsprogs. Every task starts with a new mount and an empty page cache.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench.local import mounted_by_us
from bench.timing import drop_caches, median, shell, timed
from bench.volumes import ext4_image, mounted_by_kernel, mounted_by_ntfs3g, ntfs_image

TASKS = {
    "find": "find . -type f -size +0 -newermt 2001-01-01 >/dev/null",
    "tar": "tar cf - directory-00* directory-01* | cat >/dev/null",
    "large": "cat large-0 >/dev/null",
}
TARGETS = {
    ("ntfs", "find"): 5,
    ("ntfs", "tar"): 5,
    ("ntfs", "large"): 5,
    ("ext4", "find"): 1,
    ("ext4", "tar"): 8,
    ("ext4", "large"): 5,
    ("disk", "dd"): 1.5,
}
"""Peer's time over ours, at 5 ms."""


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, default=Path("build/bench"))
    parser.add_argument("--delay", type=int, nargs="+", default=[5, 0], help="milliseconds a read")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="only tasks whose name has this")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    images = {"ntfs": ntfs_image(folder), "ext4": ext4_image(folder)}
    for delay in arguments.delay:
        print(f"\neach read answered after {delay} ms")
        for fstype, image in images.items():
            shell(f"cat {image} >/dev/null", folder)()
            with served(image, folder, delay) as uri:
                for name, ours, peer in tasks(fstype, uri, folder):
                    if arguments.only in f"{fstype} {name}":
                        report(fstype, name, ours, peer, arguments.rounds)


def report(
    fstype: str, name: str, ours: Callable[[], float], peer: Callable[[], float], rounds: int
) -> None:
    """Time both sides in turn and print a line."""
    times = [(ours(), peer()) for _ in range(rounds)]
    our_time, peer_time = median([time[0] for time in times]), median([time[1] for time in times])
    target = TARGETS.get((fstype, name))
    print(
        f"{fstype:<5}{name:<14} ours {our_time:7.3f} s   peer {peer_time:7.3f} s   "
        f"peer/ours {peer_time / our_time:5.2f}" + (f"   (aim {target})" if target else ""),
        flush=True,
    )


def tasks(
    fstype: str, uri: str, folder: Path
) -> Iterator[tuple[str, Callable[[], float], Callable[[], float]]]:
    """Yield each task with a call for us and one for the peer; a call returns seconds."""
    peer = mounted_by_ntfs3g if fstype == "ntfs" else mounted_by_kernel
    for name, command in TASKS.items():
        yield (
            name,
            partial(run_ours, uri, folder, f"cd volumes/disk0 && {command}"),
            partial(run_peer, uri, folder, peer, command),
        )
    if fstype == "ntfs":
        dd = "dd if={} of=/dev/null bs=1M count=512 status=none"
        yield (
            "dd",
            partial(run_ours, uri, folder, dd.format("disks/disk0.raw")),
            partial(run_peer, uri, folder, None, dd.format("nbd")),
        )
        yield "first listing", partial(first_listing, uri, folder), lambda: float("nan")


def run_ours(uri: str, folder: Path, command: str) -> float:
    """Time a command below our mount."""
    drop_caches()
    with mounted_by_us(uri, folder / "ours") as root:
        return timed(shell(command, root))


def run_peer(
    uri: str,
    folder: Path,
    mounted: Callable[[Path, Path], AbstractContextManager[Path]] | None,
    command: str,
) -> float:
    """Time a command below the peer's mount of the file that nbdfuse makes, or beside that file."""
    drop_caches()
    with ExitStack() as stack:
        file = stack.enter_context(nbdfuse(uri, folder / "nbdfuse"))
        root = file.parent
        if mounted is not None:
            root = stack.enter_context(mounted(file, folder / "peer"))
        return timed(shell(command, root))


def first_listing(uri: str, folder: Path) -> float:
    """Time from the command to the first listing of a volume."""
    drop_caches()
    began = time.perf_counter()
    with mounted_by_us(uri, folder / "ours") as root:
        list((root / "volumes" / "disk0").iterdir())
        return time.perf_counter() - began


@contextmanager
def served(image: Path, folder: Path, delay: int) -> Iterator[str]:
    """Serve an image over a Unix socket; each read is answered after `delay` milliseconds."""
    socket = folder / "nbd.sock"
    socket.unlink(missing_ok=True)
    slow = ["--filter=delay", f"rdelay={delay}ms"] if delay else []
    command = [
        "nbdkit",
        "-f",
        "-r",
        "-U",
        str(socket),
        "-t",
        "32",
        *slow[:1],
        "file",
        str(image),
        *slow[1:],
    ]
    with subprocess.Popen(command) as server:
        try:
            _wait_for(socket.exists)
            yield f"nbd+unix:///?socket={socket}"
        finally:
            server.terminate()


@contextmanager
def nbdfuse(uri: str, mountpoint: Path) -> Iterator[Path]:
    """Show a server's export as a file."""
    mountpoint.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(["nbdfuse", "-r", str(mountpoint), uri]) as server:
        try:
            _wait_for((mountpoint / "nbd").exists)
            yield mountpoint / "nbd"
        finally:
            subprocess.run(["fusermount3", "-u", str(mountpoint)], check=True)
            server.wait()


def _wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError("a server has not come up")


if __name__ == "__main__":
    main()
