"""Options that several commands share."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.commands.connection_options import add_connection_arguments, connection_layer
from vmount.commands.machine_options import access_options, add_access_arguments
from vmount.commands.streams import STDERR
from vmount.configuration import config_path
from vmount.datastores.lun_choice import LunChoice
from vmount.disks.choice import DiskChoice
from vmount.disks.remote import RemoteOptions
from vmount.errors import UsageError, explain
from vmount.options import OpenOptions
from vmount.parsers.ntfs import UserMap, parse_user_map
from vmount.sources.connection import with_connection
from vmount.transports.configuration import read_programs
from vmount.transports.negotiate import parse_order
from vmount.transports.registry import TRANSPORTS, known_transports

if TYPE_CHECKING:
    from collections.abc import Mapping

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what every command that opens sources can be told."""
    parser.add_argument(
        "--force", action="store_true", help="open a snapshot even if its parent has changed since"
    )
    parser.add_argument(
        "--disks",
        type=_names,
        default=(),
        metavar="NAME,...",
        help="open only these disks of a VM: scsi0-0,scsi0-1",
    )
    _add_drive_arguments(parser)
    _add_remote_arguments(parser)
    add_connection_arguments(parser)
    add_access_arguments(parser)
    _add_transport_arguments(parser)


def add_owner_argument(parser: argparse.ArgumentParser) -> None:
    """Declare --owner. `decide_owner` puts in its default."""
    parser.add_argument(
        "--owner",
        choices=["me", "guest"],
        help="owner of the files: guest, as in the guest (default for root); "
        "me, the user who runs vmount (default for others)",
    )


def decide_owner(arguments: argparse.Namespace, remark: str) -> None:
    """Put in the default of --owner. Where it is "me", `remark` tells the user that owners are not kept."""
    if arguments.owner is not None:
        return
    arguments.owner = "guest" if os.geteuid() == 0 else "me"
    if arguments.owner == "me":
        tell(remark)


def add_user_map_argument(parser: argparse.ArgumentParser) -> None:
    """Declare --usermap."""
    parser.add_argument(
        "--usermap",
        metavar="FILE",
        help="with --owner guest: map Windows users to numbers, in the format of ntfs-3g's UserMapping "
        "(default: the last part of the SID; 0 for built-in users)",
    )


def ntfs_users(arguments: argparse.Namespace) -> UserMap | None:
    """Return what Windows' users are called here, None if files belong to the caller. Raises UsageError."""
    path = arguments.usermap
    if arguments.owner != "guest":
        if path is not None:
            raise UsageError("--usermap: requires --owner guest")
        return None
    if path is None:
        return UserMap()
    try:
        with Path(path).open(encoding="utf-8", errors="surrogateescape") as file:
            return parse_user_map(file)
    except OSError as error:
        raise UsageError(f"--usermap: {explain(error)}") from error
    except ValueError as error:
        raise UsageError(f"--usermap {path}: {error}") from error


def _add_transport_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what concerns the ways to a machine's disks."""
    group = parser.add_argument_group("transports")
    group.add_argument(
        "--transport",
        metavar="NAME:...",
        help=f"try these in order for each disk (default: {':'.join(TRANSPORTS)}; "
        "more in the configuration file)",
    )
    group.add_argument(
        "--datastore",
        action="append",
        type=_datastore,
        default=[],
        metavar="NAME=DIR",
        help="a datastore that is mounted on this system; repeatable",
    )
    group.add_argument(
        "--lun",
        action="append",
        default=[],
        metavar="DEVICE",
        help="for san: a LUN of a datastore (default: search all disks of this system)",
    )
    for what, effect in (
        ("allow", "for san: only open disks"),
        ("deny", "for san: never open disks"),
    ):
        group.add_argument(
            f"--lun-{what}",
            action="append",
            default=[],
            metavar="PATTERN",
            help=f"{effect} whose path, link in /dev/disk/by-id or WWN matches",
        )
    group.add_argument(
        "--proxy-vm",
        default="",
        metavar="VM",
        help="for hotadd: the VM that vmount runs in, by moRef, UUID or inventory path "
        "(default: found by its firmware's UUID)",
    )


