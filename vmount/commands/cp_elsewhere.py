"""`vmount cp` that makes no copies on this machine: to standard output, or only told (--dry-run)."""

from __future__ import annotations

import stat
import sys
from typing import TYPE_CHECKING

from vmount.commands.ls import write_line
from vmount.commands.streams import write_bytes
from vmount.errors import UsageError, explain
from vmount.jobs.copying.archive import Archiver
from vmount.jobs.copying.copier import name_of
from vmount.jobs.copying.report import CopyReport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vmount.jobs.copying import CopyOptions
    from vmount.jobs.file_source import FileSource

STANDARD_OUTPUT = "-"
PIECE = 1 << 20


def write_archive(
    disks: FileSource,
    paths: Sequence[str],
    options: CopyOptions,
    report: CopyReport,
    show: Callable[[CopyReport, str], None],
) -> None:
    """Write files and trees to standard output as a tar archive. Raises VmountError, BrokenPipeError."""
    if sys.stdout.isatty():
        raise UsageError("cannot write an archive to a terminal", remedy="redirect it: > FILE.tar")

    def fail(error: OSError) -> None:
        report.problems.append(explain(error))

    archiver = Archiver(disks, sys.stdout.buffer, options.owner, report, show)
    archiver.write_all(
        [(path, name_of(path) or ".", options.selection.below(disks, path, fail)) for path in paths]
    )
    sys.stdout.buffer.flush()


def write_file(disks: FileSource, paths: Sequence[str], report: CopyReport) -> None:
    """Write one file to standard output. Raises UsageError for anything else, OSError."""
    files = [next(disks.below(path, _ignore)) for path in paths[:2]]
    if len(files) > 1 or not stat.S_ISREG(files[0].attrs.mode):
        what = "several files" if len(files) > 1 else f"{paths[0]}: not a regular file"
        raise UsageError(
            f"{what}: only one file can be written to standard output", remedy="use --tar"
        )
    (reader,) = disks.open_files(files)
    if isinstance(reader, OSError):
        raise reader
    try:
        while piece := reader.read(PIECE):
            write_bytes(piece)
            report.bytes += len(piece)
        report.files += 1
    except BrokenPipeError:
        raise
    except OSError as error:
        report.problems.append(explain(error))
    finally:
        reader.close()
    sys.stdout.buffer.flush()


def list_only(
    disks: FileSource,
    paths: Sequence[str],
    options: CopyOptions,
    report: CopyReport,
    *,
    quiet: bool,
) -> None:
    """Write the paths of what would be copied, one a line, and count it."""

    def fail(error: OSError) -> None:
        report.problems.append(explain(error))

    for path in paths:
        try:
            for file in options.selection.below(disks, path, fail):
                if not quiet:
                    write_line(file.path)
                if not stat.S_ISDIR(file.attrs.mode):
                    report.files += 1
                if stat.S_ISREG(file.attrs.mode):
                    report.bytes += file.attrs.size
        except OSError as error:
            fail(error)


def _ignore(_error: OSError) -> None:
    """Take no notice of what is below the one that is wanted."""
