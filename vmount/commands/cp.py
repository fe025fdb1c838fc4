"""`vmount cp SOURCE PATH... DEST`: copy files and trees out, without mounting."""

from __future__ import annotations

import argparse
import re
import stat
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.api import open_disks
from vmount.commands.confinement import confine_command
from vmount.commands.console import human_size
from vmount.commands.cp_elsewhere import STANDARD_OUTPUT, list_only, write_archive, write_file
from vmount.commands.options import (
    add_owner_argument,
    add_source_arguments,
    add_user_map_argument,
    decide_owner,
    ntfs_users,
    open_options,
    tell,
)
from vmount.commands.progress import progress_bar
from vmount.errors import Exit, UsageError, explain
from vmount.jobs.copying import Copier, CopyOptions, CopyReport, Owner
from vmount.jobs.copying.copier import name_of
from vmount.jobs.copying.selection import Selection
from vmount.jobs.local_folder import FolderSet, read_beside
from vmount.jobs.unread import counted, line_of, missed, unread_below
from vmount.options import OpenOptions
from vmount.parsers.detect import FilesystemOptions
from vmount.parsers.ntfs import NtfsOptions
from vmount.sandbox.policy import COPYING, RESTORING
from vmount.sources.registry import recognise
from vmount.tree.info import as_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vmount.jobs.file_source import FileSource

MOST_SHOWN = 50
"""Number of lines of a kind that are printed; --json has all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="as for vmount mount, or a folder (such as a mount), or SOURCE:PATH",
    )
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help=r"files, directories or patterns to copy, as in the mount (volumes/disk0-p1/home) or in the "
        r"guest (C:\Users\ann, /home/ann); file:stream too",
    )
    parser.add_argument(
        "destination",
        metavar="DEST",
        help="a directory, a new name, or - for standard output (one file, or an archive with --tar)",
    )
    parser.add_argument(
        "--tar",
        action="store_true",
        help="with DEST -: write an archive, which can hold several files and directories",
    )
    for option, what in (("include", "copy only what"), ("exclude", "leave out what")):
        parser.add_argument(
            f"--{option}",
            action="append",
            default=[],
            metavar="PATTERN",
            help=f"{what} that matches: a name (*.docx), or with a slash a path on the volume",
        )
    parser.add_argument(
        "--dry-run", action="store_true", help="only list what would be copied, one path a line"
    )
    parser.add_argument(
        "-T",
        "--no-target-directory",
        action="store_true",
        help="DEST is the name of the copy, even if a directory of that name exists",
    )
    parser.add_argument("--resume", action="store_true", help="continue an interrupted copy")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="read each copy back and compare it; with --resume, also those that already exist",
    )
    add_owner_argument(parser)
    for option, what in (("--map-user", "user"), ("--map-group", "group")):
        parser.add_argument(
            option,
            action="append",
            type=_mapped,
            default=[],
            metavar="GUEST=HERE",
            help=f"with --owner guest: map the number of a {what} in the guest to one on this system",
        )
    add_user_map_argument(parser)
    parser.add_argument("--json", action="store_true", help="report as JSON")
    add_source_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Copy; the exit code is 3 if something could not be read, or not be kept whole."""
    _split_source(arguments)
    to_output = arguments.destination == STANDARD_OUTPUT
    if arguments.tar and not to_output:
        raise UsageError("--tar: archives are written to standard output", remedy="use - as DEST")
    decide_owner(arguments, "owners are not preserved: only root can give files to other users")
    destination = Path(arguments.destination)
    if arguments.destination.endswith("/") and destination.is_dir():
        # With a slash, a link to a directory means the directory: the copier follows none.
        destination = destination.resolve()
    into = destination.is_dir() and not arguments.no_target_directory
    if arguments.destination.endswith("/") and destination.exists() and not destination.is_dir():
        raise UsageError(f"{arguments.destination}: not a directory")
    if not (to_output or arguments.dry_run or destination.absolute().parent.is_dir()):
        raise UsageError(f"{destination.parent}: no such directory", remedy="create it first")
    owner = Owner(arguments.owner == "guest", dict(arguments.map_user), dict(arguments.map_group))
    selection = Selection(arguments.include, arguments.exclude)
    options = CopyOptions(arguments.resume, arguments.verify, owner, selection)
    with _opened(arguments) as disks:
        paths: list[str] = []
        missing = []
        for path in arguments.paths:
            try:
                paths += disks.expand(path)
            except OSError as error:
                missing.append(explain(missed(disks.unread, path, error)))
        if arguments.dry_run or to_output:
            report = CopyReport(problems=missing)
            report.not_read += unread_below(disks.unread, arguments.paths)
            _copy_elsewhere(arguments, disks, paths, options, report)
            return _say(report, arguments)
        if len(paths) + len(missing) > 1 and not into:
            raise UsageError(
                f"{destination}: not a directory; several files need a directory as DEST"
            )
        for path in paths:
            if into and not name_of(path):
                raise UsageError(
                    f"{path or 'an empty PATH'}: it gives the copy no name", remedy="use -T"
                )
            named_as_folder = arguments.destination.endswith("/")
            if into and arguments.resume and not named_as_folder:
                _check_meaning(destination, name_of(path))
        with _progress(disks, paths, arguments.json) as show:
            copier = Copier(disks, show, options)
            copier.report.problems += missing
            copier.report.not_read += unread_below(disks.unread, arguments.paths)
            copier.copy_all(
                [(path, destination / name_of(path) if into else destination) for path in paths]
            )
    return _say(copier.report, arguments)


