"""`vmount status`: what is mounted and what it does."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

from vmount.commands.console import human_size
from vmount.errors import Exit, MountError, printable
from vmount.mounting.mountinfo import find_mount, vmount_mounts
from vmount.mounting.status import read_status
from vmount.tree.info import as_json

INTERVAL = 2.0
"""Seconds between two showings."""
CLEAR = "\x1b[H\x1b[2J"
"""Puts the cursor into the upper left corner and clears a terminal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("mountpoint", nargs="?", metavar="MOUNTPOINT", help="default: all mounts")
    parser.add_argument(
        "--watch", action="store_true", help="show it again and again, until Ctrl-C or the unmount"
    )
    parser.add_argument(
        "--interval",
        type=_seconds,
        default=INTERVAL,
        metavar="SECONDS",
        help="with --watch: the time between two showings (default: 2)",
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
    if arguments.mountpoint is None:
        values = [_ask(mount.mountpoint) for mount in vmount_mounts()]
        if arguments.json:
            print(as_json(values), end="")
        elif not values:
            print("nothing is mounted")
        for value in [] if arguments.json else values:
            _print(value)
        return Exit.OK
    mountpoint = os.path.realpath(arguments.mountpoint)
    if find_mount(mountpoint) is None:
        raise MountError(f"{mountpoint}: not a mount of vmount", remedy="vmount status lists them")
    value = _ask(mountpoint)
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


def _ask(mountpoint: str) -> dict[str, Any]:
    try:
        return read_status(mountpoint)
    except OSError as error:
        return {"mountpoint": mountpoint, "problem": f"does not answer: {error.strerror}"}


def _print(value: dict[str, Any]) -> None:
    print(printable(value["mountpoint"]))
    if "problem" in value:
        print(printable(f"  {value['problem']}; run: vmount umount {value['mountpoint']}"))
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
