"""`vmount scan SOURCE [PATH...]`: look for malware in the files of a machine."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vmount.api import open_disks
from vmount.commands.confinement import confine_command, is_confined
from vmount.commands.console import human_size
from vmount.commands.ls import write_line
from vmount.commands.options import add_source_arguments, open_options, size, tell
from vmount.commands.progress import progress_bar
from vmount.commands.streams import OutputError
from vmount.errors import (
    Exit,
    SourceError,
    UsageError,
    VmountError,
    explain,
    printable,
)
from vmount.jobs.local_folder import FolderSet, read_beside, trees_of
from vmount.jobs.scan.clamd import Clamd, clamd_address
from vmount.jobs.scan.files_to_scan import Selection
from vmount.jobs.scan.helper import EngineHelper
from vmount.jobs.scan.programs import Clamscan, Command, Programs
from vmount.jobs.scan.report import Seen, read_clean
from vmount.jobs.scan.scanner import PathEngine, Scan, ScanOptions
from vmount.jobs.scan.scanner_mount import ScannerMount
from vmount.jobs.unread import counted, line_of
from vmount.options import OpenOptions
from vmount.sources.web import without_query
from vmount.state import StateDir
from vmount.tree.info import as_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from vmount.api import FileRef
    from vmount.jobs.file_source import FileSource
    from vmount.jobs.scan.engine import Engine
    from vmount.jobs.scan.report import ScanReport
    from vmount.jobs.scan.scanner import Progress

MOST_SHOWN = 20
"""Number of files not scanned that are listed; --json has all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "source", metavar="SOURCE", help="as for vmount mount, or a folder (such as a mount)"
    )
    parser.add_argument(
        "paths",
        nargs="*",
        default=[],
        metavar="PATH",
        help=r"files or directories, as in the mount or in the guest (C:\Users\ann, /home/ann); "
        "patterns and file:stream too (default: all volumes)",
    )
    parser.add_argument(
        "--engine",
        default="clamd",
        metavar="ENGINE",
        help="clamd (default), clamscan, or a command, in which {} stands for the path of a file",
    )
    parser.add_argument("--socket", metavar="ADDRESS", help="socket of clamd: a path, or host:port")
    parser.add_argument(
        "--connections", type=int, default=4, metavar="N", help="connections to clamd (default: 4)"
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write a report for a later --since"
    )
    parser.add_argument(
        "--since", type=Path, metavar="FILE", help="scan only what has changed since that report"
    )
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave out files and directories with this name (*.vhdx), or with a slash this path on the "
        "volume (Windows/WinSxS); repeatable",
    )
    parser.add_argument(
        "--max-size",
        type=size,
        metavar="SIZE",
        help="report larger files as not scanned: 500M; this is also the limit of clamscan, and the assumed "
        "limit of a clamd whose settings are unknown (default: ClamAV's)",
    )
    parser.add_argument("--json", action="store_true", help="report as JSON")
    add_source_arguments(parser)


class _Opened(NamedTuple):
    """What is scanned."""

    source: FileSource
    engine: Engine | PathEngine
    """As this process may use it."""
    paths: list[str]
    """To be scanned where the user names none."""
    answers_for: list[str]
    """What these stand for: disks and volumes there that cannot be read are not scanned."""
    place_of: Callable[[FileRef], str]
    """Returns the path by which a program of this system opens a file."""


def run(arguments: argparse.Namespace) -> int:
    """Scan. The exit code is 1 if something was found, and for nothing else; 3 if not all could be scanned."""
    try:
        return _run(arguments)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SourceError(explain(error)) from error
    except VmountError as error:
        if error.exit_code == Exit.FOUND:
            error.exit_code = Exit.SCANNER
        raise


def _run(arguments: argparse.Namespace) -> int:
    if not 1 <= arguments.connections <= 64:
        raise UsageError("--connections: invalid number (from 1 to 64)")
    if arguments.report is not None and not arguments.report.absolute().parent.is_dir():
        raise UsageError(f"--report {arguments.report}: the folder does not exist")
    clean: dict[str, Seen] = {}
    since = ""
    if arguments.since is not None:
        since, clean = read_clean(arguments.since)
    engine = _engine(arguments)
    options = ScanOptions(Selection(tuple(arguments.exclude)), arguments.max_size)
    with _opened(arguments, engine) as opened, _shown(arguments.json) as show:
        shown = [without_query(arguments.source)]
        scan = Scan(opened.source, shown, opened.engine, show, options, opened.place_of)
        if since and since != scan.report.engine:
            tell(f"the earlier scan used {since}, this one uses {scan.report.engine}")
        if arguments.paths:
            report = scan.run(arguments.paths, clean)
        else:
            report = scan.run(opened.paths, clean, opened.answers_for)
    code = Exit.SOURCE if report.not_scanned else Exit.OK
    if arguments.report is not None:
        try:
            report.write(arguments.report)
        except OSError as error:
            tell(f"--report: {explain(error)}")
            code = Exit.SCANNER
    if report.found:
        code = Exit.FOUND
    try:
        if arguments.json:
            print(as_json(report.summary()), end="")
        else:
            _print(report)
        sys.stdout.flush()
    except (OSError, OutputError) as error:
        # The exit code is still true where the reader of the output has gone, and where something was found.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            tell(
                f"standard output: {explain(error)}"
                if isinstance(error, OSError)
                else error.as_command()
            )
            code = code if report.found else Exit.SCANNER
    return code


