"""`vmount cp SOURCE PATH... DEST`: copy files and trees out, without mounting."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from vmount.api import open_disks
from vmount.commands.options import add_source_arguments, open_options
from vmount.copying import Copier, CopyReport
from vmount.errors import Exit, UsageError, printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator


REFRESH = 0.1
"""Seconds between updates of the progress bar."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files or directories to copy")
    parser.add_argument("destination", type=Path, metavar="DEST", help="a directory, or a new name")
    parser.add_argument("--json", action="store_true", help="report as JSON")
    add_source_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Copy; the exit code is 3 if something could not be read."""
    destination: Path = arguments.destination
    into = destination.is_dir()
    if len(arguments.paths) > 1 and not into:
        raise UsageError(f"{destination}: several files need a directory to be copied into")
    options = open_options(arguments, arguments.source)
    with (
        open_disks(arguments.source, options=options, state_dir=arguments.state_dir) as disks,
        _progress(arguments.json) as show,
    ):
        copier = Copier(disks, show)
        for path in arguments.paths:
            name = PurePosixPath(path).name
            if into and name in ("", ".."):
                raise UsageError(f"{path}: has no name to be copied under")
            copier.copy(path, destination / name if into else destination)
    return _say(copier.report, as_json=arguments.json)


def _say(report: CopyReport, *, as_json: bool) -> int:
    if as_json:
        values = {"files": report.files, "bytes": report.bytes, "problems": report.problems}
        print(json.dumps(values, ensure_ascii=True))
    else:
        for problem in report.problems:
            line = f"vmount: not copied: {printable(problem)}\n"
            sys.stderr.buffer.write(line.encode("utf-8", "surrogateescape"))
        print(f"{report.files} files, {report.bytes} bytes copied")
    return Exit.SOURCE if report.problems else Exit.OK


@contextmanager
def _progress(as_json: bool) -> Iterator[Callable[[CopyReport, str], None]]:
    if as_json or not sys.stderr.isatty():
        yield lambda _report, _source: None
        return
    # Only a terminal needs rich, and it takes a while to import.
    from rich.console import Console
    from rich.progress import (
        DownloadColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TransferSpeedColumn,
    )

    columns = (
        SpinnerColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TextColumn("{task.fields[files]} files"),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None, files=0)
        shown = 0.0

        def show(report: CopyReport, source: str) -> None:
            nonlocal shown
            now = time.monotonic()
            # Small files come by the thousand a second, and each update takes rich a while.
            if now - shown >= REFRESH:
                shown = now
                progress.update(
                    task, completed=report.bytes, files=report.files, description=source
                )

        yield show
