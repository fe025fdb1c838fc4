"""`vmount ls SOURCE [PATH]`: list a directory, without mounting."""

from __future__ import annotations

import stat
import sys
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from vmount.api import DiskSet, Entry, open_disks
from vmount.commands.options import add_source_arguments, open_options, tell_problem
from vmount.commands.streams import reads_source, write_bytes
from vmount.errors import Exit, explain, printable
from vmount.parsers.model import Attrs
from vmount.tree.info import as_json

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument(
        "path",
        nargs="?",
        default="/",
        metavar="PATH",
        help=r"of the mount (volumes/disk0-p1/home) or of the guest (C:\Users\ann, /home/ann); "
        "patterns and file:stream too (default: /, the top of the mount)",
    )
    parser.add_argument("-l", "--long", action="store_true", help="with type, size and time")
    parser.add_argument("-R", "--recursive", action="store_true", help="with all below")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    add_source_arguments(parser)


@reads_source
def run(arguments: argparse.Namespace) -> int:
    """List; the exit code is 3 if a directory below could not be listed."""
    problems = 0

    def tell(error: OSError) -> None:
        nonlocal problems
        problems += 1
        tell_problem("not listed", error)

    options = open_options(arguments, arguments.source)
    with open_disks(arguments.source, options=options, state_dir=arguments.state_dir) as disks:
        paths = disks.expand(arguments.path)
        directories = []
        for path in paths:
            attrs = disks.stat(path)
            if stat.S_ISDIR(attrs.mode):
                directories.append(path)
                continue
            pure = PurePosixPath(path)
            # Of several, each says where it is.
            name = pure.name if len(paths) == 1 else path
            _show(arguments, disks, str(pure.parent), [Entry(pure.name, attrs)], name)
        for path in directories:
            if arguments.recursive:
                for directory, entries in disks.walk(path, tell):
                    if not arguments.json:
                        write_line(f"{directory}:")
                    _show(arguments, disks, directory, entries)
            else:
                if len(paths) > 1 and not arguments.json:
                    write_line(f"{path}:")
                _show(arguments, disks, path, disks.listdir(path))
    return Exit.SOURCE if problems else Exit.OK


def _show(
    arguments: argparse.Namespace,
    disks: DiskSet,
    directory: str,
    entries: list[Entry],
    shown: str | None = None,
) -> None:
    for name, attrs in entries:
        path = f"{directory.rstrip('/')}/{name}"
        name = shown or name
        if arguments.json:
            write_line(as_json(as_object(disks, path, attrs), indent=None).rstrip())
        elif arguments.long:
            write_line(long_line(disks, path, name, attrs))
        else:
            write_line(name)


def as_object(disks: DiskSet, path: str, attrs: Attrs | None) -> dict[str, Any]:
    """Return what is told of a file as JSON."""
    if attrs is None:
        return {"path": path, "problem": "its record is damaged"}
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
        return f"?????????? {name} (its record is damaged)"
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
    """Write a line to standard output: as it is, but for a terminal, which a name must not steer."""
    if sys.stdout.isatty():
        line = printable(line)
    write_bytes(line.encode("utf-8", "surrogateescape") + end)
