"""Tables and sizes as people see them: on terminals of different widths, and in a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
from contextlib import suppress

import pytest

from vmount.commands.console import Column, Row, human_size, print_table

COLUMNS = (
    Column("name"),
    Column("size", right=True),
    Column("label", drop=1),
    Column("uuid", drop=2),
)
ROWS = [
    Row(("scsi0-0-p1", "60.0 MiB", "root", "0a1b2c3d-dead-4000-8000-000000000009")),
    Row(("vg-with-a-long-name-home", "1.5 GiB", "", ""), ["is damaged"]),
]


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1023 * 1024 + 1023, "1.0 MiB"),
        (100 << 30, "100 GiB"),
        (1 << 63, "8.0 EiB"),
        (1 << 80, "1048576 EiB"),
    ],
)
def test_sizes_have_binary_units(size: int, shown: str) -> None:
    assert human_size(size) == shown


def on_terminal(columns: int) -> str:
    """Return what `print_table` prints on a terminal of so many columns."""
    pid, descriptor = pty.fork()
    if pid == 0:
        try:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            with open(1, "w", closefd=False) as sys.stdout:
                print_table(COLUMNS, ROWS, title="Volumes")
        finally:
            os._exit(0)
    shown = b""
    with suppress(OSError):  # EIO: the other side is closed
        while part := os.read(descriptor, 1 << 16):
            shown += part
    os.waitpid(pid, 0)
    os.close(descriptor)
    return shown.decode().replace("\r", "")


def test_a_wide_terminal_shows_all_columns() -> None:
    shown = on_terminal(100)
    assert "uuid" in shown
    assert "0a1b2c3d-dead-4000-8000-000000000009" in shown


def test_a_narrow_terminal_shows_the_important_columns_and_breaks_no_name() -> None:
    lines = on_terminal(80).splitlines()
    assert lines[1].split() == ["name", "size", "label"]
    assert "vg-with-a-long-name-home" in lines[3]
    assert lines[4] == "    is damaged"
    assert on_terminal(40).splitlines()[1].split() == ["name", "size"]


def test_a_terminal_too_narrow_for_a_table_shows_a_block_a_row() -> None:
    lines = on_terminal(30).splitlines()
    assert lines[1:5] == [
        "  scsi0-0-p1",
        "    size   60.0 MiB",
        "    label  root",
        "    uuid   0a1b2c3d-dead-4000-8000-000000000009",
    ]


def test_a_pipe_gets_everything_without_boxes_and_trailing_blanks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(COLUMNS, [Row(("\x1b[31mred", *row.cells[1:]), row.notes) for row in ROWS])
    shown = capsys.readouterr().out
    assert shown.isascii()
    assert "\x1b" not in shown
    assert shown.splitlines()[0].split() == ["name", "size", "label", "uuid"]
    assert all(line == line.rstrip() for line in shown.splitlines())
