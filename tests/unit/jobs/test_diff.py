"""What `diff` says of two file sources: every kind of change, and no verdict on what cannot be read."""

from __future__ import annotations

import stat
from collections.abc import Mapping

import pytest

from tests.support.jobs.files_in_memory import TIME, FilesInMemory, Node, directory, link
from vmount.jobs.diff import PIECE, Comparison, Place, compare


def changes(
    before: Mapping[str, Node | bytes],
    after: Mapping[str, Node | bytes],
    *,
    checksum: bool = False,
    path: str = "v",
) -> tuple[list[tuple[str, str]], list[str]]:
    """Return kinds and paths of the changes, and the paths of the errors."""
    errors: list[OSError] = []
    found = compare(
        Place(FilesInMemory(before), path),
        Place(FilesInMemory(after), path),
        Comparison(checksum),
        errors.append,
    )
    return [(change.kind, change.path) for change in found], [str(e.filename) for e in errors]


BASE: dict[str, Node | bytes] = {
    "v/a/one": b"1",
    "v/a/two": b"2",
    "v/link": link("a/one"),
    "v/z": b"",
}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, []),
        ({"v/a/one": b"22"}, [("content", "v/a/one")]),
        ({"v/a/one": Node(b"1", mtime=TIME + 1)}, [("content", "v/a/one")]),
        ({"v/a/one": Node(b"1", mode=stat.S_IFREG | 0o600)}, [("attributes", "v/a/one")]),
        ({"v/a/one": link("two")}, [("type", "v/a/one")]),
        ({"v/link": link("a/two")}, [("content", "v/link")]),
        ({"v/a": directory(mode=0o700)}, [("attributes", "v/a")]),
        ({"v/b/new": b""}, [("added", "v/b"), ("added", "v/b/new")]),
    ],
    ids=str,
)
def test_each_kind_of_change(
    changed: dict[str, Node | bytes], expected: list[tuple[str, str]]
) -> None:
    assert changes(BASE, {**BASE, **changed}) == (expected, [])


def test_removed_directories_are_told_with_all_that_was_in_them() -> None:
    left = {path: node for path, node in BASE.items() if not path.startswith("v/a/")}
    expected = [("removed", "v/a"), ("removed", "v/a/one"), ("removed", "v/a/two")]
    assert changes(BASE, left) == (expected, [])


def test_a_directory_in_place_of_a_file() -> None:
    after = {**BASE, "v/z": directory(), "v/z/in": b""}
    assert changes(BASE, after) == ([("type", "v/z"), ("added", "v/z/in")], [])


def test_the_order_is_that_of_the_names() -> None:
    after = {f"v/{name}": b"x" for name in ("c", "a", "b")}
    assert [path for _, path in changes({"v/d": b""}, after)[0]] == ["v/a", "v/b", "v/c", "v/d"]


@pytest.mark.parametrize("at", [0, PIECE - 1, PIECE, 2 * PIECE])
def test_content_of_one_size_and_time_is_read_if_that_is_asked_for(at: int) -> None:
    content = bytearray(2 * PIECE + 1)
    content[at] = 1
    before: dict[str, Node | bytes] = {"v/f": bytes(len(content))}
    assert changes(before, {"v/f": bytes(content)}) == ([], [])
    assert changes(before, {"v/f": bytes(content)}, checksum=True) == ([("content", "v/f")], [])
    other = Node(bytes(len(content)), mtime=TIME + 1)
    assert changes(before, {"v/f": other}, checksum=True) == ([], [])


def test_what_cannot_be_read_is_neither_equal_nor_different() -> None:
    damaged = {**BASE, "v/a": directory(is_damaged=True)}
    assert changes(BASE, damaged) == ([], ["v/a"])
    half = {"v/f": Node(bytes(100), readable=50)}
    assert changes({"v/f": bytes(100)}, half, checksum=True) == ([], ["v/f"])


def test_a_path_that_neither_has_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        changes(BASE, BASE, path="none")


def test_a_directory_inside_itself_is_listed_once() -> None:
    looped: dict[str, Node | bytes] = {
        "v/d": Node(mode=stat.S_IFDIR | 0o755, number=7),
        "v/d/d": Node(mode=stat.S_IFDIR | 0o755, number=7),
        "v/d/d/file": b"",
    }
    found, errors = changes(looped, looped)
    assert found == []
    assert set(errors) == {"v/d/d"}
