"""`vmount umount MOUNTPOINT`: returns when the serving process has released the sources."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.errors import BusyError, Exit, MountError
from vmount.mountinfo import KernelMount, find_mount
from vmount.state import MountRecord, StateDir

if TYPE_CHECKING:
    import argparse

PATIENCE = 30.0
"""Seconds to wait for the serving process to end."""

MOST_HOLDERS_SHOWN = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("mountpoints", nargs="+", metavar="MOUNTPOINT")
    parser.add_argument(
        "--force",
        action="store_true",
        help="unmount even if files are open: whoever reads them gets an error",
    )


def run(arguments: argparse.Namespace) -> int:
    """Unmount."""
    state = StateDir(arguments.state_dir)
    for mountpoint in arguments.mountpoints:
        unmount(os.path.realpath(mountpoint), state, force=arguments.force)
    return Exit.OK


def unmount(mountpoint: str, state: StateDir, *, force: bool = False) -> None:
    """Unmount and wait until the sources are released.

    Raises BusyError naming the processes that use it, or MountError.
    """
    mount = find_mount(mountpoint)
    if mount is None:
        raise MountError(f"{mountpoint}: not a mount of vmount", remedy="vmount status lists them")
    record = state.find(mountpoint)
    fusermount(mount, lazy=force)
    if record is None:
        return
    if not record.is_alive:
        # Its server was killed. The number may belong to another process by now.
        state.remove(record)
        return
    if force:
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, signal.SIGTERM)
    if not _wait(record):
        raise MountError(
            f"{mountpoint}: unmounted, but process {record.pid} still runs after {PATIENCE:.0f} s"
        )


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


def _wait(record: MountRecord) -> bool:
    """Wait for the end of a process; say whether it came."""
    if not record.is_alive:
        return True
    try:
        descriptor = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return True
    try:
        readable, _, _ = select.select([descriptor], [], [], PATIENCE)
        return bool(readable)
    finally:
        os.close(descriptor)