def _add_remote_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what concerns distant disks."""
    group = parser.add_argument_group("distant disks")
    group.add_argument(
        "--cache-size",
        type=_positive_size,
        metavar="SIZE",
        help="memory for each disk's cache: 512M, 2G (default: 256M)",
    )
    group.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="seconds to wait for the answer to a read (default: 60)",
    )
    group.add_argument(
        "--keepalive",
        type=_seconds,
        metavar="SECONDS",
        help="seconds without traffic after which a small read keeps the connection open",
    )


def _add_drive_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what concerns drive letters."""
    parser.add_argument(
        "--drive",
        action="append",
        type=_drive,
        default=[],
        metavar="LETTER=VOLUME",
        help="show a volume as this drive: D=disk0-p2; repeatable",
    )


def open_options(arguments: argparse.Namespace, *sources: str) -> OpenOptions:
    """Return what the arguments say of opening sources; a machine's password is asked for, if need be."""
    remote = RemoteOptions().limited(
        cache_size=arguments.cache_size,
        timeout=arguments.timeout,
        keepalive=arguments.keepalive,
    )
    drives = dict(arguments.drive)
    if len(drives) < len(arguments.drive):
        raise UsageError("--drive: the same letter twice")
    programs: Mapping[str, tuple[str, ...]] = {}
    transports: tuple[str, ...] = ()
    if arguments.transport is not None:
        programs = read_programs(config_path(os.environ))
        transports = parse_order(arguments.transport, known_transports(programs))
    options = OpenOptions(
        force=arguments.force,
        drives=drives,
        disks=DiskChoice(arguments.disks),
        remote=remote,
        access=access_options(arguments),
        transports=transports,
        datastores=dict(arguments.datastore),
        programs=programs,
        luns=LunChoice(tuple(arguments.lun), tuple(arguments.lun_allow), tuple(arguments.lun_deny)),
        proxy_vm=arguments.proxy_vm,
    )
    return with_connection(options, sources, connection_layer(arguments), arguments.profile)


def _datastore(text: str) -> tuple[str, Path]:
    name, separator, folder = text.rpartition("=")
    if not separator or not name or not folder:
        raise argparse.ArgumentTypeError(f"invalid datastore {text!r} (expected NAME=DIR)")
    return name, Path(folder).absolute()


def size(text: str) -> int:
    """Read a size for argparse: bytes, or with a unit as in 512M."""
    matched = re.fullmatch(r"(\d{1,15})([KMGT]?)(?:iB|B)?", text, re.IGNORECASE)
    if matched is None:
        raise argparse.ArgumentTypeError(f"invalid size {text!r} (examples: 512M, 2G)")
    return int(matched[1]) * UNITS[matched[2].upper()]


def _positive_size(text: str) -> int:
    value = size(text)
    if not value:
        raise argparse.ArgumentTypeError(f"invalid size {text!r} (examples: 512M, 2G)")
    return value


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError(f"invalid disk name {text!r} (example: scsi0-0)")
    return names


def _drive(text: str) -> tuple[str, str]:
    matched = re.fullmatch(r"([A-Za-z]):?=(.+)", text)
    if matched is None:
        raise argparse.ArgumentTypeError(f"invalid drive {text!r} (expected D=VOLUME)")
    return matched[1].upper(), matched[2]


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"invalid number of seconds {text!r}")
    return value


def tell_problem(what: str, error: OSError) -> None:
    """Tell of a file that something could not be done with."""
    tell(f"{what}: {explain(error)}")


def tell(text: str) -> None:
    """Write a line to standard error, after what is on its way to standard output."""
    STDERR.say(text)
