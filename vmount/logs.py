"""Where log lines go: to stderr, to a file, and for a mount in the background to the system's log."""

from __future__ import annotations

import logging
import logging.handlers
from pathlib import Path

from vmount.errors import printable

FORMAT = "vmount: %(lowerlevel)s: %(message)s"
FILE_FORMAT = "%(asctime)s %(lowerlevel)s %(name)s: %(message)s"
SYSLOG_FORMAT = "vmount[%(process)d]: %(lowerlevel)s: %(message)s"
SYSLOG_SOCKET = Path("/dev/log")
LEVELS = ("error", "warning", "info", "debug")


class Formatter(logging.Formatter):
    """Offers the level in lower case, as other programs write it: %(lowerlevel)s."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        record.lowerlevel = record.levelname.lower()
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's own name)
        """Return the line without a traceback: one line, whatever a guest's names hold."""
        return printable(super().formatMessage(record))


def configure(level: str, log_file: Path | None) -> None:
    """Send log lines of `level` (one of LEVELS) and above to stderr and to the file, if there is one.

    Raises OSError if the file cannot be opened.
    """
    root = logging.getLogger()
    root.setLevel(level.upper())
    handler: logging.Handler = logging.StreamHandler()
    handler.setFormatter(Formatter(FORMAT))
    root.addHandler(handler)
    if log_file is not None:
        handler = logging.FileHandler(log_file, encoding="utf-8", errors="surrogateescape")
        handler.setFormatter(Formatter(FILE_FORMAT))
        root.addHandler(handler)


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
