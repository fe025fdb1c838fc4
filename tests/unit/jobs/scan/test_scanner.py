"""A scan of a file source: each content once, in the order of the disk, and never a false "clean"."""

from __future__ import annotations

import stat
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path

import pytest

from tests.support.jobs.files_in_memory import TIME, FilesInMemory, Node, directory, link
from vmount.api import FileRef
from vmount.errors import ScannerError
from vmount.jobs.scan.engine import Verdict
from vmount.jobs.scan.feeder import PIECE
from vmount.jobs.scan.files_to_scan import Selection
from vmount.jobs.scan.report import ScanReport, Seen
from vmount.jobs.scan.scanner import Scan, ScanOptions
from vmount.parsers.reader import Span
from vmount.volumes.unread import DISK, Unread

BAD = b"malware"
TOP = "volumes/disk0"


class Searching:
    """An Engine that finds BAD."""

    connections = 2
    is_limit_known = True
    advice = "raise its limit"

    def __init__(self, largest: int | None = None, fails_after: int | None = None) -> None:
        self.largest = largest
        self.scanned: list[bytes] = []
        self._fails_after = fails_after

    def version(self) -> str:
        return "searching 1"

    def scan(self, pieces: Iterable[bytes]) -> Verdict:
        content = b"".join(pieces)
        if self._fails_after is not None and len(self.scanned) >= self._fails_after:
            raise ScannerError("the scanner has gone")
        self.scanned.append(content)
        return Verdict("Test.Bad" if BAD in content else None)

    def scan_open(self, descriptor: int) -> Verdict:
        raise AssertionError("files in memory have no descriptor")


def scan(
    files: FilesInMemory,
    engine: Searching | None = None,
    options: ScanOptions | None = None,
    clean: dict[str, Seen] | None = None,
) -> ScanReport:
    engine = engine or Searching()
    return Scan(files, ["source"], engine, lambda _: None, options).run([TOP], clean or {})


def names(paths: Iterable[str]) -> list[str]:
    return sorted(path.removeprefix(f"{TOP}/") for path in paths)


def test_what_is_found_and_what_is_clean() -> None:
    report = scan(
        FilesInMemory(
            {
                f"{TOP}/bad": b"x" * PIECE + BAD,
                f"{TOP}/good": b"good",
                f"{TOP}/empty": b"",
                f"{TOP}/link": link("bad"),
                f"{TOP}/pipe": Node(mode=stat.S_IFIFO),
            }
        )
    )
    assert report.found == [(f"{TOP}/bad", "Test.Bad")]
    assert names(report.clean) == ["empty", "good"]
    assert (report.scanned, report.not_scanned) == (3, [])


def test_what_cannot_be_read_is_not_clean() -> None:
    report = scan(
        FilesInMemory(
            {
                f"{TOP}/closed": Node(b"x", readable=-1),
                f"{TOP}/half": Node(b"x" * 10, readable=5),
                f"{TOP}/lost": directory(is_damaged=True),
                f"{TOP}/record": Node(is_damaged=True),
                f"{TOP}/good": b"good",
            },
            [Unread(DISK, "disks/disk1.raw", "is encrypted")],
        )
    )
    assert names(report.clean) == ["good"]
    told = names(item.path for item in report.not_scanned)
    assert told == ["closed", "half", "lost", "record"]


def test_a_disk_that_cannot_be_read_is_not_scanned() -> None:
    files = FilesInMemory({f"{TOP}/f": b""}, [Unread(DISK, "disks/disk1.raw", "is encrypted")])
    report = Scan(files, ["source"], Searching(), lambda _: None).run([TOP], {}, ["volumes"])
    assert [item.path for item in report.not_scanned] == ["disks/disk1.raw"]


def test_a_path_that_does_not_exist_is_not_scanned() -> None:
    report = Scan(FilesInMemory({}), ["source"], Searching(), lambda _: None).run(["none"], {})
    assert [item.path for item in report.not_scanned] == ["none"]


def test_a_content_with_several_names_is_scanned_once() -> None:
    linked = Node(BAD, number=7, nlink=2)
    shared = Node(b"shared", places=(Span(4096, 6),))
    engine = Searching()
    files = {f"{TOP}/{name}": linked for name in "ab"} | {f"{TOP}/{name}": shared for name in "cd"}
    report = scan(FilesInMemory(files), engine)
    assert sorted(engine.scanned) == [BAD, b"shared"]
    assert names(path for path, _ in report.found) == ["a", "b"]
    assert names(report.clean) == ["c", "d"]
    assert report.same_content == 2


