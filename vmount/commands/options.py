"""Options that several commands share."""

from __future__ import annotations

import argparse
import re
import sys

from vmount.errors import UsageError, explain, printable
from vmount.remote import RemoteOptions
from vmount.sources import OpenOptions

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what every command that opens sources can be told."""
    parser.add_argument(
        "--force", action="store_true", help="open a snapshot whose parent has changed since"
    )
    _add_drive_arguments(parser)
    _add_remote_arguments(parser)


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
        help="until a read that gets no answer is an error (default: 60)",
    )
    group.add_argument(
        "--keepalive",
        type=_seconds,
        metavar="SECONDS",
        help="read a little after so long without traffic, so that the server does not hang up",
    )


def _add_drive_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what concerns drive letters."""
    parser.add_argument(
        "--drive",
        action="append",
        type=_drive,
        default=[],
        metavar="LETTER=VOLUME",
        help="show a volume as this drive, as in D=disk0-p2; may be given several times",
    )


def open_options(arguments: argparse.Namespace) -> OpenOptions:
    """Return what the arguments say of opening sources."""
    remote = RemoteOptions().limited(
        cache_size=arguments.cache_size,
        timeout=arguments.timeout,
        keepalive=arguments.keepalive,
    )
    drives = dict(arguments.drive)
    if len(drives) < len(arguments.drive):
        raise UsageError("--drive: a letter is given twice")
    return OpenOptions(force=arguments.force, remote=remote, drives=drives)


def size(text: str) -> int:
    """Read a size for argparse: bytes, or with a unit as in 512M."""
    matched = re.fullmatch(r"(\d{1,15})([KMGT]?)(?:iB|B)?", text, re.IGNORECASE)
    if matched is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 512M")
    return int(matched[1]) * UNITS[matched[2].upper()]


def _positive_size(text: str) -> int:
    value = size(text)
    if not value:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 512M")
    return value


def _drive(text: str) -> tuple[str, str]:
    matched = re.fullmatch(r"([A-Za-z]):?=(.+)", text)
    if matched is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form D=VOLUME")
    return matched[1].upper(), matched[2]


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return value


def tell_problem(what: str, error: OSError) -> None:
    """Tell of a file that something could not be done with."""
    tell(f"{what}: {explain(error)}")


def tell(text: str) -> None:
    """Write a line to standard error, after what is on its way to standard output."""
    sys.stdout.flush()
    line = f"vmount: {printable(text)}\n"
    sys.stderr.buffer.write(line.encode("utf-8", "surrogateescape"))
    sys.stderr.flush()
