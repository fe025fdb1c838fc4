"""What every FileSource does. A test module inherits FileSourceContract and gives two fixtures."""

from __future__ import annotations

import stat
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from vmount.api import FileRef
    from vmount.jobs.file_source import FileSource
    from vmount.parsers.model import Attrs

FILES = {
    "a/file": b"content",
    "a/b/deep": bytes(range(256)) * 500,
    "a/empty": b"",
    "top": b"x",
}
"""What the source has below `top`."""
LINK = ("a/link", "file")
HARD_LINK = ("a/second", "a/file")


def fail(error: OSError) -> None:
    raise error


def below(files: FileSource, top: str) -> dict[str, FileRef]:
    """Return what is below a directory by path."""
    found = list(files.below(top, fail))
    assert found[0].path == top
    refs = {file.path.removeprefix(f"{top}/"): file for file in found[1:]}
    assert len(refs) == len(found) - 1
    return refs


def untouched(attrs: Attrs) -> Attrs:
    """Return attributes without the time of the last access, which reading changes."""
    return attrs._replace(atime=0)


class FileSourceContract:
    """Fixtures wanted: `files`, and `top`, the path of the directory that holds FILES and the links."""

    def test_everything_below_a_directory(self, files: FileSource, top: str) -> None:
        found = below(files, top)
        expected = {*FILES, LINK[0], HARD_LINK[0], "a", "a/b"}
        assert set(found) - {"lost+found"} == expected
        order = list(found)
        assert all(
            order.index(path.rpartition("/")[0]) < order.index(path)
            for path in order
            if "/" in path
        )

    def test_what_is_not_wanted_is_left_out_with_all_below(
        self, files: FileSource, top: str
    ) -> None:
        found = files.below(top, fail, lambda file: not file.path.endswith("/b"))
        assert not [file for file in found if "/b" in file.path.removeprefix(top)]

    def test_attributes_agree(self, files: FileSource, top: str) -> None:
        for path, file in below(files, top).items():
            assert untouched(files.stat(file.path, follow=False)) == untouched(file.attrs), path
            assert files.number(file.path) == file.number, path
        for path, content in FILES.items():
            attrs = files.stat(f"{top}/{path}")
            assert stat.S_ISREG(attrs.mode)
            assert attrs.size == len(content)

    def test_listings_agree_with_stat(self, files: FileSource, top: str) -> None:
        entries = {entry.name: entry.attrs for entry in files.listdir(f"{top}/a")}
        assert set(entries) == {"file", "b", "empty", "link", "second"}
        for name, attrs in entries.items():
            assert attrs is not None
            assert untouched(attrs) == untouched(files.stat(f"{top}/a/{name}", follow=False))

    def test_links(self, files: FileSource, top: str) -> None:
        path, target = LINK
        assert files.readlink(f"{top}/{path}") == target
        assert stat.S_ISLNK(files.stat(f"{top}/{path}", follow=False).mode)
        with pytest.raises(OSError, match=r"."):
            files.readlink(f"{top}/top")

    def test_hard_links_have_one_number(self, files: FileSource, top: str) -> None:
        found = below(files, top)
        assert found[HARD_LINK[0]].number == found[HARD_LINK[1]].number
        assert found[HARD_LINK[0]].attrs.nlink == 2
        assert found["top"].number != found[HARD_LINK[1]].number

    def test_contents(self, files: FileSource, top: str) -> None:
        refs = [file for path, file in below(files, top).items() if path in FILES]
        together = files.soon(lambda: files.open_files(refs))()
        for file, opened in zip(refs, together, strict=True):
            assert not isinstance(opened, OSError)
            content = FILES[file.path.removeprefix(f"{top}/")]
            with closing(opened), closing(files.open(file.path)) as alone:
                for reader in (opened, alone):
                    assert b"".join(iter(lambda: reader.read(1000) or b"", b"")) == content  # noqa: B023
                    assert reader.seek(3) == 3
                    assert reader.read(2) == content[3:5]
                spans = opened.spans()
            assert sum(span.length for span in spans) <= len(content)
            assert all(span.offset + span.length <= len(content) for span in spans)

    def test_many_files_at_once_answer_in_their_order(self, files: FileSource, top: str) -> None:
        refs = list(below(files, top).values())
        assert len(files.xattrs_of(refs)) == len(refs)
        assert len(files.places(refs)) == len(refs)
        for spans in files.places(refs):
            assert all(span.offset >= 0 and span.length > 0 for span in spans)
        assert list(files.streams(refs, fail)) == []  # none of these has any

    def test_what_does_not_exist(self, files: FileSource, top: str) -> None:
        missing = f"{top}/none"
        for call in (
            files.stat,
            files.number,
            files.listdir,
            files.readlink,
            files.open,
            files.expand,
        ):
            with pytest.raises(FileNotFoundError):
                call(missing)
        with pytest.raises(FileNotFoundError):
            next(files.below(missing, fail))

    def test_a_file_is_no_directory_and_a_directory_no_file(
        self, files: FileSource, top: str
    ) -> None:
        with pytest.raises(NotADirectoryError):
            files.listdir(f"{top}/top")
        with pytest.raises(IsADirectoryError):
            files.open(f"{top}/a")

    def test_paths_of_the_user(self, files: FileSource, top: str) -> None:
        assert [path.strip("/") for path in files.expand(f"{top}/to*")] == [f"{top}/top"]
        file = below(files, top)["top"]
        assert files.is_on_volume(file)
        assert files.ignores_case(file) is False