def _engine(arguments: argparse.Namespace) -> Clamd | Clamscan | Command:
    if arguments.engine == "clamd":
        return Clamd(clamd_address(arguments.socket), arguments.connections, arguments.max_size)
    programs = Programs(StateDir(arguments.state_dir))
    if arguments.engine == "clamscan":
        return Clamscan(programs, largest=arguments.max_size)
    return Command(arguments.engine, programs)


@contextmanager
def _opened(arguments: argparse.Namespace, engine: Engine | PathEngine) -> Iterator[_Opened]:
    path = Path(arguments.source)
    is_folder = path.is_dir()
    options = OpenOptions() if is_folder else open_options(arguments, arguments.source)
    # Before this process is confined to the folder: it looks at the mount that the folder is in.
    folder = FolderSet(path.absolute()) if is_folder else None
    with ExitStack() as stack:
        helper = None
        if isinstance(engine, PathEngine) and is_confined(arguments):
            helper = EngineHelper(engine, arguments.source, options, arguments.state_dir)
            stack.callback(helper.close)
        elif isinstance(engine, PathEngine):
            stack.callback(engine.close)
        beside = [] if folder is None else read_beside(path)
        _confine(
            arguments, options, engine, [*beside, *([] if helper is None else [helper.folder])]
        )
        usable = helper or engine
        if folder is not None:
            trees = trees_of(path)
            answers_for = ["" if trees == ["."] else "volumes"]
            yield _Opened(folder, usable, trees, answers_for, folder.place_of)
            return
        disks = stack.enter_context(
            open_disks(arguments.source, options=options, state_dir=arguments.state_dir)
        )
        volumes = [volume.name for volume in disks.volumes if volume.filesystem is not None]
        if not volumes and not disks.unread and not arguments.paths:
            raise SourceError(f"{arguments.source}: no volume with a file system")
        wanted = [f"volumes/{name}" for name in volumes]
        yield _Opened(disks, usable, wanted, ["volumes"], ScannerMount(disks, helper).place_of)


def _confine(
    arguments: argparse.Namespace,
    options: OpenOptions,
    engine: Engine | PathEngine,
    readable: Sequence[Path],
) -> None:
    """Give up all but reading the source, talking to clamd and writing the report."""
    writable = [] if arguments.report is None else [arguments.report.absolute().parent]
    address = engine.address.socket if isinstance(engine, Clamd) else None
    confine_command(
        arguments,
        [arguments.source],
        options,
        writable=writable,
        readable=readable,
        unix_sockets=isinstance(address, str),
        ports=frozenset({address[1]}) if isinstance(address, tuple) else frozenset(),
    )


@contextmanager
def _shown(as_json: bool) -> Iterator[Callable[[Progress], None]]:
    with nullcontext() if as_json else progress_bar() as bar:

        def show(progress: Progress) -> None:
            if bar is None:
                return
            if progress.contents is None:
                bar.show(f"{progress.files} files found")
                return
            found = f", {progress.found} FOUND" if progress.found else ""
            bar.show(
                f"{progress.scanned} of {progress.contents} files{found}  {progress.path}",
                progress.bytes,
                progress.size,
            )

        yield show


def _print(report: ScanReport) -> None:
    for item in report.not_scanned[:MOST_SHOWN]:
        tell(f"not scanned: {line_of(item)}")
    if len(report.not_scanned) > MOST_SHOWN:
        tell(f"not scanned: {len(report.not_scanned) - MOST_SHOWN} more (--json lists all)")
    for path, signature in report.found:
        # A line for each finding, whatever is in the name; to a program, with the name's own bytes.
        write_line(printable(f"{path}: {signature} FOUND", keep_bytes=True))
    sys.stdout.flush()
    contents = "content" if report.scanned == 1 else "contents"
    parts = [
        f"{report.scanned} {contents} scanned, {human_size(report.bytes)} in {report.seconds:.1f} s"
    ]
    if report.same_content:
        parts.append(f"{report.same_content} more files have the same content")
    if report.unchanged:
        parts.append(f"{report.unchanged} unchanged")
    if report.excluded:
        parts.append(f"{report.excluded} excluded")
    parts.append(f"{len(report.found)} found")
    if report.not_scanned:
        parts.append(f"not scanned: {counted(report.not_scanned)}")
    print("; ".join(parts))
