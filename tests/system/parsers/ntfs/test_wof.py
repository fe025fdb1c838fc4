"""Files compressed with WOF: what wimlib compressed comes out as it was."""

from __future__ import annotations

import contextlib
import os
import random
import stat
import struct
from typing import TYPE_CHECKING

import pytest

from fixtures.ntfs import mounted
from fixtures.wof import (
    CLOUD_TAG,
    FORMATS,
    STREAMS,
    Format,
    WofVolume,
    build_wof,
    compress,
    make_volume,
    place_wof,
    reparse,
    wof_reparse,
)
from tests.support.parsers.ntfs.reading import FileReader, read_range, tree
from vmount.blocks.file_map import open_file
from vmount.parsers.errors import Corrupt, ParseError, Unsupported
from vmount.parsers.model import FileData, Inline, Packed, Run, Runs
from vmount.parsers.ntfs import open_ntfs
from vmount.parsers.ntfs.boot import decode_boot
from vmount.parsers.ntfs.standard_information import STANDARD
from vmount.parsers.ntfs.wof import WofChunks, wof_algorithm
from vmount.parsers.reader import BytesReader, run_sync
from vmount.parsers.runs import RunList

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vmount.parsers.ntfs import NtfsFilesystem


@pytest.fixture(scope="session")
def wof(folder: Path) -> WofVolume:
    return build_wof(folder)


@pytest.fixture
def reader(wof: WofVolume) -> Iterator[FileReader]:
    opened = FileReader(wof.image)
    yield opened
    opened.close()


def lookup(filesystem: NtfsFilesystem, path: bytes) -> int:
    ino = filesystem.root
    for name in path.split(b"/"):
        attrs = run_sync(filesystem.lookup(ino, name))
        assert attrs is not None, path
        ino = attrs.ino
    return ino


def test_every_file_is_what_it_was(wof: WofVolume, reader: FileReader) -> None:
    async def compare() -> None:
        filesystem = await open_ntfs(reader)
        expected = dict(wof.sources)
        async for path, attrs in tree(filesystem):
            if not stat.S_ISREG(attrs.mode):
                continue
            content = expected.pop(path).read_bytes()
            assert attrs.size == len(content)
            assert attrs.allocated > 0, "a file without blocks is a hole to tar"
            data = await filesystem.data(attrs.ino)
            assert isinstance(data.layout, Packed)
            assert await read_range(reader, data, 0, data.size) == content, path
        assert not expected

    run_sync(compare())


@pytest.mark.requirement("R24")
@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_any_range(wof: WofVolume, reader: FileReader, form: Format) -> None:
    filesystem = run_sync(open_ntfs(reader))
    path = f"{form.name}/mixed".encode()
    content = wof.sources[path].read_bytes()
    data = run_sync(filesystem.data(lookup(filesystem, path)))
    opened = open_file(reader, data)
    rng = random.Random(form.code)
    edges = [index * form.unit + step for index in range(3) for step in (-1, 0, 1)]
    ranges = [(max(0, start), length) for start in edges for length in (1, 2, form.unit)]
    ranges += [(rng.randrange(len(content)), rng.randrange(3 * form.unit)) for _ in range(300)]
    ranges += [(len(content) - 3, 100), (len(content), 10), (len(content) + 5, 10)]
    for offset, length in ranges:
        assert run_sync(opened.read(offset, length)) == content[offset : offset + length]


def test_streams_in_the_record_and_outside(wof: WofVolume, reader: FileReader) -> None:
    """The fixture has both kinds; this holds it to that."""
    filesystem = run_sync(open_ntfs(reader))
    kinds = set()
    for path in wof.sources:
        data = run_sync(filesystem.data(lookup(filesystem, path)))
        assert isinstance(data.layout, Packed)
        chunk = run_sync(data.layout.chunks.chunk(0))
        kinds.add((bool(chunk.runs), chunk.decode is None))
    assert kinds == {(True, True), (True, False), (False, False)}


