"""`vmount diff SOURCE_A SOURCE_B [PATH]`: what changed between two snapshots or disks."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from vmount.api import open_disks
from vmount.commands.ls import write_line, write_not_read
from vmount.commands.options import add_source_arguments, open_options, tell
from vmount.commands.streams import reads_source
from vmount.errors import UsageError
from vmount.jobs.diff import Change, Comparison, compare
from vmount.jobs.unread import NotRead, why_absent
from vmount.tree.info import as_json

if TYPE_CHECKING:
    import argparse

    from vmount.api import DiskSet
    from vmount.parsers.model import Attrs

SIGNS = {"added": "+", "removed": "-", "type": "!", "content": "M", "attributes": "m"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("before", metavar="SOURCE_A", help="as it was")
    parser.add_argument("after", metavar="SOURCE_B", help="as it is")
    parser.add_argument(
        "path", nargs="?", default=None, metavar="PATH", help="default: all volumes"
    )
    parser.add_argument(
        "--checksum", action="store_true", help="compare contents, instead of sizes and times"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    add_source_arguments(parser)


@reads_source
def run(arguments: argparse.Namespace) -> int:
    """Compare. Lines begin with + added, - removed, M content, m attributes, ! another type of file.

    The exit code is 3 if a disk, a volume, a directory or a file of one of the two could not be compared.
    """
    not_read = NotRead("not compared", tell)
    options = open_options(arguments, arguments.before, arguments.after)
    state_dir = arguments.state_dir
    with ExitStack() as stack:
        first = stack.enter_context(
            open_disks(arguments.before, options=options, state_dir=state_dir)
        )
        second = stack.enter_context(
            open_disks(arguments.after, options=options, state_dir=state_dir)
        )
        paths = [arguments.path]
        if arguments.path is None:
            names = [
                {volume.name for volume in disks.volumes if volume.filesystem is not None}
                for disks in (first, second)
            ]
            if not names[0] & names[1]:
                raise UsageError(
                    "no volume has the same name in both", remedy="name what to compare as PATH"
                )
            paths = [f"volumes/{name}" for name in sorted(names[0] | names[1])]
        for disks, source in ((first, arguments.before), (second, arguments.after)):
            not_read.add_parts(disks, [arguments.path or "volumes"], of=source)
        how = Comparison(arguments.checksum)
        for path in paths:
            if _is_hidden(not_read, first, second, path):
                continue
            for change in compare(first, second, path, how, not_read.add_error):
                if arguments.json:
                    write_line(as_json(_as_object(change), indent=None).rstrip())
                else:
                    write_line(f"{SIGNS[change.kind]} {change.path}")
        write_not_read(not_read, as_json_wanted=arguments.json)
    return not_read.exit_code


def _is_hidden(not_read: NotRead, first: DiskSet, second: DiskSet, path: str) -> bool:
    """Say whether a path may be missing from one of the two only because that cannot be read; note that."""
    reasons = [why for disks in (first, second) if (why := why_absent(disks, path)) is not None]
    if reasons and all(item.path != path for item in not_read.items):
        not_read.add_error(reasons[0])
    return bool(reasons)


def _as_object(change: Change) -> dict[str, Any]:
    return {
        "change": change.kind,
        "path": change.path,
        "before": _attributes(change.before),
        "after": _attributes(change.after),
    }


def _attributes(attrs: Attrs | None) -> dict[str, int] | None:
    return None if attrs is None else attrs._asdict()
