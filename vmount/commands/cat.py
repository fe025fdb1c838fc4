"""`vmount cat SOURCE PATH...`: write files to standard output, without mounting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.api import open_disks
from vmount.api.file_reader import READ_SIZE
from vmount.commands.confinement import confine_command
from vmount.commands.options import add_source_arguments, open_options, tell
from vmount.commands.streams import reads_source, write_bytes
from vmount.jobs.unread import NotRead, missed, paths_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from vmount.api import DiskSet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help=r"as in the mount (volumes/disk0-p1/etc/fstab) or in the guest (/etc/fstab, C:\Users\a.txt); "
        "patterns and file:stream too",
    )
    add_source_arguments(parser)


@reads_source
def run(arguments: argparse.Namespace) -> int:
    """Write the files, one after the other; the exit code is 3 if one could not be read to its end."""
    options = open_options(arguments, arguments.source)
    confine_command(arguments, [arguments.source], options)
    not_read = NotRead("not read", tell)
    with open_disks(arguments.source, options=options, state_dir=arguments.state_dir) as disks:
        for text in arguments.paths:
            for piece in _pieces(disks, text):
                if isinstance(piece, OSError):
                    not_read.add_error(piece)
                else:
                    write_bytes(piece)
    return not_read.exit_code


def _pieces(disks: DiskSet, text: str) -> Iterator[bytes | OSError]:
    """Yield what the files hold that a text names; in the end of one why it could not be read further."""
    try:
        paths = paths_of(disks, text)
    except OSError as error:
        yield error
        return
    for path in paths:
        try:
            with disks.open(path) as file:
                while piece := file.read(READ_SIZE):
                    yield piece
        except OSError as error:
            yield missed(disks.unread, path, error)
