"""Whole volumes against what ntfs-3g's own mount of them shows."""

from __future__ import annotations

import re
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from fixtures.ntfs import LONE_SURROGATES, NOON_1923, build_fragmented_mft
from tests.support.parsers.ntfs.reading import FileReader, entry_of, read_range, sha256, tree
from vmount.parsers.errors import Corrupt, ParseError, Unsupported
from vmount.parsers.model import FileData, Packed, Runs
from vmount.parsers.ntfs import NtfsOptions, open_ntfs
from vmount.parsers.ntfs.boot import decode_boot
from vmount.parsers.ntfs.file_attrs import file_attrs, quick_attrs
from vmount.parsers.ntfs.mft import open_mft
from vmount.parsers.reader import BytesReader, run_sync

if TYPE_CHECKING:
    from pathlib import Path

    from fixtures.ntfs import NtfsVolume
    from fixtures.walk import WalkEntry
    from vmount.parsers.model import Attrs, Filesystem
    from vmount.parsers.ntfs import NtfsFilesystem

TIMES = {b"times/1923": NOON_1923, b"times/1969": -100}
"""What was set. ntfs-3g rounds times before 1970 to the next second."""

DOS_NAMED = b"names/A long name with a short one.txt"


def ntfsinfo(volume: NtfsVolume, *arguments: str) -> str:
    command = ["ntfsinfo", "-f", *arguments, str(volume.image)]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


def path_attrs(filesystem: NtfsFilesystem, path: bytes) -> Attrs:
    attrs = run_sync(filesystem.attrs(filesystem.root))
    for name in path.split(b"/"):
        found = run_sync(filesystem.lookup(attrs.ino, name))
        assert found is not None, path
        attrs = found
    return attrs


def adjusted(entry: WalkEntry) -> WalkEntry:
    """Return what ntfs-3g shows but for what we show otherwise, on purpose."""
    if entry.path in TIMES:
        entry = entry._replace(mtime_ns=TIMES[entry.path])
    if entry.path == DOS_NAMED:
        # ntfs-3g counts the DOS name, which nobody can see, as a link.
        assert entry.nlink == 2
        entry = entry._replace(nlink=1)
    if entry.path.startswith(b"wsl/") and entry.type != "link":
        # ntfs-3g gives these no permissions at all.
        assert entry.mode == 0
        entry = entry._replace(mode=0o644)
    return entry


def by_tag(path: bytes) -> bool:
    """Tell whether a file has a reparse point that ntfs-3g shows in a way of its own."""
    return path.startswith((b"links/win ", b"links/junction ", b"links/reparse "))


@pytest.mark.requirement("R37")
def test_everything_is_as_ntfs3g_shows_it(volume: NtfsVolume, reader: FileReader) -> None:
    async def compare() -> None:
        filesystem = await open_ntfs(reader)
        expected = {entry.path: entry for entry in volume.walk}
        async for path, attrs in tree(filesystem):
            theirs = expected.pop(path)
            ours = await entry_of(reader, filesystem, path, attrs, content=not by_tag(path))
            if not by_tag(path):
                assert ours == adjusted(theirs)
                assert attrs.allocated == volume.allocated[path], path
            assert ours.mtime_ns == adjusted(theirs).mtime_ns
        assert not expected

    run_sync(compare())


@pytest.mark.slow
def test_twenty_thousand_files(large: NtfsVolume) -> None:
    reader = FileReader(large.image)

    async def compare() -> int:
        filesystem = await open_ntfs(reader)
        expected = {entry.path: entry for entry in large.walk}
        async for path, attrs in tree(filesystem):
            ours = await entry_of(reader, filesystem, path, attrs, content=False)
            assert ours == expected.pop(path)._replace(sha256=None)
        assert not expected
        return reader.reads

    # 113 directories, and 21 MiB of MFT records that ntfs-3g strews: far fewer than files.
    assert run_sync(compare()) < 1000
    reader.close()


