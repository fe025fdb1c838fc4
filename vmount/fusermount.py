"""Taking FUSE mounts off the tree, and who is in the way of it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.errors import BusyError, MountError

if TYPE_CHECKING:
    from vmount.mountinfo import KernelMount

MOST_HOLDERS_SHOWN = 8


def fusermount(mount: KernelMount, *, lazy: bool = False) -> None:
    """Take a mount off the tree, at once or (`lazy`) when its last user is gone."""
    command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", mount.mountpoint]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise MountError("fusermount3 is not installed", remedy="install fuse3") from error
    if done.returncode == 0:
        return
    if "busy" not in done.stderr:
        raise MountError(f"{mount.mountpoint}: {done.stderr.strip() or 'cannot be unmounted'}")
    holders = processes_using(mount)
    shown = ", ".join(f"{name} ({pid})" for pid, name in holders[:MOST_HOLDERS_SHOWN])
    raise BusyError(
        f"{mount.mountpoint}: in use by {shown or 'a process that cannot be seen from here'}",
        remedy="end it first, or use --force",
    )


def processes_using(mount: KernelMount) -> list[tuple[int, str]]:
    """Return number and name of each process that has a file or its directory on a mount.

    Links are read and not followed: following one may hang on some other file system.
    """
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and _uses(process, mount.mountpoint):
            with contextlib.suppress(OSError):
                found.append((int(process.name), (process / "comm").read_text().strip()))
    return found


def _uses(process: Path, mountpoint: str) -> bool:
    links = [process / "cwd", process / "root"]
    with contextlib.suppress(OSError):
        links += (process / "fd").iterdir()
    for link in links:
        with contextlib.suppress(OSError):
            target = os.fspath(link.readlink())
            if target == mountpoint or target.startswith(mountpoint + "/"):
                return True
    return False
