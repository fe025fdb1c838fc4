"""Where log lines go: to stderr (the journal, under systemd), to a file, and for a mount in the background to the system's log."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.errors import message_object, printable

if TYPE_CHECKING:
    from types import TracebackType

FORMAT = "vmount: %(lowerlevel)s: %(message)s"
JOURNAL_FORMAT = "<%(priority)d>%(message)s"
"""As sd-daemon(3) has it: the journal takes the rest from its knowledge of the process."""
FILE_FORMAT = "%(asctime)s %(lowerlevel)s %(name)s: %(message)s"
SYSLOG_FORMAT = "vmount[%(process)d]: %(lowerlevel)s: %(message)s"
SYSLOG_SOCKET = Path("/dev/log")
PRIORITIES = {"CRITICAL": 2, "ERROR": 3, "WARNING": 4, "INFO": 6, "DEBUG": 7}
LEVELS = ("error", "warning", "info", "debug")


class Formatter(logging.Formatter):
    """Offers the level in lower case, as other programs write it (%(lowerlevel)s), and as the journal's
    number (%(priority)d)."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        record.lowerlevel = record.levelname.lower()
        record.priority = PRIORITIES.get(record.levelname, 6)
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's own name)
        """Return the line without a traceback: one line, whatever a guest's names hold."""
        return printable(super().formatMessage(record))

    def formatException(  # noqa: N802 (logging's own name)
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        """Return a traceback: an exception's text may have a guest's name in it."""
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


class JsonFormatter(Formatter):
    """Writes a line as the JSON object that `vmount.errors.message_object` describes."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's own name)
        """Return the line."""
        return json.dumps(message_object(record.levelname.lower(), record.message))


def configure(level: str, log_file: Path | None, *, as_json: bool = False) -> None:
    """Send log lines of `level` (one of LEVELS) and above to stderr and to the file, if there is one.

    `as_json` makes a JSON object of each line to stderr, unless that is the journal. A line that cannot be written is lost without a
    word. Raises OSError if the file cannot be opened.
    """
    # A handler that cannot write would print a traceback for each line: on a full disk, into a closed pipe.
    logging.raiseExceptions = False
    root = logging.getLogger()
    root.setLevel(level.upper())
    handler: logging.Handler = logging.StreamHandler()
    if _is_journal(2):
        handler.setFormatter(Formatter(JOURNAL_FORMAT))
    else:
        handler.setFormatter(JsonFormatter() if as_json else Formatter(FORMAT))
    root.addHandler(handler)
    if log_file is not None:
        is_new = not log_file.exists()
        handler = logging.FileHandler(log_file, encoding="utf-8", errors="surrogateescape")
        if is_new:
            # Names of a guest's files are nobody else's business.
            log_file.chmod(0o600)
        handler.setFormatter(Formatter(FILE_FORMAT))
        root.addHandler(handler)


def _is_journal(descriptor: int) -> bool:
    """Say whether a stream goes to the journal: systemd.exec(5), JOURNAL_STREAM."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def leave_terminal() -> None:
    """Stop writing to stderr; without a log file, write to the system's log if there is one."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
    if not root.handlers and SYSLOG_SOCKET.exists():
        handler = logging.handlers.SysLogHandler(str(SYSLOG_SOCKET))
        handler.setFormatter(Formatter(SYSLOG_FORMAT))
        root.addHandler(handler)
    if not root.handlers:
        root.addHandler(logging.NullHandler())