def _copy_elsewhere(
    arguments: argparse.Namespace,
    disks: FileSource,
    paths: Sequence[str],
    options: CopyOptions,
    report: CopyReport,
) -> None:
    """Write to standard output, or only list."""
    if arguments.dry_run:
        list_only(disks, paths, options, report, quiet=arguments.json)
        return
    if arguments.json:
        raise UsageError("--json: standard output already receives the copy")
    with _progress(disks, paths, False) as show:
        if arguments.tar:
            write_archive(disks, paths, options, report, show)
        elif paths:
            write_file(disks, paths, report)


@contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[FileSource]:
    """Open the source: disks, or a folder such as a mount."""
    path = Path(arguments.source)
    if path.is_dir():
        folder = FolderSet(path.absolute())  # which looks at the mount that it is in
        _confine(arguments, OpenOptions())
        yield folder
        return
    opening = open_options(arguments, arguments.source)
    ntfs = NtfsOptions(users=ntfs_users(arguments))
    opening = replace(opening, filesystems=FilesystemOptions(ntfs))
    _confine(arguments, opening)
    with open_disks(arguments.source, options=opening, state_dir=arguments.state_dir) as disks:
        yield disks


def _confine(arguments: argparse.Namespace, options: OpenOptions) -> None:
    """Give up all but reading the source and writing the copies: below DEST, or beside it while it is new."""
    source, destination = Path(arguments.source), Path(arguments.destination).absolute()
    into = destination.is_dir() and not arguments.no_target_directory
    confine_command(
        arguments,
        [arguments.source],
        options,
        readable=read_beside(source) if source.is_dir() else [],
        writable=[destination if into else destination.parent],
        changes_attributes=True,
        capabilities=COPYING | (RESTORING if arguments.owner == "guest" else frozenset()),
    )


def _split_source(arguments: argparse.Namespace) -> None:
    """Take SOURCE:PATH apart, if that is how the words are given. Raises UsageError."""
    words = [arguments.source, *arguments.paths]
    first = words[0]
    if ":" not in first or _is_address(first) or Path(first).exists():
        if len(words) < 2:
            raise UsageError(f"{first}: no PATH given", remedy="see vmount cp --help")
        return
    parts = [word.partition(":") for word in words]
    if any(source != parts[0][0] or not path for source, _, path in parts):
        raise UsageError(f"{first}: SOURCE:PATH takes a PATH, and one SOURCE for all of them")
    arguments.source, arguments.paths = parts[0][0], [path for _, _, path in parts]


def _is_address(text: str) -> bool:
    """Return whether a word with a colon is a source by itself, as "nbd://host/" is."""
    kind = recognise(text)
    return kind.is_remote and not kind.needs_connection


def _check_meaning(destination: Path, name: str) -> None:
    """Check that a continued copy does not start again one level deeper. Raises UsageError."""
    if not (destination / name).exists():
        raise UsageError(
            f"{destination} already exists and does not contain {name}",
            remedy=f"use -T to continue that copy, or {destination}/ to copy into it",
        )


def _say(report: CopyReport, arguments: argparse.Namespace) -> int:
    if arguments.json:
        print(as_json(report.as_object()), end="")
    else:
        _tell_some("not copied", [line_of(item) for item in report.not_read])
        _tell_some("not copied", report.problems)
        _tell_some("not preserved", report.lost)
        for (what, reason), kept in report.not_kept.items():
            more = f" and {kept.count - 1} more" if kept.count > 1 else ""
            tell(f"not preserved: {what} of {kept.example}{more}: {reason}")
        files = "1 file" if report.files == 1 else f"{report.files} files"
        done = "to copy" if arguments.dry_run else "copied"
        parts = [f"{files}, {human_size(report.bytes)} {done}"]
        if report.already_there:
            parts.append(f"{report.already_there} already existed")
        if report.verified:
            parts.append(f"{report.verified} verified")
        if report.not_read:
            parts.append(f"not copied: {counted(report.not_read)}")
        if report.problems:
            failed = len(report.problems)
            parts.append(f"{failed} {'problems' if failed > 1 else 'problem'}")
        is_listing = arguments.dry_run or arguments.destination == STANDARD_OUTPUT
        print("; ".join(parts), file=sys.stderr if is_listing else sys.stdout)
    is_incomplete = report.problems or report.not_read or report.lost
    return Exit.SOURCE if is_incomplete else Exit.OK


def _tell_some(what: str, lines: Sequence[str]) -> None:
    for line in lines[:MOST_SHOWN]:
        tell(f"{what}: {line}")
    if len(lines) > MOST_SHOWN:
        tell(f"{what}: {len(lines) - MOST_SHOWN} more (--json lists all)")


@contextmanager
def _progress(
    disks: FileSource, paths: Sequence[str], quiet: bool
) -> Iterator[Callable[[CopyReport, str], None]]:
    with nullcontext() if quiet else progress_bar() as bar:
        # Only who watches wants to know how much there is; the listings are needed anyway.
        total = _size_of(disks, paths) if bar is not None and sys.stderr.isatty() else None

        def show(report: CopyReport, path: str) -> None:
            if bar is not None:
                bar.show(f"{report.files} files  {path}", report.bytes, total)

        yield show


def _size_of(disks: FileSource, paths: Sequence[str]) -> int:
    return sum(
        min(file.attrs.size, file.attrs.allocated) if file.attrs.allocated else file.attrs.size
        for path in paths
        for file in disks.below(path, lambda _error: None, dangling=True)
        if stat.S_ISREG(file.attrs.mode)
    )


def _mapped(text: str) -> tuple[int, int]:
    matched = re.fullmatch(r"(\d{1,10})=(\d{1,10})", text)
    if matched is None:
        raise argparse.ArgumentTypeError(f"invalid mapping {text!r} (example: 1000=5000)")
    return int(matched[1]), int(matched[2])
