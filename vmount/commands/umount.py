"""`vmount umount MOUNTPOINT`: returns when the serving process has released the sources."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from vmount.errors import Exit, MountError
from vmount.fusermount import fusermount
from vmount.mountinfo import find_mount
from vmount.state import StateDir

if TYPE_CHECKING:
    import argparse

PATIENCE = 30.0
"""Seconds to wait for the serving process to end."""


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
    if not record.process.is_alive:
        # Its server was killed. The number may belong to another process by now.
        state.forget_mount(mountpoint)
        return
    if force:
        record.process.send(signal.SIGTERM)
    if not record.process.wait(PATIENCE):
        raise MountError(
            f"{mountpoint}: unmounted, but process {record.process.pid} still runs after "
            f"{PATIENCE:.0f} s"
        )
