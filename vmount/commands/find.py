"""`vmount find SOURCE PATTERN`: find files by name, size and date, without mounting."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vmount.api import open_disks
from vmount.commands.confinement import confine_command
from vmount.commands.ls import as_object, long_line, write_line, write_not_read
from vmount.commands.options import add_source_arguments, open_options, size, tell
from vmount.commands.streams import reads_source
from vmount.jobs.find import KINDS, Filter, parse_time
from vmount.jobs.unread import NotRead, paths_of
from vmount.tree.info import as_json

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument(
        "pattern",
        nargs="?",
        default="*",
        metavar="PATTERN",
        help="name (*.docx), or with a slash a path on the volume (Users/**/*.docx)",
    )
    parser.add_argument(
        "--below",
        default="volumes",
        metavar="PATH",
        help=r"search only there: volumes/disk0-p1/home, C:\Users, or /home of a Linux guest",
    )
    parser.add_argument(
        "--streams",
        action="store_true",
        help="find alternate streams of NTFS (file:stream) instead of files",
    )
    parser.add_argument("--type", choices=sorted(KINDS), help="type of file, as in find(1)")
    parser.add_argument("--larger", type=size, metavar="SIZE", help="of at least this size: 10M")
    parser.add_argument("--smaller", type=size, metavar="SIZE", help="of at most this size")
    parser.add_argument(
        "--newer", metavar="WHEN", help="modified since this date or age: 2026-11-01, 7d"
    )
    parser.add_argument("--older", metavar="WHEN", help="modified before")
    parser.add_argument(
        "-i",
        "--ignore-case",
        action="store_true",
        help="ignore case (default on NTFS and FAT)",
    )
    parser.add_argument(
        "--match-case",
        action="store_true",
        help="respect case, on NTFS and FAT too",
    )
    parser.add_argument("-l", "--long", action="store_true", help="also show type, size and time")
    parser.add_argument("-0", "--null", action="store_true", help="end each path with a zero byte")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    add_source_arguments(parser)


@reads_source
def run(arguments: argparse.Namespace) -> int:
    """Find; the exit code is 3 if a disk, a volume or a directory could not be searched."""
    wanted = _filter(arguments)
    not_read = NotRead("not searched", tell)
    options = open_options(arguments, arguments.source)
    confine_command(arguments, [arguments.source], options)
    with open_disks(arguments.source, options=options, state_dir=arguments.state_dir) as disks:
        tops = paths_of(disks, arguments.below)
        not_read.add_parts(disks, [arguments.below])
        found = (file for top in tops for file in wanted.find(disks, top, not_read.add_error))
        for file in found:
            if arguments.json:
                write_line(as_json(as_object(disks, file.path, file.attrs), indent=None).rstrip())
            elif arguments.null:
                write_line(file.path, end=b"\0")
            elif arguments.long:
                write_line(long_line(disks, file.path, file.path, file.attrs))
            else:
                write_line(file.path)
        write_not_read(not_read, as_json_wanted=arguments.json)
    return not_read.exit_code


def _filter(arguments: argparse.Namespace) -> Filter:
    now = datetime.now(UTC)
    wanted = Filter(
        arguments.pattern,
        at_least=arguments.larger,
        at_most=arguments.smaller,
        streams=arguments.streams,
    )
    if arguments.type is not None:
        wanted = replace(wanted, kinds=frozenset({KINDS[arguments.type]}))
    if arguments.newer is not None:
        wanted = replace(wanted, newer=parse_time(arguments.newer, now))
    if arguments.older is not None:
        wanted = replace(wanted, older=parse_time(arguments.older, now))
    if arguments.ignore_case or arguments.match_case:
        wanted = replace(wanted, ignore_case=arguments.ignore_case)
    return wanted
