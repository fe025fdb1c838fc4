"""`vmount completion SHELL`: print what makes a shell complete vmount's words and options."""

from __future__ import annotations

from typing import TYPE_CHECKING

import shtab

from vmount.errors import Exit

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "shell",
        choices=shtab.SUPPORTED_SHELLS,
        metavar="SHELL",
        help=" or ".join(shtab.SUPPORTED_SHELLS),
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the script. The command line has put `whole_parser` into the arguments."""
    print(shtab.complete(arguments.whole_parser(), arguments.shell))
    return Exit.OK