def test_files_are_read_in_the_order_of_the_disk() -> None:
    files = FilesInMemory(
        {
            f"{TOP}/a": Node(b"a", places=(Span(9000, 1),)),
            f"{TOP}/b": Node(b"b", places=(Span(1000, 1),)),
            f"{TOP}/c": Node(b"c", places=(Span(5000, 1),)),
        }
    )
    scan(files)
    assert [path[-1] for path in files.opened] == ["b", "c", "a"]


def test_block_files_are_left_out() -> None:
    files = FilesInMemory({"disks/disk0.raw": BAD, f"{TOP}/f": b"x"})
    report = Scan(files, ["source"], Searching(), lambda _: None).run(["disks", TOP], {})
    assert (report.found, report.scanned) == ([], 1)


def test_streams_are_scanned_and_make_their_file_unclean() -> None:
    carrier = Node(mode=stat.S_IFDIR | 0o755, streams={"s": BAD})
    report = scan(
        FilesInMemory(
            {f"{TOP}/file": Node(b"x", streams={"s": BAD, "t": b""}), f"{TOP}/dir": carrier}
        )
    )
    assert names(path for path, _ in report.found) == ["dir:s", "file:s"]
    assert names(report.clean) == ["file:t"]


@pytest.mark.parametrize(
    ("engine", "options", "reason"),
    [
        (Searching(largest=50), ScanOptions(), "larger than the limit of the scanner"),
        (Searching(), ScanOptions(max_size=50), "larger than --max-size"),
    ],
)
def test_files_that_are_too_large_are_not_scanned(
    engine: Searching, options: ScanOptions, reason: str
) -> None:
    files = FilesInMemory({f"{TOP}/large": bytes(51), f"{TOP}/small": bytes(50)})
    report = scan(files, engine, options)
    (item,) = report.not_scanned
    assert (item.path, reason in item.reason) == (f"{TOP}/large", True)
    assert files.opened == [f"{TOP}/small"]


def test_what_was_clean_and_is_unchanged_is_not_read_again() -> None:
    files = {f"{TOP}/a": Node(b"a"), f"{TOP}/b": Node(b"b")}
    clean = scan(FilesInMemory(files)).clean
    changed = FilesInMemory(files | {f"{TOP}/b": Node(BAD, mtime=TIME + 1)})
    report = scan(changed, clean=clean)
    assert changed.opened == [f"{TOP}/b"]
    assert (report.unchanged, names(path for path, _ in report.found)) == (1, ["b"])
    assert names(report.clean) == ["a"]


def test_what_the_user_excludes() -> None:
    files = {f"{TOP}/Cache/x": BAD, f"{TOP}/keep": b"x"}
    options = ScanOptions(Selection(("cache",)))
    assert scan(FilesInMemory(files), options=options).excluded == 0
    report = scan(FilesInMemory(files, ignores_case=True), options=options)
    assert (report.excluded, report.found, report.scanned) == (1, [], 1)


def test_a_scanner_that_fails_ends_the_scan() -> None:
    files = FilesInMemory({f"{TOP}/{number}": bytes(PIECE) for number in range(20)})
    with pytest.raises(ScannerError, match="gone"):
        scan(files, Searching(fails_after=3))


class ByPath:
    """A PathEngine that calls everything clean."""

    largest = None
    is_limit_known = True
    advice = ""

    def version(self) -> str:
        return "by path 1"

    def close(self) -> None:
        """Do nothing: no program runs."""

    def scan_paths(self, paths: Sequence[str]) -> Generator[tuple[str, Verdict], None, None]:
        for path in paths:
            yield path, Verdict(None)


def test_a_program_that_calls_clean_what_it_did_not_read_whole(tmp_path: Path) -> None:
    for name, content in (("whole", b"12345"), ("short", b"123")):
        (tmp_path / name).write_bytes(content)

    def place_of(file: FileRef) -> str:
        place = tmp_path / file.path.rpartition("/")[2]
        place.lstat()
        return str(place)

    files = {f"{TOP}/{name}": b"12345" for name in ("whole", "short", "gone")}
    files_in_memory = FilesInMemory(files)
    report = Scan(files_in_memory, ["source"], ByPath(), lambda _: None, None, place_of).run(
        [TOP], {}
    )
    assert names(report.clean) == ["whole"]
    assert names(item.path for item in report.not_scanned) == ["gone", "short"]
