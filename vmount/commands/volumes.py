"""`vmount volumes MOUNTPOINT`: the volumes of a mount; show and hide single ones."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from vmount.commands.console import Column, Row, print_table
from vmount.errors import Exit, MountError
from vmount.mounting.control import ask
from vmount.mounting.mountinfo import find_mount, resolve
from vmount.mounting.unmount import dismount
from vmount.state import StateDir
from vmount.tree.info import as_json

if TYPE_CHECKING:
    import argparse

COLUMNS = (Column("volume"), Column("mounted"), Column("files"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("mountpoint", metavar="MOUNTPOINT")
    parser.add_argument(
        "--mount",
        action="append",
        default=[],
        metavar="NAME",
        help="mount a volume, or count one more use of it",
    )
    parser.add_argument(
        "--dismount",
        action="append",
        default=[],
        metavar="NAME",
        help="count one use less, and dismount the volume after the last",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="dismount even if it is in use or has several uses",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Mount, dismount, and show how things are then."""
    mountpoint = resolve(arguments.mountpoint)
    state = StateDir(arguments.state_dir)
    for name in arguments.dismount:
        dismount(partial(tell, mountpoint, state), name, force=arguments.force)
    for name in arguments.mount:
        tell(mountpoint, state, {"do": "mount", "volume": name})
    found = tell(mountpoint, state, {"do": "volumes"})
    if arguments.json:
        print(as_json(found), end="")
        return Exit.OK
    print_table(COLUMNS, [_row(volume) for volume in found])
    return Exit.OK


def _row(volume: dict[str, Any]) -> Row:
    count = volume["references"]
    where = volume["path"] or volume["problem"] or ""
    return Row((volume["name"], str(count) if count else "no", where))


def tell(mountpoint: str, state: StateDir, request: dict[str, Any]) -> Any:
    """Ask the process that serves a mount for something. Raises VmountError."""
    if find_mount(mountpoint) is None:
        raise MountError(f"{mountpoint}: not a mount of vmount", remedy="vmount status lists them")
    record = state.find(mountpoint)
    if record is None or not record.process.is_alive:
        raise MountError(
            f"{mountpoint}: no record of the process that serves it",
            remedy="use the --state-dir that it was mounted with",
        )
    return ask(record.socket, request)
