"""`vmount umount MOUNTPOINT`: returns when the serving process has released the sources."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from vmount.commands.volumes import tell
from vmount.errors import Exit
from vmount.mounting.mountinfo import find_mount, resolve
from vmount.mounting.unmount import dismount, unmount
from vmount.state import StateDir

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "mountpoints",
        nargs="+",
        metavar="MOUNTPOINT",
        help="a mount, or one volume of it: MOUNTPOINT/volumes/NAME",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="unmount even if files are open; programs that read them get errors",
    )


def run(arguments: argparse.Namespace) -> int:
    """Unmount."""
    state = StateDir(arguments.state_dir)
    for path in map(resolve, arguments.mountpoints):
        mountpoint, _, volume = path.rpartition("/volumes/")
        if find_mount(path) is None and volume and find_mount(mountpoint) is not None:
            dismount(partial(tell, mountpoint, state), volume, force=arguments.force)
        else:
            unmount(path, state, force=arguments.force)
    return Exit.OK
