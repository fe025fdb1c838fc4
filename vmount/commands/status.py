"""`vmount status`: what is mounted and what it does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from vmount.commands.console import human_size
from vmount.errors import Exit, MountError, printable
from vmount.mounting.mountinfo import find_mount, vmount_mounts
from vmount.mounting.status import read_status
from vmount.tree.info import as_json

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("mountpoint", nargs="?", metavar="MOUNTPOINT", help="default: all mounts")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Show the status."""
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
