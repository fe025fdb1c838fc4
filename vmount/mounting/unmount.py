"""Unmounting, and waiting until the serving process has released the sources."""

from __future__ import annotations

import logging
import signal
import subprocess
from typing import TYPE_CHECKING, Any

from vmount.errors import BusyError, MountError, Remedy, VmountError
from vmount.mounting.mountinfo import KernelMount, find_mount, processes_below

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vmount.state import StateDir

log = logging.getLogger(__name__)

SILENCE = 5.0
"""Seconds to wait for the serving process to end without a word about it."""

MOST_HOLDERS_SHOWN = 8


def unmount(mountpoint: str, state: StateDir, *, force: bool = False) -> None:
    """Unmount and wait until the sources are released.

    Raises BusyError naming the processes that use it, MountError, or VmountError if something of it stays
    in a vCenter or host.
    """
    mount = find_mount(mountpoint)
    if mount is None:
        raise MountError(
            f"{mountpoint}: not a mount of vmount", remedy=Remedy("vmount status lists them")
        )
    record = state.find(mountpoint)
    fusermount(mount, lazy=force)
    if record is None:
        return
    process = record.process
    if not process.is_alive:
        # Its server was killed. The number may belong to another process by now.
        left = state.left_at(mountpoint)
        state.forget_mount(mountpoint)
        if left:
            raise VmountError(
                f"{mountpoint}: unmounted, but its process was killed and left behind "
                + ", ".join(map(str, left)),
                remedy="run: vmount cleanup",
            )
        return
    if force:
        process.send(signal.SIGTERM)
    if not process.wait(SILENCE):
        what = ", ".join(map(str, record.others)) or "its sources"
        log.warning("%s: unmounted; process %d still has %s", mountpoint, process.pid, what)
        if not process.wait(record.patience):
            raise MountError(
                f"{mountpoint}: unmounted, but process {process.pid} still runs after "
                f"{record.patience:.0f} s"
            )
    left = state.left_in(record)
    if left:
        raise VmountError(
            f"{mountpoint}: unmounted, but process {process.pid} has left "
            + ", ".join(map(str, left)),
            remedy="run: vmount cleanup",
        )


def dismount(
    tell: Callable[[dict[str, Any]], Any], volume: str, *, force: bool = False
) -> dict[str, Any]:
    """Dismount one volume of a mount; return what the process that serves it answers.

    `tell` hands it a request. Who uses the files is looked for here: that process has given up the right
    to see. Raises VmountError.
    """
    holders: list[tuple[int, str]] = []
    if not force:
        for state in tell({"do": "volumes"}):
            if state["name"] == volume and state["path"] is not None:
                holders = processes_below(state["path"])
    request = {"do": "dismount", "volume": volume, "force": force, "holders": holders}
    answer: dict[str, Any] = tell(request)
    return answer


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
        f"{path}: in use by {shown or 'a process that is not visible here'}",
        remedy=Remedy(
            "end that process first, or use --force", "end that process first, or use force=True"
        ),
    )
