"""`vmount ls SOURCE [PATH]`: list a directory, without mounting."""

from __future__ import annotations

import errno
import stat
import sys
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from vmount.api import DiskSet, Entry, open_disks
from vmount.commands.confinement import confine_command
from vmount.commands.options import add_source_arguments, open_options, tell
from vmount.commands.streams import reads_source, write_bytes
from vmount.errors import explain, printable
from vmount.jobs.unread import NotRead, missed, paths_of
from vmount.parsers.model import Attrs
from vmount.tree.info import as_json

if TYPE_CHECKING:
    import argparse


RECORD_DAMAGED = "its record is damaged"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument(
        "path",
        nargs="?",
        default="/",
        metavar="PATH",
        help=r"as in the mount (volumes/disk0-p1/home) or as in the guest (C:\Users\ann, /home/ann); "
        "patterns and file:stream too (default: /, the top of the mount)",
    )
    parser.add_argument("-l", "--long", action="store_true", help="also show type, size and time")
    parser.add_argument("-R", "--recursive", action="store_true", help="recurse into directories")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    add_source_arguments(parser)


@reads_source
def run(arguments: argparse.Namespace) -> int:
    """List; the exit code is 3 if something could not be listed; with -R, also a disk or a volume."""
    not_read = NotRead("not listed", tell)
    options = open_options(arguments, arguments.source)
    confine_command(arguments, [arguments.source], options)
    with open_disks(arguments.source, options=options, state_dir=arguments.state_dir) as disks:
        paths = paths_of(disks, arguments.path)
        directories = []
        for path in paths:
            try:
                attrs = disks.stat(path)
            except OSError as error:
                why = missed(disks.unread, path, error)
                if len(paths) == 1:
                    raise why from error
                not_read.add_error(why)
                continue
            if stat.S_ISDIR(attrs.mode):
                directories.append(path)
                continue
            pure = PurePosixPath(path)
            # Of several, each says where it is.
            shown = pure.name if len(paths) == 1 else path
            _show(arguments, disks, str(pure.parent), [Entry(pure.name, attrs)], shown)
        if arguments.recursive:
            not_read.add_parts(disks, [arguments.path])
        for path in directories:
            _list(arguments, disks, path, not_read, is_only=len(paths) == 1)
        write_not_read(not_read, as_json_wanted=arguments.json)
    return not_read.exit_code


def _list(
    arguments: argparse.Namespace, disks: DiskSet, path: str, not_read: NotRead, *, is_only: bool
) -> None:
    """Show a directory, with -R all below it."""
    if arguments.recursive:
        listings = disks.walk_entries(path, not_read.add_directory)
    else:
        listings = iter([(path, disks.listdir(path))])
    for directory, entries in listings:
        if not arguments.json and (arguments.recursive or not is_only):
            write_line(f"{directory}:")
        _show(arguments, disks, directory, entries)
        _note_damaged(not_read, directory, entries)


def _note_damaged(not_read: NotRead, directory: str, entries: list[Entry]) -> None:
    for name, attrs in entries:
        if attrs is None:
            path = f"{directory.rstrip('/')}/{name}"
            not_read.add_error(OSError(errno.EUCLEAN, RECORD_DAMAGED, path))


def write_not_read(not_read: NotRead, *, as_json_wanted: bool) -> None:
    """Say at the end of a listing what is missing from it: in JSON an object a line, and one line for people."""
    if as_json_wanted:
        for item in not_read.as_objects():
            write_line(as_json(item, indent=None).rstrip())
    if not_read.items:
        tell(f"not complete: {not_read.counted()} could not be read")


def _show(
    arguments: argparse.Namespace,
    disks: DiskSet,
    directory: str,
    entries: list[Entry],
    shown: str | None = None,
) -> None:
    for name, attrs in entries:
        path = f"{directory.rstrip('/')}/{name}"
        if arguments.json:
            if attrs is not None:  # otherwise it is among what could not be read
                write_line(as_json(as_object(disks, path, attrs), indent=None).rstrip())
        elif arguments.long:
            write_line(long_line(disks, path, shown or name, attrs))
        else:
            write_line(shown or name)


def as_object(disks: DiskSet, path: str, attrs: Attrs) -> dict[str, Any]:
    """Return the JSON object of a file."""
    value: dict[str, Any] = {"path": path, "type": _kind(attrs.mode)} | attrs._asdict()
    if stat.S_ISLNK(attrs.mode):
        try:
            value["target"] = disks.readlink(path)
        except OSError as error:
            value["problem"] = explain(error)
    return value


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFREG: "file",
        stat.S_IFDIR: "directory",
        stat.S_IFLNK: "symlink",
        stat.S_IFBLK: "block",
        stat.S_IFCHR: "character",
        stat.S_IFIFO: "fifo",
        stat.S_IFSOCK: "socket",
    }
    return kinds.get(stat.S_IFMT(mode), "unknown")


def long_line(disks: DiskSet, path: str, name: str, attrs: Attrs | None) -> str:
    """Return a line like that of `ls -l`."""
    if attrs is None:
        return f"?????????? {name} ({RECORD_DAMAGED})"
    target = f" -> {_target(disks, path)}" if stat.S_ISLNK(attrs.mode) else ""
    return (
        f"{stat.filemode(attrs.mode)} {attrs.nlink:>3} {attrs.uid:>5} {attrs.gid:>5} "
        f"{attrs.size:>14} {_time(attrs.mtime)} {name}{target}"
    )


def _target(disks: DiskSet, path: str) -> str:
    try:
        return disks.readlink(path)
    except OSError as error:
        return f"({explain(error)})"


def _time(nanoseconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(nanoseconds // 10**9, UTC):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return f"{'@' + str(nanoseconds // 10**9):<19}"


def write_line(line: str, end: bytes = b"\n") -> None:
    """Write a line to standard output: unchanged, except to a terminal, which a name must not control."""
    if sys.stdout.isatty():
        line = printable(line)
    write_bytes(line.encode("utf-8", "surrogateescape") + end)
