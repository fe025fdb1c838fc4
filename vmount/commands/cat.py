"""`vmount cat SOURCE PATH...`: write files to standard output, without mounting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.api import open_disks
from vmount.api.file_reader import READ_SIZE
from vmount.commands.options import add_source_arguments, open_options
from vmount.commands.streams import reads_source, write_bytes
from vmount.errors import Exit

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help=r"of the mount (volumes/disk0-p1/etc/fstab) or of the guest (/etc/fstab, C:\Users\a.txt); "
        "patterns and file:stream too",
    )
    add_source_arguments(parser)


@reads_source
def run(arguments: argparse.Namespace) -> int:
    """Write the files, one after the other."""
    options = open_options(arguments, arguments.source)
    with open_disks(arguments.source, options=options, state_dir=arguments.state_dir) as disks:
        for path in (each for text in arguments.paths for each in disks.expand(text)):
            with disks.open(path) as file:
                while data := file.read(READ_SIZE):
                    write_bytes(data)
    return Exit.OK
