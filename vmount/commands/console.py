"""What commands print for people: sizes, and tables that fit a terminal and a pipe."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len

from vmount.errors import printable

GAP = "  "
"""Between two columns."""
UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def human_size(size: int) -> str:
    """Return a number of bytes with a binary unit: "0 B", "1.5 GiB". All commands show sizes so."""
    value = float(size)
    for unit in UNITS:
        if value < 1023.5 or unit == UNITS[-1]:
            break
        value /= 1024
    return f"{value:.1f} {unit}" if unit != "B" and value < 99.95 else f"{value:.0f} {unit}"


class Column(NamedTuple):
    """A column of a table."""

    title: str
    right: bool = False
    """Align to the right."""
    drop: int = 0
    """Where the table is wider than the terminal, the column with the highest number goes first; 0: never."""


class Row(NamedTuple):
    """A row, and the lines that belong to it and are too long for a column."""

    cells: Sequence[str]
    notes: Sequence[str] = ()


def print_table(columns: Sequence[Column], rows: Sequence[Row], *, title: str = "") -> None:
    """Print a table to standard output. A cell is never broken and never cut.

    On a terminal that is too narrow, columns are left out; where that does not help, each row becomes a
    block of lines. Elsewhere the width is not limited.
    """
    width = terminal_width()
    rows = [Row([printable(cell) for cell in row.cells], row.notes) for row in rows]
    filled = [
        index for index in range(len(columns)) if any(row.cells[index] for row in rows) or not rows
    ]
    shown = list(filled)
    if title:
        print(title)
    indent = GAP if title else ""
    while width is not None and _width(columns, rows, shown) + len(indent) > width:
        droppable = [index for index in shown if columns[index].drop]
        if not droppable:
            print_blocks([column.title for column in columns], rows)
            return
        shown.remove(max(droppable, key=lambda index: columns[index].drop))
    widths = {index: _column_width(columns, rows, index) for index in shown}
    titles = [column.title for column in columns]
    for cells, notes in [Row(titles), *rows]:
        padded = [_padded(cells[index], widths[index], columns[index].right) for index in shown]
        print(f"{indent}{GAP.join(padded)}".rstrip())
        _print_notes(notes, f"{indent}{GAP}")


def print_blocks(titles: Sequence[str], rows: Sequence[Row]) -> None:
    """Print each row as a block: the first cell, and a line for each other cell that is not empty."""
    longest = max(map(len, titles))
    for cells, notes in rows:
        print(f"{GAP}{printable(cells[0])}")
        for title, cell in zip(titles[1:], cells[1:], strict=True):
            if cell:
                print(f"{GAP}{GAP}{title:<{longest}}{GAP}{printable(cell)}")
        _print_notes(notes, GAP + GAP)


def _print_notes(notes: Sequence[str], indent: str) -> None:
    for note in notes:
        print_wrapped(note, indent)


def print_wrapped(text: str, indent: str = "") -> None:
    """Print a sentence to standard output; on a terminal it is wrapped between words."""
    width = terminal_width()
    text = printable(text)
    if width is None or len(indent) + cell_len(text) <= width:
        print(f"{indent}{text}")
        return
    lines = textwrap.wrap(
        text,
        max(width - len(indent), 20),
        subsequent_indent=GAP,
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in lines:
        print(f"{indent}{line}")


def terminal_width() -> int | None:
    """Return the columns of the terminal that standard output is, None if it is none."""
    if not sys.stdout.isatty():
        return None
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError):
        return None


def _column_width(columns: Sequence[Column], rows: Sequence[Row], index: int) -> int:
    cells = [row.cells[index] for row in rows]
    return max(map(cell_len, [columns[index].title, *cells]))


def _width(columns: Sequence[Column], rows: Sequence[Row], shown: Sequence[int]) -> int:
    gaps = len(GAP) * (len(shown) - 1)
    return gaps + sum(_column_width(columns, rows, index) for index in shown)


def _padded(text: str, width: int, right: bool) -> str:
    blanks = " " * (width - cell_len(text))
    return blanks + text if right else text + blanks
