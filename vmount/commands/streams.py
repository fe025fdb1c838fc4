"""The standard streams of a command: errors and remarks on one, what was asked for on the other."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from vmount.errors import SourceError, VmountError, explain, message_object, printable

if TYPE_CHECKING:
    import argparse


class Stderr:
    """Standard error. What a command says there is a line of text, or a JSON object a line under --json."""

    def __init__(self) -> None:
        self.as_json = False
        """Set by the command line before anything is said."""

    def say(self, text: str) -> None:
        """Write a line of a command that goes on, after what is on its way to standard output."""
        sys.stdout.flush()
        self._write(text, message_object("warning", text))

    def fail(self, error: VmountError, *, prog: str = "vmount") -> None:
        """Write the error that ends a command."""
        fields = message_object(
            "error", error.message, remedy=error.command_remedy, exit_code=int(error.exit_code)
        )
        self._write(error.as_command(), fields, prog)

    def _write(self, text: str, fields: dict[str, Any], prog: str = "vmount") -> None:
        line = json.dumps(fields) if self.as_json else f"{prog}: {printable(text)}"
        sys.stderr.flush()
        # Not through sys.stderr: what cannot be written there, it keeps and tries again at the end.
        with suppress(OSError):
            os.write(2, f"{line}\n".encode("utf-8", "surrogateescape"))


STDERR = Stderr()


class OutputError(VmountError):
    """Standard output takes no more."""


def write_bytes(data: bytes) -> None:
    """Write to standard output. Raises OutputError; BrokenPipeError if its reader has gone."""
    try:
        sys.stdout.buffer.write(data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output: {explain(error)}") from error


def reads_source(
    run: Callable[[argparse.Namespace], int],
) -> Callable[[argparse.Namespace], int]:
    """Make a SourceError of each OSError of a command that reads a source and writes to standard output.

    What cannot be read has one exit code then, whichever command finds it out.
    """

    @functools.wraps(run)
    def wrapped(arguments: argparse.Namespace) -> int:
        try:
            return run(arguments)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise SourceError(explain(error)) from error

    return wrapped
