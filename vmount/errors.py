"""Errors for the user: one line with the thing, the reason and the remedy, and an exit code.

Exit codes are part of the contract with scripts; `vmount --help` lists them.
"""

from __future__ import annotations

import enum
import errno
import os
from dataclasses import dataclass
from typing import Any

from vmount.parsers.errors import Corrupt, ParseError, Unsupported

SCHEMA = 1
"""Version of the JSON that commands write, in each object as "schema". It grows when a key goes or changes
its meaning; a new key does not change it. docs/json.md describes the objects."""


class Exit(enum.IntEnum):
    """Exit codes of the command."""

    OK = 0
    FAILED = 1
    """What was asked for could not be done; the message says why."""
    FOUND = 1
    """A scan has found something. A scan ends with 1 for nothing else, whatever it could not read besides."""
    USAGE = 2
    """The command line or the configuration is wrong."""
    SOURCE = 3
    """A source cannot be opened, or something of it could not be read: its server, a disk, a volume, a file. A
    job has done the rest, and its report says what is missing."""
    MOUNT = 4
    """Something is wrong with the mount point, or with FUSE itself."""
    BUSY = 5
    """The mount is in use."""
    SCANNER = 6
    """The scanner cannot be had or has failed, or the report of a scan cannot be written."""
    INTERNAL = 70
    """A bug in vmount (EX_SOFTWARE of sysexits.h)."""
    HANGUP = 129
    """Ended by SIGHUP: 128 and the signal's number, as in shells."""
    INTERRUPTED = 130
    """Ended by SIGINT (Ctrl-C), whatever was done until then."""
    TERMINATED = 143
    """Ended by SIGTERM."""


@dataclass(frozen=True)
class Remedy:
    """What to do about an error, where commands and the Python API need other words."""

    command: str
    """With options and commands to type."""
    api: str = ""
    """For a program that uses the Python API; "": nothing that helps there."""


class VmountError(Exception):
    """An error to be shown to the user.

    `remedy` says what to do about it, if that is known, in words that hold for every program;
    `command_remedy` says it for who uses the commands.
    """

    exit_code = Exit.FAILED

    def __init__(self, message: str, *, remedy: str | Remedy = "") -> None:
        super().__init__(message)
        self.message = message
        worded = remedy if isinstance(remedy, Remedy) else Remedy(remedy, remedy)
        self.remedy = worded.api
        self.command_remedy = worded.command

    def __str__(self) -> str:
        return _with_remedy(self.message, self.remedy)

    def as_command(self) -> str:
        """Return the line that a command says."""
        return _with_remedy(self.message, self.command_remedy)


class UsageError(VmountError):
    """The command line or the configuration is wrong."""

    exit_code = Exit.USAGE


class SourceError(VmountError):
    """A source, disk or volume cannot be opened or read."""

    exit_code = Exit.SOURCE


class MissingSource(SourceError, FileNotFoundError):
    """A source is a file that does not exist."""

    def __init__(self, message: str, path: str) -> None:
        """`message` names the file."""
        super().__init__(message)
        self.errno, self.strerror, self.filename = errno.ENOENT, os.strerror(errno.ENOENT), path


class MountError(VmountError):
    """Something is wrong with the mount point, or with FUSE itself."""

    exit_code = Exit.MOUNT


class BusyError(VmountError):
    """The mount is in use."""

    exit_code = Exit.BUSY


class ScannerError(VmountError):
    """A virus scanner cannot be had or has failed, or a scan's report cannot be written."""

    exit_code = Exit.SCANNER


class InternalError(VmountError):
    """A bug in vmount: an exception that nothing expects."""

    exit_code = Exit.INTERNAL

    def __init__(self, cause: Exception) -> None:
        detail = " ".join(str(cause).split())
        text = f"{type(cause).__name__}: {detail}" if detail else type(cause).__name__
        super().__init__(
            f"internal error ({text})",
            remedy="report this bug, with the output of the same command with --log-level debug",
        )


class ListingError(OSError):
    """A directory that cannot be listed, so that what is below it is missing from a walk."""

    @classmethod
    def of(cls, error: OSError) -> ListingError:
        """Return an error of a directory as a ListingError."""
        text = error.strerror or str(error) or type(error).__name__
        return cls(error.errno or errno.EIO, text, error.filename)


def _with_remedy(message: str, remedy: str) -> str:
    return f"{message}; {remedy}" if remedy else message


def errno_of(error: OSError | ParseError) -> int:
    """Return the errno that a caller sees, in the mount, the API and the commands: the one table."""
    match error:
        case Unsupported():
            return errno.EOPNOTSUPP
        case Corrupt():
            return errno.EUCLEAN
        case OSError():
            return error.errno or errno.EIO
    return errno.EIO


def explain(error: OSError) -> str:
    """Return what an OSError says in one line, without its number."""
    text = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {text}" if error.filename is not None else text


def message_object(level: str, message: str, **more: Any) -> dict[str, Any]:
    """Return what a line on standard error says under --json: level is "error", "warning", "info" or "debug"."""
    return {"schema": SCHEMA, "level": level, "message": message} | more


def printable(text: str, *, keep_bytes: bool = False) -> str:
    """Return text for a terminal, a message or a log: what a guest's name could steer it with is escaped.

    So are bytes that are no UTF-8 (surrogate escapes): as \\x9b, since a terminal may take that byte for the
    start of a command. `keep_bytes` leaves them as they are, for lines that go to a program.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else _escaped(char, keep_bytes=keep_bytes) for char in text
    )


def _escaped(char: str, *, keep_bytes: bool) -> str:
    if "\udc80" <= char <= "\udcff":
        return char if keep_bytes else f"\\x{ord(char) & 0xFF:02x}"
    return char.encode("unicode_escape").decode()