def test_lookup_finds_what_listing_shows(volume: NtfsVolume, reader: FileReader) -> None:
    async def compare() -> None:
        filesystem = await open_ntfs(reader)
        todo = [filesystem.root]
        while todo:
            parent = todo.pop()
            for entry in await filesystem.listdir(parent):
                assert await filesystem.lookup(parent, entry.name) == entry.attrs, entry.name
                assert await filesystem.lookup(parent, entry.name + b"#") is None
                assert entry.attrs == await filesystem.attrs(entry.ino)
                if entry.kind == stat.S_IFDIR:
                    todo.append(entry.ino)

    run_sync(compare())


def test_case(small_reader: FileReader) -> None:
    filesystem = run_sync(open_ntfs(small_reader))
    names = path_attrs(filesystem, b"names").ino
    inos = {run_sync(filesystem.lookup(names, name)).ino for name in (b"Case", b"case", b"CASE")}  # type: ignore[union-attr]
    assert len(inos) == 3
    assert run_sync(filesystem.lookup(names, b"cASE")) is None
    ignoring = run_sync(open_ntfs(small_reader, NtfsOptions(ignore_case=True)))
    found = run_sync(ignoring.lookup(names, b"cASE"))
    assert found is not None
    assert found.ino in inos
    assert not ignoring.info.case_sensitive
    upper = run_sync(ignoring.lookup(names, "ÜNÏCÖDÉ".encode()))
    assert upper == path_attrs(filesystem, "names/ünïcödé".encode())


@pytest.mark.requirement("R17")
def test_lone_surrogates(small_reader: FileReader) -> None:
    filesystem = run_sync(open_ntfs(small_reader))
    for name in LONE_SURROGATES:
        data = run_sync(filesystem.data(path_attrs(filesystem, b"names/" + name).ino))
        assert run_sync(read_range(small_reader, data, 0, 100)) == name


def test_dos_names_are_not_listed_but_found(small_reader: FileReader) -> None:
    filesystem = run_sync(open_ntfs(small_reader))
    names = path_attrs(filesystem, b"names").ino
    assert b"ALONGN~1.TXT" not in [e.name for e in run_sync(filesystem.listdir(names))]
    assert run_sync(filesystem.lookup(names, b"ALONGN~1.TXT")) == path_attrs(filesystem, DOS_NAMED)


def test_system_files(small_reader: FileReader) -> None:
    hidden = run_sync(open_ntfs(small_reader))
    shown = run_sync(open_ntfs(small_reader, NtfsOptions(show_system=True)))
    extra = {e.name for e in run_sync(shown.listdir(5))} - {
        e.name for e in run_sync(hidden.listdir(5))
    }
    assert {b"$MFT", b"$MFTMirr", b"$LogFile", b"$Volume", b"$Bitmap", b"$Boot"} <= extra
    assert all(name.startswith(b"$") for name in extra)
    assert run_sync(hidden.lookup(5, b"$MFT")) is None
    attrs = run_sync(shown.lookup(5, b"$MFT"))
    assert attrs is not None
    assert attrs.ino == 0


def test_streams_and_xattrs(volume: NtfsVolume, reader: FileReader) -> None:
    filesystem = run_sync(open_ntfs(reader))
    for path, expected in volume.streams.items():
        ino = path_attrs(filesystem, path).ino
        found = {}
        for name, attr in run_sync(filesystem.xattrs(ino)).items():
            value = attr.value
            if isinstance(value, FileData):
                value = run_sync(read_range(reader, value, 0, value.size))
            assert isinstance(value, bytes)
            # The fixture keeps values as text in Latin-1 that was encoded once more.
            found[name] = value.decode("latin-1").encode()
        assert found == expected
        for name, size in run_sync(filesystem.streams(ino)):
            data = run_sync(filesystem.data(ino, name))
            assert data.size == size
        with pytest.raises(FileNotFoundError):
            run_sync(filesystem.data(ino, b"no such stream"))


