"""Copying out of a file source: what arrives, what is kept, what is reported, and what is never done."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import pytest

from tests.support.jobs.files_in_memory import SECOND, TIME, FilesInMemory, Node, directory, link
from vmount.jobs.copying.content import PIECE, part_of
from vmount.jobs.copying.copier import BATCH_FILES, Copier
from vmount.jobs.copying.options import CopyOptions
from vmount.jobs.copying.selection import Selection
from vmount.parsers.reader import Span

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vmount.jobs.copying.report import CopyReport


def copy(
    nodes: Mapping[str, Node | bytes] | FilesInMemory,
    target: Path,
    options: CopyOptions | None = None,
    path: str = "v",
) -> CopyReport:
    files = nodes if isinstance(nodes, FilesInMemory) else FilesInMemory(nodes)
    copier = Copier(files, lambda _report, _path: None, options)
    copier.copy(path, target / "copy")
    return copier.report


def contents(top: Path) -> dict[str, bytes]:
    """Return the regular files below a directory."""
    return {
        str(path.relative_to(top)): path.read_bytes()
        for path in top.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_a_tree_with_its_modes_and_times(tmp_path: Path) -> None:
    report = copy(
        {
            "v": directory(mode=0o750),
            "v/a/file": Node(b"content", stat.S_IFREG | 0o640, TIME + 5 * SECOND),
            "v/a/empty": b"",
            "v/link": link("/etc/passwd"),
            "v/pipe": Node(mode=stat.S_IFIFO | 0o600),
            "v/set": Node(b"x", stat.S_IFREG | 0o4755),
        },
        tmp_path,
    )
    top = tmp_path / "copy"
    assert contents(top) == {"a/file": b"content", "a/empty": b"", "set": b"x"}
    status = (top / "a/file").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o640, TIME + 5 * SECOND)
    assert stat.S_IMODE(top.stat().st_mode) == 0o750
    assert (top / "a").stat().st_mtime_ns == TIME
    assert os.readlink(top / "link") == "/etc/passwd"
    assert stat.S_ISFIFO((top / "pipe").lstat().st_mode)
    assert (
        stat.S_IMODE((top / "set").stat().st_mode) == 0o755
    )  # a set-user-ID bit is not given away
    assert (report.files, report.bytes, report.problems) == (5, 8, [])


def test_one_file_to_a_new_name(tmp_path: Path) -> None:
    copy({"v/a": b"abc"}, tmp_path, path="v/a")
    assert (tmp_path / "copy").read_bytes() == b"abc"


def test_hard_links_stay_together_and_are_read_once(tmp_path: Path) -> None:
    linked = Node(b"same", number=7, nlink=2)
    report = copy({"v/one": linked, "v/two": linked}, tmp_path)
    one, two = tmp_path / "copy/one", tmp_path / "copy/two"
    assert one.stat().st_ino == two.stat().st_ino
    assert (report.files, report.bytes) == (2, 4)


def test_holes_stay_holes(tmp_path: Path) -> None:
    size = 8 * PIECE
    content = bytearray(size)
    content[5 * PIECE] = 1
    copy({"v/f": Node(bytes(content), spans=(Span(5 * PIECE, PIECE),))}, tmp_path)
    copied = tmp_path / "copy/f"
    assert copied.read_bytes() == content
    assert copied.stat().st_blocks * 512 <= 2 * PIECE


def test_more_files_than_are_opened_together(tmp_path: Path) -> None:
    nodes = {f"v/{number}": str(number).encode() for number in range(3 * BATCH_FILES + 1)}
    assert copy(nodes, tmp_path).files == len(nodes)
    assert contents(tmp_path / "copy") == {path[2:]: content for path, content in nodes.items()}


def test_what_fails_is_reported_and_the_rest_is_copied(tmp_path: Path) -> None:
    report = copy(
        {
            "v/closed": Node(b"x", readable=-1),
            "v/half": Node(b"x" * 100, readable=50),
            "v/lost": directory(is_damaged=True),
            "v/record": Node(is_damaged=True),
            "v/whole": b"whole",
        },
        tmp_path,
    )
    assert contents(tmp_path / "copy") == {"whole": b"whole"}  # nor a part of the half one
    assert len(report.problems) == 4
    for name in ("closed", "half", "lost", "record"):
        assert any(f"v/{name}" in problem for problem in report.problems), name


def test_a_name_that_a_directory_has_twice_is_copied_once(tmp_path: Path) -> None:
    class Twice(FilesInMemory):
        def _below(self, path: str) -> list[str]:
            return [below for below in super()._below(path) for _ in range(2)]

    report = copy(Twice({"v/f": b"x"}), tmp_path)
    assert contents(tmp_path / "copy") == {"f": b"x"}
    assert any("v/f" in problem and "twice" in problem for problem in report.problems)


def test_no_link_of_the_disk_is_followed_here(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()

    class LinkFirst(FilesInMemory):
        """A name that is a link to a directory of this system, then a directory."""

        def below(self, path, on_error, wanted=None, *, dangling=False):  # type: ignore[no-untyped-def]
            for file in super().below(path, on_error, wanted, dangling=dangling):
                if file.path == "v/d":
                    yield self._ref("v/l")._replace(path="v/d")
                yield file

    files = LinkFirst({"v/l": link(str(outside)), "v/d/file": b"x"})
    report = copy(files, tmp_path)
    assert list(outside.iterdir()) == []
    assert report.problems


def test_extended_attributes_that_are_content(tmp_path: Path) -> None:
    (tmp_path / "probe").touch()
    try:
        os.setxattr(tmp_path / "probe", "user.a", b"1")
    except OSError as error:
        assert error.errno == errno.EOPNOTSUPP
        pytest.skip("this file system has no attributes")
    unreadable = OSError(errno.EIO, "cannot be read")
    report = copy(
        {"v/f": Node(b"x", xattrs={"user.a": b"1", "user.b": unreadable, "security.x": b"2"})},
        tmp_path,
    )
    assert os.listxattr(tmp_path / "copy/f") == ["user.a"]
    assert any("user.b" in line for line in report.lost)
    assert [what for what, _ in report.not_kept] == ["security.x"]


def test_a_copy_that_was_interrupted_is_finished(tmp_path: Path) -> None:
    content = os.urandom(2 * PIECE + 5)
    options = CopyOptions(resume=True, verify=True)
    broken = FilesInMemory({"v/f": Node(content, readable=PIECE), "v/g": b"whole"})
    report = copy(broken, tmp_path, options)
    assert len(report.problems) == 1
    attrs = broken.stat("v/f")
    assert (tmp_path / "copy" / part_of("f", attrs)).stat().st_size >= PIECE
    report = copy({"v/f": content, "v/g": b"whole"}, tmp_path, options)
    assert contents(tmp_path / "copy") == {"f": content, "g": b"whole"}
    assert (report.already_there, report.verified, report.problems) == (1, 2, [])
    assert report.bytes == PIECE + 5


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(include=("*.txt",)), {"a/b/x.txt", "y.txt"}),
        (Selection(exclude=("b",)), {"a/z.log", "y.txt"}),
        (Selection(include=("*.txt",), exclude=("a/b",)), {"y.txt"}),
        (Selection(include=("*.none",)), set()),
    ],
)
def test_what_is_selected(tmp_path: Path, selection: Selection, expected: set[str]) -> None:
    top = "volumes/disk0"
    files = {f"{top}/a/b/x.txt": b"1", f"{top}/a/z.log": b"2", f"{top}/y.txt": b"3"}
    copy(files, tmp_path, CopyOptions(selection=selection), path=top)
    assert set(contents(tmp_path / "copy") if (tmp_path / "copy").exists() else ()) == expected
