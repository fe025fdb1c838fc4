"""What `find` yields: by name, kind, size, time and stream; what cannot be listed costs itself only."""

from __future__ import annotations

import stat
from datetime import UTC, datetime

import pytest

from tests.support.jobs.files_in_memory import SECOND, TIME, FilesInMemory, Node, directory, link
from vmount.errors import UsageError
from vmount.jobs.find import STREAMS_TOGETHER, Filter, parse_time

TOP = "volumes/disk0-p1"
FILES = FilesInMemory(
    {
        f"{TOP}/etc/fstab": b"12345",
        f"{TOP}/etc/Passwd": b"",
        f"{TOP}/home/ann/notes.txt": Node(b"x" * 100, mtime=TIME + SECOND, streams={"mark": b"ab"}),
        f"{TOP}/home/ann/link": link("notes.txt"),
        f"{TOP}/lost": directory(is_damaged=True),
        f"{TOP}/record": Node(is_damaged=True),
        f"{TOP}/pipe": Node(mode=stat.S_IFIFO | 0o600),
    }
)


def find(
    wanted: Filter, files: FilesInMemory = FILES, path: str = TOP
) -> tuple[list[str], list[str]]:
    """Return the paths below the volume, and those of the errors."""
    errors: list[OSError] = []
    found = [file.path.removeprefix(f"{TOP}/") for file in wanted.find(files, path, errors.append)]
    return found, [str(error.filename) for error in errors]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Filter("*s*"), ["etc/fstab", "etc/Passwd", "home/ann/notes.txt", "lost"]),
        (Filter("passwd"), []),
        (Filter("passwd", ignore_case=True), ["etc/Passwd"]),
        (Filter("etc/*"), ["etc/fstab", "etc/Passwd"]),
        (Filter("/etc/f*"), ["etc/fstab"]),
        (Filter(kinds=frozenset({stat.S_IFLNK})), ["home/ann/link"]),
        (Filter(kinds=frozenset({stat.S_IFIFO})), ["pipe"]),
        (Filter("*t*", at_least=5, at_most=99, kinds=frozenset({stat.S_IFREG})), ["etc/fstab"]),
        (Filter(newer=TIME + 1), ["home/ann/notes.txt"]),
        (Filter("f*", newer=TIME, older=TIME + 1), ["etc/fstab"]),
        (Filter(streams=True), ["home/ann/notes.txt:mark"]),
        (Filter("*:other", streams=True), []),
    ],
    ids=repr,
)
def test_what_is_found(wanted: Filter, expected: list[str]) -> None:
    found, errors = find(wanted)
    assert found == expected
    assert sorted(errors) == [f"{TOP}/lost", f"{TOP}/record"]


def test_case_is_as_the_guest_has_it() -> None:
    files = FilesInMemory({f"{TOP}/Windows/Notepad.EXE": b""}, ignores_case=True)
    assert find(Filter("*.exe"), files)[0] == ["Windows/Notepad.EXE"]
    assert find(Filter("*.exe", ignore_case=False), files)[0] == []


def test_streams_of_more_files_than_are_asked_for_at_a_time() -> None:
    count = 2 * STREAMS_TOGETHER + 1
    files = FilesInMemory({f"{TOP}/{n}": Node(streams={"s": b"x"}) for n in range(count)})
    assert find(Filter(streams=True), files)[0] == [f"{n}:s" for n in range(count)]


def test_a_path_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        find(Filter(), path="volumes/none")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01 12:30", datetime(2026, 11, 1, 12, 30, tzinfo=UTC)),
        ("2026-11-01T12:30+02:00", datetime(2026, 11, 1, 10, 30, tzinfo=UTC)),
        ("36h", datetime(2026, 11, 22, 12, tzinfo=UTC)),
        ("2W", datetime(2026, 11, 10, tzinfo=UTC)),
    ],
)
def test_dates_and_ages(text: str, expected: datetime) -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    assert parse_time(text, now) == int(expected.timestamp()) * SECOND


@pytest.mark.parametrize("text", ["", "7x", "2026-99-99", "999999w", "yesterday"])
def test_what_is_neither_a_date_nor_an_age(text: str) -> None:
    with pytest.raises(UsageError, match="invalid date or age"):
        parse_time(text, datetime(2026, 11, 24, tzinfo=UTC))