def test_links_of_windows(small_reader: FileReader) -> None:
    filesystem = run_sync(open_ntfs(small_reader))
    expected = {
        b"win relative": (b"../a/b", True, None, None),
        b"win absolute": (b"C:/Users/x", False, "C", None),
        b"win root": (b"/a/b", False, None, None),
        b"junction drive": (b"D:/data", False, "D", None),
        b"junction volume": (
            b"Volume{01234567-89ab-cdef-0123-456789abcdef}/",
            False,
            None,
            "01234567-89ab-cdef-0123-456789abcdef",
        ),
    }
    for name, (target, relative, drive, guid) in expected.items():
        attrs = path_attrs(filesystem, b"links/" + name)
        assert stat.S_ISLNK(attrs.mode)
        assert attrs.size == len(target)
        assert run_sync(filesystem.readlink(attrs.ino)) == target
        link = run_sync(filesystem.reparse_link(attrs.ino))
        assert link is not None
        assert (link.relative, link.drive, link.volume) == (relative, drive, guid)
        with pytest.raises(OSError, match="Invalid argument"):
            run_sync(filesystem.data(attrs.ino))
    plain = path_attrs(filesystem, b"links/target").ino
    assert run_sync(filesystem.reparse_link(plain)) is None
    with pytest.raises(OSError, match="Invalid argument"):
        run_sync(filesystem.readlink(plain))


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        (b"dedup", "data deduplication"),
        (b"unknown", "reparse tag 0x80007777"),
    ],
)
def test_content_kept_elsewhere_is_refused_by_name(
    small_reader: FileReader, name: bytes, feature: str
) -> None:
    filesystem = run_sync(open_ntfs(small_reader))
    attrs = path_attrs(filesystem, b"links/reparse " + name)
    assert stat.S_ISREG(attrs.mode)
    with pytest.raises(Unsupported) as caught:
        run_sync(filesystem.data(attrs.ino))
    assert feature in caught.value.feature


def test_wof_without_its_stream_is_damaged(small_reader: FileReader) -> None:
    filesystem = run_sync(open_ntfs(small_reader))
    with pytest.raises(Corrupt, match="WofCompressedData"):
        run_sync(filesystem.data(path_attrs(filesystem, b"links/reparse wof").ino))


def test_compressed_files_as_ntfscat_reads_them(
    small: NtfsVolume, small_reader: FileReader
) -> None:
    filesystem = run_sync(open_ntfs(small_reader))
    for name in ("mixed", "holes", "text 65537", "random 65537", "text 400000"):
        command = ["ntfscat", "-f", str(small.image), f"compressed/{name}"]
        expected = subprocess.run(command, capture_output=True, check=True).stdout
        data = run_sync(filesystem.data(path_attrs(filesystem, b"compressed/" + name.encode()).ino))
        assert isinstance(data.layout, Packed)
        assert run_sync(read_range(small_reader, data, 0, data.size)) == expected


@pytest.mark.requirement("R37")
def test_ends_of_a_huge_file(small_reader: FileReader) -> None:
    filesystem = run_sync(open_ntfs(small_reader))
    data = run_sync(filesystem.data(path_attrs(filesystem, b"sparse/1 TiB").ino))
    assert data.size == 1 << 40
    assert run_sync(read_range(small_reader, data, (500 << 30) - 2, 10)) == b"\0\0middle\0\0"
    assert run_sync(read_range(small_reader, data, (1 << 40) - 6, 100)) == b"\0\0tail"


def test_many_runs(small: NtfsVolume, small_reader: FileReader) -> None:
    report = ntfsinfo(small, "-F", "sparse/6000 pieces")
    (listed,) = re.findall(r"ATTRIBUTE_LIST.*\n\s+Resident:\s+(\w+)", report)
    assert listed == "No"
    filesystem = run_sync(open_ntfs(small_reader))
    data = run_sync(filesystem.data(path_attrs(filesystem, b"sparse/6000 pieces").ino))
    assert isinstance(data.layout, Runs)
    assert len(data.layout.runs) > 6000


