"""A progress bar: rich on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from vmount.commands.console import human_size
from vmount.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

REFRESH = 0.1
"""Seconds between updates on a terminal: work comes by the thousand a second, and each takes rich a while."""
PLAIN_REFRESH = 10.0
"""Seconds between plain lines."""


class ProgressBar(Protocol):
    """Shows how far something is."""

    def show(self, text: str, done: int = 0, total: int | None = None) -> None:
        """Show a text, and how many bytes are done of how many. Cheap: most calls do nothing."""
        ...


@contextmanager
def progress_bar() -> Iterator[ProgressBar]:
    """Show a bar on standard error as long as the context lasts."""
    if not sys.stderr.isatty():
        yield _PlainBar()
        return
    # Only a terminal needs rich, and it takes a while to import.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        BarColumn(20),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        class _RichBar:
            shown = 0.0

            def show(self, text: str, done: int = 0, total: int | None = None) -> None:
                now = time.monotonic()
                if now - self.shown >= REFRESH:
                    self.shown = now
                    progress.update(task, completed=done, total=total, description=printable(text))

        yield _RichBar()


class _PlainBar:
    def __init__(self) -> None:
        self._shown = time.monotonic()

    def show(self, text: str, done: int = 0, total: int | None = None) -> None:
        """Write a line, not more often than now and then."""
        now = time.monotonic()
        if now - self._shown < PLAIN_REFRESH:
            return
        self._shown = now
        share = (
            f"{done * 100 // total} %, {human_size(done)} of {human_size(total)}, " if total else ""
        )
        line = f"vmount: {share}{printable(text)}\n"
        sys.stderr.buffer.write(line.encode("utf-8", "surrogateescape"))
        sys.stderr.flush()
