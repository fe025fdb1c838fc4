"""`vmount cleanup`: undo what a killed vmount left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.errors import Exit, VmountError
from vmount.mountinfo import find_mount
from vmount.state import StateDir
from vmount.unmount import fusermount

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments: there are none."""


def run(arguments: argparse.Namespace) -> int:
    """Unmount what has no server any more and remove its record; say what was done and what remains."""
    state = StateDir(arguments.state_dir)
    cleaned = remaining = 0
    for record in list(state.records()):
        if record.is_alive:
            continue
        mount = find_mount(record.mountpoint)
        try:
            if mount is not None and not _served_by_another(state, record.mountpoint):
                fusermount(mount, lazy=True)
                print(f"unmounted {record.mountpoint}")
            state.remove(record)
            cleaned += 1
        except VmountError as error:
            print(f"remains: {error}")
            remaining += 1
    print(f"{cleaned} cleaned, {remaining} remaining")
    return Exit.FAILED if remaining else Exit.OK


def _served_by_another(state: StateDir, mountpoint: str) -> bool:
    return any(record.is_alive and record.mountpoint == mountpoint for record in state.records())
