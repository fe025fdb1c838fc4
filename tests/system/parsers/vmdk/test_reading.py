"""How a disk asks its files: few reads, large ones, none twice, and bounded memory."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fixtures.vmdk import Disk
from tests.support.parsers.vmdk import build
from tests.support.parsers.vmdk.support import CountingReader, DictOpener, FolderOpener, open_path
from vmount.parsers.errors import OutOfBounds
from vmount.parsers.reader import Span, run_sync
from vmount.parsers.vmdk.disk import AllocatedRange, VmdkDisk, open_vmdk
from vmount.parsers.vmdk.opener import candidates
from vmount.parsers.vmdk.tablefile import PAGE

SECTOR = 512
GRAIN = 65_536


def _open(image: build.Image, folder: Path) -> tuple[VmdkDisk, CountingReader]:
    opener = DictOpener({"top": image.write(folder / "image").read_bytes()})
    return run_sync(open_vmdk(opener, "top")), opener.files["top"]


def _text(sectors: int) -> str:
    return build.descriptor([f'RW {sectors} SPARSE "x"'])


@pytest.mark.parametrize(
    ("name", "reads"),
    [
        ("monolithicSparse", 1),
        ("streamOptimized", 1),
        ("monolithicFlat", 1),
        ("twoGbMaxExtentSparse", 3),
        ("twoGbMaxExtentFlat", 1),
    ],
)
def test_opening_reads_each_file_once(subformats: dict[str, Disk], name: str, reads: int) -> None:
    opener = FolderOpener()
    disk = run_sync(open_vmdk(opener, str(subformats[name].path)))
    assert opener.reads == reads
    assert all(span.length <= PAGE for file in opener.files.values() for span in file.reads)
    assert disk.format == name


@pytest.mark.requirement("R37")
def test_opening_62_tib_takes_one_read(folder: Path) -> None:
    sectors = (62 << 40) // SECTOR
    path = build.hosted(sectors, {sectors // 128 - 1: bytes(GRAIN)}, _text(sectors)).write(
        folder / "x.vmdk"
    )
    opener = FolderOpener()
    disk = run_sync(open_vmdk(opener, str(path)))
    assert opener.reads == 1
    run_sync(disk.read(disk.size - 4096, 4096))
    assert opener.reads <= 4
    assert sum(span.length for file in opener.files.values() for span in file.reads) < 5 * PAGE


def test_grains_that_follow_one_another_are_one_read(folder: Path) -> None:
    image = build.hosted(512 * 128, dict.fromkeys(range(512), bytes(GRAIN)), _text(512 * 128))
    disk, file = _open(image, folder)
    run_sync(disk.read(0, 1))
    buffer = disk.try_read(3 * GRAIN + 5, 20 * GRAIN)
    assert isinstance(buffer, memoryview)
    assert buffer.obj is file.try_read(0, 1).obj  # type: ignore[union-attr]


def test_grains_in_reverse_are_one_read(folder: Path) -> None:
    grains: dict[int, bytes | None] = {n: bytes([n]) * 4096 for n in reversed(range(64))}
    text = build.descriptor(['RW 512 SPARSE "x"'])
    opener = DictOpener(
        {"top": build.hosted(512, grains, text, grain_size=8).write(folder / "i").read_bytes()}
    )
    disk = run_sync(open_vmdk(opener, "top"))
    file = opener.files["top"]
    file.ready = False
    expected = b"".join(bytes([n]) * 4096 for n in range(64))
    assert bytes(run_sync(disk.read(0, 512 * SECTOR))) == expected
    assert [span.length for span in file.reads[-1:]] == [512 * SECTOR]
    assert len(file.reads) <= 3 + 1
    assert disk.try_read(0, 512) is None


def test_compressed_grains_are_read_together_and_decoded_once(folder: Path) -> None:
    source = random.Random(1)
    grains = {n: source.randbytes(1000) * 66 for n in range(16)}
    grains = {n: data[:GRAIN] for n, data in grains.items()}
    sectors = 16 * 128
    disk, file = _open(build.streamed(sectors, grains, _text(sectors)), folder)
    before = len(file.reads)
    assert disk.try_read(0, 4096) is None
    assert bytes(run_sync(disk.read(0, disk.size))) == b"".join(grains.values())
    assert len(file.reads) - before <= 3
    before = len(file.reads)
    assert disk.try_read(3 * GRAIN - 1, GRAIN) == grains[2][-1:] + grains[3][:-1]
    assert len(file.reads) == before


def test_hints_name_what_will_be_read(folder: Path) -> None:
    sectors = 2000 * 512 * 128
    far = sectors // 128 - 1
    disk, file = _open(build.hosted(sectors, {far: bytes(GRAIN)}, _text(sectors)), folder)
    spans = [Span(disk.size - 4096, 8192), Span(disk.size + 1, 5), Span(-5, 3)]
    disk.prefetch(spans)
    run_sync(disk.read(disk.size - 1, 1))
    tables = [span for span in file.reads[1:] if span.length > 1]
    assert set(file.hints) <= set(tables)
    file.hints.clear()
    disk.prefetch(spans)
    assert file.hints == [Span(file.size - 4096, 4096)]


def test_ends_of_the_disk(subformats: dict[str, Disk]) -> None:
    disk = open_path(subformats["monolithicSparse"].path)
    assert bytes(run_sync(disk.read(disk.size, 0))) == b""
    for offset, length in ((disk.size, 1), (disk.size - 1, 2), (-1, 1), (0, -1)):
        with pytest.raises(OutOfBounds):
            disk.try_read(offset, length)
        with pytest.raises(OutOfBounds):
            run_sync(disk.read(offset, length))


def test_an_empty_disk(folder: Path) -> None:
    path = folder / "empty.vmdk"
    path.write_text(build.descriptor(["RW 0 ZERO"]))
    disk = open_path(path)
    assert disk.size == 0
    assert bytes(run_sync(disk.read(0, 0))) == b""
    assert list(run_sync(disk.allocated(0, 0))) == []


def test_what_is_allocated(folder: Path) -> None:
    sectors = 600 * 128
    grains: dict[int, bytes | None] = {1: b"x" * GRAIN, 2: b"y" * GRAIN, 3: None, 599: b"z" * GRAIN}
    disk, _ = _open(build.hosted(sectors, grains, _text(sectors)), folder)
    assert run_sync(disk.allocated(0, disk.size)) == [
        AllocatedRange(0, GRAIN, False),
        AllocatedRange(GRAIN, 2 * GRAIN, True),
        AllocatedRange(3 * GRAIN, 596 * GRAIN, False),
        AllocatedRange(599 * GRAIN, GRAIN, True),
    ]
    assert run_sync(disk.allocated(GRAIN + 5, 10)) == [AllocatedRange(GRAIN + 5, 10, True)]
    assert bytes(run_sync(disk.read(3 * GRAIN, 10))) == bytes(10)


@pytest.mark.parametrize(
    ("name", "near", "expected"),
    [
        ("base.vmdk", None, ["base.vmdk"]),
        ("base.vmdk", "/vm/a/a.vmdk", ["/vm/a/base.vmdk"]),
        ("base.vmdk", "[ds@1] a.vmdk", ["[ds@1] base.vmdk"]),
        ("base.vmdk", "[ds@1] web 01/a.vmdk", ["[ds@1] web 01/base.vmdk"]),
        ("../b/base.vmdk", "/vm/a/a.vmdk", ["/vm/a/../b/base.vmdk", "/vm/a/base.vmdk"]),
        (
            "..\\b\\base.vmdk",
            "/vm/a/a.vmdk",
            ["/vm/a/..\\b\\base.vmdk", "/vm/a/../b/base.vmdk", "/vm/a/base.vmdk"],
        ),
        (
            "C:\\VMs\\web 01\\base.vmdk",
            "/vm/a/a.vmdk",
            [
                "C:\\VMs\\web 01\\base.vmdk",
                "/vm/a/base.vmdk",
                "/vm/a/../web 01/base.vmdk",
            ],
        ),
        (
            "/vmfs/volumes/5c-1/web/base.vmdk",
            "a.vmdk",
            ["/vmfs/volumes/5c-1/web/base.vmdk", "base.vmdk", "../web/base.vmdk"],
        ),
        (
            "\\\\server\\share\\base.vmdk",
            "/a.vmdk",
            ["\\\\server\\share\\base.vmdk", "/base.vmdk", "/../share/base.vmdk"],
        ),
    ],
)
def test_where_a_name_is_looked_for(name: str, near: str | None, expected: list[str]) -> None:
    assert list(candidates(name, near)) == expected
