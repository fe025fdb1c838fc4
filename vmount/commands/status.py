"""`vmount status`: what is mounted and what it does."""

from __future__ import annotations

import argparse
import pwd
import sys
import time
from typing import Any

from vmount.commands.console import human_size
from vmount.errors import Exit, MountError, VmountError, printable
from vmount.mounting.apart import DEADLINE
from vmount.mounting.control import ask
from vmount.mounting.mountinfo import KernelMount, find_mount, resolve, vmount_mounts
from vmount.mounting.status import read_status
from vmount.state import StateDir
from vmount.tree.info import as_json

INTERVAL = 2.0
"""Seconds between two showings."""
CLEAR = "\x1b[H\x1b[2J"
"""Puts the cursor into the upper left corner and clears a terminal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("mountpoint", nargs="?", metavar="MOUNTPOINT", help="default: all mounts")
    parser.add_argument("--watch", action="store_true", help="refresh until Ctrl-C or the unmount")
    parser.add_argument(
        "--interval",
        type=_seconds,
        default=INTERVAL,
        metavar="SECONDS",
        help="with --watch: seconds between refreshes (default: 2)",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Show the status: once, or with --watch until interrupted."""
    if not arguments.watch:
        return _show(arguments)
    while True:
        if sys.stdout.isatty():
            print(CLEAR, end="")
        _show(arguments)
        sys.stdout.flush()
        time.sleep(arguments.interval)
        if not sys.stdout.isatty() and not arguments.json:
            print()


def _show(arguments: argparse.Namespace) -> int:
    state = StateDir(arguments.state_dir)
    if arguments.mountpoint is None:
        values = [_ask(mount, state) for mount in vmount_mounts()]
        if arguments.json:
            print(as_json(values), end="")
        elif not values:
            print("nothing is mounted")
        for value in [] if arguments.json else values:
            _print(value)
        return Exit.OK
    mountpoint = resolve(arguments.mountpoint)
    mount = find_mount(mountpoint)
    if mount is None:
        raise MountError(f"{mountpoint}: not a mount of vmount", remedy="vmount status lists them")
    value = _ask(mount, state)
    if arguments.json:
        print(as_json(value), end="")
    else:
        _print(value)
    return Exit.OK


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"invalid number of seconds {text!r} (from 0.1 to 86400)")
    return value


def _ask(mount: KernelMount, state: StateDir) -> dict[str, Any]:
    """Return what a mount says of itself, or a problem and a remedy.

    Its process is asked through its socket. A mount without a record is looked at from a process apart.
    """
    path = mount.mountpoint
    problem, remedy = "", f"run: vmount umount {path}"
    record = state.find(path)
    if record is not None and record.process.is_alive:
        try:
            found: dict[str, Any] = ask(record.socket, {"do": "status"}, DEADLINE)
        except VmountError:
            problem = f"process {record.process.pid} does not answer"
            remedy = f"run: vmount umount --force {path}"
        else:
            return found
    elif record is not None:
        problem = f"does not answer: its process ({record.process.pid}) was killed"
        if record.others:
            problem += f" and has left {', '.join(map(str, record.others))}"
            remedy = "run: vmount cleanup"
    else:
        try:
            return read_status(path)
        except PermissionError:
            problem, remedy = f"only {_name(mount.user)} can see its status", ""
        except TimeoutError:
            problem, remedy = "does not answer in time", f"run: vmount umount --force {path}"
        except (OSError, ValueError) as error:
            text = error.strerror if isinstance(error, OSError) else "not understood"
            problem = f"does not answer: {text}"
    return {"mountpoint": path, "problem": problem, "remedy": remedy}


def _name(user: int | None) -> str:
    """Return the name of a user, by its number."""
    if user is None:
        return "another user"
    try:
        return f"the user {pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"the user {user}"


def _print(value: dict[str, Any]) -> None:
    print(printable(value["mountpoint"]))
    if "problem" in value:
        print(printable("  " + "; ".join(filter(None, [value["problem"], value["remedy"]]))))
        return
    print(printable(f"  sources     {', '.join(value['sources'])}"))
    print(f"  process     {value['pid']}, up {value['uptime_seconds']:.0f} s")
    print(f"  bytes read  {human_size(value['bytes_read'])}")
    print(f"  open files  {value['open_files']}")
    for name, disk in value["disks"].items():
        rate = "" if disk["hit_rate"] is None else f", {disk['hit_rate']:.1%} of reads from memory"
        print(printable(f"  {name}"))
        print(
            f"    fetched     {human_size(disk['bytes_fetched'])} for "
            f"{human_size(disk['bytes_demanded'])} read{rate}"
        )
        print(
            f"    ahead       {human_size(disk['prefetch_used'])} used, "
            f"{human_size(disk['prefetch_wasted'])} wasted"
        )
        print(f"    in memory   {human_size(disk['bytes_cached'])}")
        print(
            f"    requests    {disk['requests']:,}, {disk['in_flight']} in flight, "
            f"{disk['latency_seconds'] * 1000:.1f} ms each, {disk['retries']} repeated, "
            f"{disk['reconnects']} reconnects"
        )