def test_the_fragmented_mft_has_an_attribute_list(folder: Path) -> None:
    assert "ATTRIBUTE_LIST" in ntfsinfo(build_fragmented_mft(folder), "-i", "0")


def test_a_quick_look_sees_what_a_close_one_does(volume: NtfsVolume, reader: FileReader) -> None:
    async def compare() -> int:
        boot = decode_boot(reader.try_read(0, 512))
        mft = await open_mft(reader, boot, boot.mft_offset)
        seen = 0
        for record in (await mft.records(range(mft.count))).values():
            if isinstance(record, ParseError) or not record.in_use or record.base:
                continue
            if (quick := quick_attrs(record)) is not None:
                assert quick == file_attrs(record, await mft.attributes(record))
                seen += 1
        return seen

    assert run_sync(compare()) > 500


def test_info(small: NtfsVolume, small_reader: FileReader) -> None:
    filesystem = run_sync(open_ntfs(small_reader))
    interface: Filesystem = filesystem
    assert interface.root == 5
    theirs = {}
    for tag in ("TYPE", "LABEL", "UUID"):
        command = ["blkid", "-p", "-o", "value", "-s", tag, str(small.image)]
        found = subprocess.run(command, capture_output=True, check=True, text=True)
        theirs[tag] = found.stdout.removesuffix("\n")
    info = filesystem.info
    assert [info.fstype, info.label, info.uuid] == list(theirs.values())
    assert filesystem.version == (3, 1)
    assert info.warnings == ()
    report = ntfsinfo(small, "-m")
    fields: dict[str, str] = {}
    for line in report.splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    assert info.size == int(fields["Volume Size in Clusters"]) * info.block_size
    free = run_sync(filesystem.free_bytes())
    assert free == int(fields["Free Clusters"].split(" ")[0]) * info.block_size


@pytest.mark.requirement("R33")
def test_two_copies_of_a_volume(small: NtfsVolume, small_reader: FileReader) -> None:
    first = run_sync(open_ntfs(small_reader))
    image = small.image.read_bytes()
    second = run_sync(open_ntfs(BytesReader(image)))
    assert first.info.uuid == second.info.uuid
    assert run_sync(first.listdir(5)) == run_sync(second.listdir(5))


def test_errors_of_the_system_calls(small_reader: FileReader) -> None:
    filesystem = run_sync(open_ntfs(small_reader))
    file = path_attrs(filesystem, b"size 100").ino
    with pytest.raises(NotADirectoryError):
        run_sync(filesystem.listdir(file))
    with pytest.raises(NotADirectoryError):
        run_sync(filesystem.lookup(file, b"x"))
    with pytest.raises(IsADirectoryError):
        run_sync(filesystem.data(filesystem.root))
    boot = decode_boot(small_reader.try_read(0, 512))
    unused = 20
    assert small_reader.try_read(boot.mft_offset + unused * boot.record_size, 4) == b"FILE"
    with pytest.raises(FileNotFoundError):
        run_sync(filesystem.attrs(unused))


def test_listing_prefetches_before_it_reads(small_reader: FileReader) -> None:
    filesystem = run_sync(open_ntfs(small_reader))
    many = path_attrs(filesystem, b"many").ino
    small_reader.hinted.clear()
    before = small_reader.reads
    entries = run_sync(filesystem.listdir(many))
    hinted = sum(span.length for span in small_reader.hinted)
    assert hinted >= len(entries) * 1024
    assert small_reader.reads - before <= 6
    before = small_reader.reads
    assert run_sync(sha256(small_reader, run_sync(filesystem.data(entries[0].ino))))
    assert small_reader.reads == before, "small files are in records that the listing has read"