def test_a_damaged_chunk_costs_that_chunk(wof: WofVolume, reader: FileReader) -> None:
    image = bytearray(wof.image.read_bytes())
    for form in FORMATS:
        filesystem = run_sync(open_ntfs(reader))
        path = f"{form.name}/mixed".encode()
        ino = lookup(filesystem, path)
        data = run_sync(filesystem.data(ino))
        assert isinstance(data.layout, Packed)
        # The fourth chunk is half text, half random: it is compressed.
        chunk = run_sync(data.layout.chunks.chunk(3))
        assert chunk.decode is not None
        place = chunk.runs[0].start
        assert place is not None
        image[place : place + 64] = b"\xff" * 64
        damaged = BytesReader(image)
        opened = open_file(damaged, run_sync(run_sync(open_ntfs(damaged)).data(ino)))
        content = wof.sources[path].read_bytes()
        unit = form.unit
        assert run_sync(opened.read(0, 3 * unit)) == content[: 3 * unit]
        assert run_sync(opened.read(4 * unit, 8 * unit)) == content[4 * unit : 12 * unit]
        for offset, length in ((3 * unit, 1), (4 * unit - 1, 2), (0, 8 * unit)):
            with pytest.raises(Corrupt):
                run_sync(opened.read(offset, length))


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_chunks_cut_short_are_errors(wof: WofVolume, reader: FileReader, form: Format) -> None:
    """A decoder that reads zeros behind the end would give other bytes."""
    filesystem = run_sync(open_ntfs(reader))
    path = f"{form.name}/program".encode()
    data = run_sync(filesystem.data(lookup(filesystem, path)))
    assert isinstance(data.layout, Packed)
    right = wrong = 0
    for index in range(12):
        chunk = run_sync(data.layout.chunks.chunk(index))
        if chunk.decode is None:
            continue
        stored = b"".join(reader.try_read(run.start or 0, run.length) for run in chunk.runs)
        whole = chunk.decode(stored, form.unit)
        for cut in (1, 2, 3, 4, 5, 6, 8, 16, 100, len(stored) // 2, len(stored) - 1, len(stored)):
            try:
                found = chunk.decode(stored[: len(stored) - cut], form.unit)
            except Corrupt:
                wrong += 1
            else:
                assert found == whole, "what was cut was not needed"
                right += 1
    assert wrong > 2 * right


def test_mutated_chunks(wof: WofVolume, reader: FileReader) -> None:
    """A value of the right size or a ParseError, whatever is stored."""
    filesystem = run_sync(open_ntfs(reader))
    rng = random.Random(5)
    for form in FORMATS:
        data = run_sync(filesystem.data(lookup(filesystem, f"{form.name}/program".encode())))
        assert isinstance(data.layout, Packed)
        chunk = run_sync(data.layout.chunks.chunk(2))
        assert chunk.decode is not None
        stored = b"".join(reader.try_read(run.start or 0, run.length) for run in chunk.runs)
        for _ in range(150):
            changed = bytearray(stored)
            for _ in range(rng.choice((1, 1, 3, 20))):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            if rng.random() < 0.3:
                changed = changed[: rng.randrange(len(changed))]
            with contextlib.suppress(ParseError):
                assert len(chunk.decode(bytes(changed), form.unit)) == form.unit
        for length in (0, 1, 100, 400):
            with pytest.raises(ParseError):
                chunk.decode(rng.randbytes(length) if length < 300 else bytes(length), form.unit)


@pytest.mark.requirement("R22")
def test_mutated_volumes(wof: WofVolume) -> None:
    """Whatever is in the records, tables and chunks: values of the size told, or a ParseError."""
    pristine = wof.image.read_bytes()
    paths = [path for path in wof.sources if b"LZX" in path or b"8K" in path]
    boot = decode_boot(pristine[:512])
    filesystem = run_sync(open_ntfs(BytesReader(pristine)))
    inos = [lookup(filesystem, path) for path in paths]
    rng = random.Random(22)
    reads = errors = 0
    for _ in range(12):
        image = bytearray(pristine)
        for ino in inos:
            start = boot.mft_offset + ino * boot.record_size
            for _ in range(rng.randrange(3)):
                image[start + 56 + rng.randrange(440)] = rng.randrange(256)
        reader = BytesReader(image)
        filesystem = run_sync(open_ntfs(reader))
        for ino in inos:
            try:
                opened = open_file(reader, run_sync(filesystem.data(ino)))
                for offset in (0, 4096, 33_000, max(0, opened.size - 1)):
                    found = run_sync(opened.read(offset, 5000))
                    assert len(found) == max(0, min(5000, opened.size - offset))
                    reads += 1
            except (ParseError, OSError):
                errors += 1
    assert reads > 100
    assert errors > 10


def table(offsets: list[int], entry: str = "I") -> bytes:
    return struct.pack(f"<{len(offsets)}{entry}", *offsets)


def chunks_of(stream: bytes, size: int) -> WofChunks:
    runs = Runs(RunList.of((Run(0, len(stream), 0),)))
    return WofChunks(BytesReader(stream), size, FileData(len(stream), len(stream), runs), 0)


@pytest.mark.parametrize("offsets", [[5000], [0], [8193], [1 << 31], [0xFFFFFFFF]])
def test_offsets_that_cannot_be(offsets: list[int]) -> None:
    chunks = chunks_of(table(offsets) + bytes(8192), 8192)
    with pytest.raises(Corrupt, match="offset of chunk"):
        run_sync(chunks.chunk(0))


def test_the_other_chunks_of_a_bad_table() -> None:
    parts = [bytes([value]) * 4096 for value in (1, 2, 3, 4)]
    stream = table([4096, 1 << 20, 12288]) + b"".join(parts)
    chunks = chunks_of(stream, 4 * 4096)
    for index, good in enumerate((True, False, False, True)):
        if good:
            (run,) = run_sync(chunks.chunk(index)).runs
            assert stream[run.start or 0 :][: run.length] == parts[index]
        else:
            with pytest.raises(Corrupt):
                run_sync(chunks.chunk(index))


def test_chunks_that_were_never_written() -> None:
    """Behind the valid bytes of the stream is nothing that could be decoded, and no zeros either."""
    stream = table([4096]) + bytes(8192)
    data = FileData(len(stream), 4 + 6000, Runs(RunList.of((Run(0, len(stream), 0),))))
    chunks = WofChunks(BytesReader(stream), 8192, data, 0)
    assert run_sync(chunks.chunk(0)).runs == (Run(0, 4096, 4),)
    with pytest.raises(Corrupt, match="offset of chunk 0x1"):
        run_sync(chunks.chunk(1))
    with pytest.raises(Corrupt, match="size of WofCompressedData"):
        WofChunks(BytesReader(stream), 8192, FileData(len(stream), 3, data.layout), 0)


def test_a_stream_shorter_than_its_table() -> None:
    with pytest.raises(Corrupt, match="size of WofCompressedData"):
        chunks_of(bytes(12), 1 << 40)


@pytest.mark.requirement("R37")
def test_entries_of_eight_bytes_from_4_gib_on() -> None:
    """The table of a file of 4 GiB is not read as a whole, nor is it made of what is not asked for."""
    size = 1 << 32
    count = size // 4096
    stored = (count - 1) * 8 + count * 4096
    runs = Runs(RunList.of((Run(0, stored, 0),)))

    class Sparse:
        """Chunks as they are, each with its number at its beginning."""

        size = stored
        reads = 0

        async def read(self, offset: int, length: int) -> bytes:
            self.reads += 1
            assert offset + length <= (count - 1) * 8
            first = offset // 8 + 1
            return struct.pack(
                f"<{length // 8}Q", *(index * 4096 for index in range(first, first + length // 8))
            )

        def prefetch(self, spans: object) -> None:
            pass

    reader = Sparse()
    chunks = WofChunks(reader, size, FileData(stored, stored, runs), 0)
    for index in (0, 1, 511, 512, 513, count - 2, count - 1, 513, 512):
        (run,) = run_sync(chunks.chunk(index)).runs
        assert run == Run(0, 4096, (count - 1) * 8 + index * 4096)
    assert reader.reads == 3


@pytest.mark.requirement("R37")
@pytest.mark.slow
def test_a_file_over_4_gib(folder: Path) -> None:
    """wimlib writes eight bytes an entry from 4 GiB on, and four below."""
    form = FORMATS[3]
    for size in ((1 << 32) - 1, 1 << 32):
        sources = folder / f"huge-{size}"
        sources.mkdir()
        with (sources / "huge").open("wb") as file:
            file.write(b"head")
            file.seek(size - 4)
            file.write(b"tail")
        (stream,) = compress(sources, form, folder).values()
        image = make_volume(folder / "huge.img", 256 << 20)
        with mounted(image, folder, STREAMS) as top:
            place_wof(top / "huge", size, stream, form.code)
        reader = FileReader(image)
        filesystem = run_sync(open_ntfs(reader))
        data = run_sync(filesystem.data(lookup(filesystem, b"huge")))
        assert data.size == size
        assert run_sync(read_range(reader, data, 0, 6)) == b"head\0\0"
        assert run_sync(read_range(reader, data, size - 6, 100)) == b"\0\0tail"
        assert run_sync(read_range(reader, data, 3 << 30, 100_000)) == bytes(100_000)
        reader.close()
        image.unlink()


def test_where_is_a_hint_that_helps(wof: WofVolume, reader: FileReader) -> None:
    """What is told to be needed for a range holds the better part of what then is read for it."""
    filesystem = run_sync(open_ntfs(reader))
    data = run_sync(filesystem.data(lookup(filesystem, b"XPRESS4K/program")))
    assert isinstance(data.layout, Packed)
    chunks = data.layout.chunks
    for first, after in ((0, 100), (50, 150), (140, 240)):
        told: set[int] = set()
        for span in chunks.where(first * 4096, (after - first) * 4096):
            told |= set(range(span.offset, span.offset + span.length))
        used: set[int] = set()
        for index in range(first, after):
            for run in run_sync(chunks.chunk(index)).runs:
                assert run.start is not None
                used |= set(range(run.start, run.start + run.length))
        assert len(told & used) > 0.6 * len(used)
        assert len(told) < 3 * len(used)
    assert list(chunks.where(data.size, 100)) == []


@pytest.mark.parametrize(
    ("data", "feature"),
    [
        (struct.pack("<IIII", 1, 1, 1, 0), "backed by a WIM image"),
        (struct.pack("<II", 1, 1) + bytes(40), "backed by a WIM image"),
        (struct.pack("<IIII", 1, 7, 1, 0), "provider 0x7"),
        (struct.pack("<IIII", 2, 2, 1, 0), "version 2.1"),
        (struct.pack("<IIII", 1, 2, 1, 4), "algorithm 0x4"),
    ],
)
def test_other_kinds_of_wof_are_refused_by_name(data: bytes, feature: str) -> None:
    with pytest.raises(Unsupported, match=feature):
        wof_algorithm(data)
    with pytest.raises(Corrupt):
        wof_algorithm(data[:4])


ONLINE, OFFLINE = 0x20, 0x1020


@pytest.fixture(scope="session")
def filtered(folder: Path) -> Path:
    """A volume with files that filter drivers look after, WOF's apart."""
    image = make_volume(folder / "filtered.img", 16 << 20)
    with mounted(image, folder, STREAMS) as top:
        for name, size, bits in (
            ("hydrated", 50_000, ONLINE),
            ("hydrated small", 50, ONLINE),
            ("offline", 50_000, OFFLINE),
        ):
            (top / name).write_bytes(random.Random(size).randbytes(size))
            os.setxattr(top / name, "system.ntfs_attrib", struct.pack("<I", bits))
            os.setxattr(top / name, "system.ntfs_reparse_data", reparse(CLOUD_TAG, bytes(16)))
        for name in ("placeholder", "partly here"):
            with (top / name).open("wb") as file:
                file.truncate(200_000)
                if name == "partly here":
                    file.seek(100_000)
                    file.write(bytes(range(256)) * 40)
            os.setxattr(top / name, "system.ntfs_reparse_data", reparse(CLOUD_TAG, bytes(16)))
        for name, tag, size in (
            ("dedup", 0x80000013, 50_000),
            ("app link", 0x8000001B, 0),
        ):
            with (top / name).open("wb") as file:
                file.truncate(size)
            os.setxattr(top / name, "system.ntfs_reparse_data", reparse(tag, bytes(24)))
        (top / "foreign").write_bytes(b"x")
        foreign = struct.pack("<IHH", 0x00001234, 4, 0) + bytes(range(16)) + b"data"
        os.setxattr(top / "foreign", "system.ntfs_reparse_data", foreign)
        (top / "wim").write_bytes(b"x")
        os.setxattr(top / "wim", "system.ntfs_reparse_data", wof_reparse(0, provider=1))
    return image


def test_cloud_files_that_are_here_are_read(filtered: Path) -> None:
    reader = FileReader(filtered)
    filesystem = run_sync(open_ntfs(reader))
    for name, size in ((b"hydrated", 50_000), (b"hydrated small", 50)):
        data = run_sync(filesystem.data(lookup(filesystem, name)))
        assert isinstance(data.layout, Inline if size == 50 else Runs)
        found = run_sync(read_range(reader, data, 0, size))
        assert found == random.Random(size).randbytes(size)
    assert run_sync(filesystem.data(lookup(filesystem, b"app link"))).size == 0
    reader.close()


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        (b"offline", "not on this disk: cloud"),
        (b"placeholder", "not on this disk: cloud"),
        (b"partly here", "not on this disk: cloud"),
        (b"dedup", "data deduplication"),
        (b"foreign", "reparse tag of another vendor 0x00001234"),
        (b"wim", "backed by a WIM image"),
    ],
)
def test_content_that_is_elsewhere_is_refused_by_name(
    filtered: Path, name: bytes, feature: str
) -> None:
    reader = FileReader(filtered)
    filesystem = run_sync(open_ntfs(reader))
    attrs = run_sync(filesystem.lookup(filesystem.root, name))
    assert attrs is not None
    assert stat.S_ISREG(attrs.mode)
    assert attrs.size > 0
    with pytest.raises(Unsupported, match=feature):
        run_sync(filesystem.data(attrs.ino))
    reader.close()


@pytest.mark.parametrize("bit", [0x1000, 0x40000, 0x400000])
def test_a_file_said_to_be_elsewhere_is_not_read_from_here(filtered: Path, bit: int) -> None:
    """The bits that ntfs-3g does not set are set in the image."""
    image = bytearray(filtered.read_bytes())
    filesystem = run_sync(open_ntfs(BytesReader(image)))
    ino = lookup(filesystem, b"hydrated")
    assert run_sync(filesystem.data(ino)).size == 50_000
    boot = decode_boot(image[:512])
    record = boot.mft_offset + ino * boot.record_size
    (first,) = struct.unpack_from("<H", image, record + 20)
    assert struct.unpack_from("<I", image, record + first)[0] == 0x10
    at = record + first + 24 + STANDARD.offset("file_attributes")
    (bits,) = struct.unpack_from("<I", image, at)
    struct.pack_into("<I", image, at, bits | bit)
    changed = run_sync(open_ntfs(BytesReader(image)))
    with pytest.raises(Unsupported, match="not on this disk"):
        run_sync(changed.data(ino))
