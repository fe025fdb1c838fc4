"""`vmount diff SOURCE_A SOURCE_B [PATH]`: what changed between two snapshots or disks."""

from __future__ import annotations

import errno
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from vmount.api import open_disks
from vmount.commands.confinement import confine_command
from vmount.commands.ls import write_line, write_not_read
from vmount.commands.options import add_source_arguments, open_options, tell
from vmount.commands.streams import reads_source
from vmount.errors import UsageError
from vmount.jobs.diff import Change, Comparison, Place, compare
from vmount.jobs.unread import NotRead, why_absent
from vmount.jobs.volume_pairs import KnownVolume, pair_volumes
from vmount.tree.info import as_json

if TYPE_CHECKING:
    import argparse

    from vmount.api import DiskSet
    from vmount.parsers.model import Attrs

SIGNS = {"added": "+", "removed": "-", "type": "!", "content": "M", "attributes": "m"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("before", metavar="SOURCE_A", help="the earlier state")
    parser.add_argument("after", metavar="SOURCE_B", help="the later state")
    parser.add_argument(
        "path",
        nargs="?",
        default=None,
        metavar="PATH",
        help=r"as in the mount or in the guest: C:\Users, /etc (default: all volumes, each compared with itself)",
    )
    parser.add_argument(
        "--checksum", action="store_true", help="compare contents instead of sizes and times"
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
    confine_command(arguments, [arguments.before, arguments.after], options)
    state_dir = arguments.state_dir
    with ExitStack() as stack:
        first = stack.enter_context(
            open_disks(arguments.before, options=options, state_dir=state_dir)
        )
        second = stack.enter_context(
            open_disks(arguments.after, options=options, state_dir=state_dir)
        )
        if arguments.path is None:
            places = _volumes_of(first, second)
        else:
            places = _places_of(first, second, arguments.path)
        for disks, source in ((first, arguments.before), (second, arguments.after)):
            not_read.add_parts(disks, [arguments.path or "volumes"], of=source)
        how = Comparison(arguments.checksum)
        for here, there in places:
            if here.path != there.path:
                tell(f"{here.path} of {arguments.before} is {there.path} of {arguments.after}")
            if _is_hidden(not_read, here, there):
                continue
            for change in compare(here, there, how, not_read.add_error):
                if arguments.json:
                    write_line(as_json(_as_object(change), indent=None).rstrip())
                else:
                    write_line(f"{SIGNS[change.kind]} {change.path}")
        write_not_read(not_read, as_json_wanted=arguments.json)
    return not_read.exit_code


def _is_hidden(not_read: NotRead, *places: Place) -> bool:
    """Say whether something may be missing from one of the two only because that cannot be read; note that."""
    reasons = [why for place in places if (why := _why_absent(place)) is not None]
    if reasons and all(item.path != reasons[0].filename for item in not_read.items):
        not_read.add_error(reasons[0])
    return bool(reasons)


def _why_absent(place: Place) -> OSError | None:
    if not place.is_missing:
        return why_absent(place.disks, place.path)
    unknown = [item.path for item in place.disks.unread]
    if not unknown:
        return None
    reason = f"may be {' or '.join(unknown)}, which cannot be read"
    return OSError(errno.EIO, reason, place.path)


def _volumes_of(first: DiskSet, second: DiskSet) -> list[tuple[Place, Place]]:
    """Return where each volume with files is in both sets. Raises UsageError if they share none."""
    pairs = pair_volumes(_known(first), _known(second))
    if all(pair.before is None or pair.after is None for pair in pairs):
        raise UsageError("no volume exists on both sides", remedy="give a PATH to compare")
    return [
        (
            Place(first, f"volumes/{pair.before or pair.after}", pair.before is None),
            Place(second, f"volumes/{pair.after or pair.before}", pair.after is None),
        )
        for pair in pairs
    ]


def _known(disks: DiskSet) -> list[KnownVolume]:
    return [
        KnownVolume(handle.volume, handle.info().guest_mount_points)
        for handle in disks.volume_handles()
        if handle.volume.filesystem is not None
    ]


def _places_of(first: DiskSet, second: DiskSet, text: str) -> list[tuple[Place, Place]]:
    """Return where what a text names is in both sets; it may be missing from one. Raises OSError."""
    try:
        here = first.locate(text)
    except FileNotFoundError as error:
        try:
            there = second.locate(text)
        except FileNotFoundError:
            if why_absent(first, text) is None and why_absent(second, text) is None:
                raise error from None
            there = text
        return [(Place(first, there), Place(second, there))]
    try:
        return [(Place(first, here), Place(second, second.locate(text)))]
    except FileNotFoundError:
        return [(Place(first, here), Place(second, _in_pair(first, second, here)))]


def _in_pair(first: DiskSet, second: DiskSet, path: str) -> str:
    """Return a path on a volume as the other set has it, whose volume may have another name there."""
    top, _, rest = path.partition("/")
    volume, slash, inner = rest.partition("/")
    for pair in pair_volumes(_known(first), _known(second)) if top == "volumes" else ():
        if pair.before == volume and pair.after is not None:
            return f"volumes/{pair.after}{slash}{inner}"
    return path


def _as_object(change: Change) -> dict[str, Any]:
    return {
        "change": change.kind,
        "path": change.path,
        "before": _attributes(change.before),
        "after": _attributes(change.after),
    }


def _attributes(attrs: Attrs | None) -> dict[str, int] | None:
    return None if attrs is None else attrs._asdict()
