"""Taking a mount off the tree, and waiting for its process to release the sources."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from typing import TYPE_CHECKING

from vmount.errors import BusyError, MountError
from vmount.mountinfo import KernelMount, find_mount, processes_below

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.state import MountRecord, StateDir

PATIENCE = 30.0
"""Seconds to wait for the serving process to end."""

MOST_HOLDERS_SHOWN = 8


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
    holders = processes_below(mount.mountpoint)
    raise in_use(mount.mountpoint, holders)


def in_use(path: str, holders: Sequence[tuple[int, str]]) -> BusyError:
    """Return the error that names the processes (number, name) which use what is at a path."""
    shown = ", ".join(f"{name} ({pid})" for pid, name in holders[:MOST_HOLDERS_SHOWN])
    return BusyError(
        f"{path}: in use by {shown or 'a process that cannot be seen from here'}",
        remedy="end it first, or use --force",
    )


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
