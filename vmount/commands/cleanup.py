"""`vmount cleanup`: remove what a killed vmount left behind."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING

from vmount import interruption
from vmount.commands.connection_options import add_connection_arguments, connection_layer
from vmount.errors import Exit, printable
from vmount.jobs.cleanup import Outcome, Recovery
from vmount.state import StateDir
from vmount.tree.info import as_json

if TYPE_CHECKING:
    import argparse
    from contextlib import AbstractAsyncContextManager

    from vmount.state.undo_records import Server
    from vmount.vsphere.session import Session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="only show what would be undone"
    )
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME",
        help="also undo what this host left behind: a host that used the same state folder and no longer exists",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    add_connection_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Undo what dead processes left, the last thing first; say what was done and what remains."""

    def tell(outcome: Outcome) -> None:
        if not arguments.json:
            text = outcome.done or f"remains: {outcome.undo_record}: {outcome.reason}"
            print(printable(text), flush=True)

    recovery = Recovery(
        StateDir(arguments.state_dir),
        partial(_connect, arguments),
        tell,
        dry_run=arguments.dry_run,
        hosts=frozenset(arguments.host),
    )
    report = interruption.run(recovery.run)
    if arguments.json:
        print(as_json(asdict(report)), end="")
    elif arguments.dry_run:
        print(f"{len(report.cleaned)} to clean, {len(report.remaining)} remaining")
    else:
        print(f"{len(report.cleaned)} cleaned, {len(report.remaining)} remaining")
    return Exit.FAILED if report.remaining else Exit.OK


def _connect(arguments: argparse.Namespace, server: Server) -> AbstractAsyncContextManager[Session]:
    # Loaded only where a server is named in a journal.
    from vmount.vsphere.recorded import connected_again

    if arguments.profile is not None:
        server = replace(server, profile=arguments.profile)
    return connected_again(server, connection_layer(arguments), os.environ)
