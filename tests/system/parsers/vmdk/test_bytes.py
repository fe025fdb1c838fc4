"""Every form of disk reads as another program reads it: R23, R24, R31, R37."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fixtures.vmdk import SUBFORMATS, Disk, run, to_raw
from tests.support.parsers.vmdk import build
from tests.support.parsers.vmdk.support import assert_same, flat, open_path
from vmount.parsers.errors import Unsupported
from vmount.parsers.reader import run_sync

SECTOR = 512


@pytest.mark.requirement("R24")
@pytest.mark.parametrize("name", [*SUBFORMATS, "zeroedGrain"])
def test_ranges_of_what_qemu_img_writes(subformats: dict[str, Disk], name: str) -> None:
    disk = open_path(subformats[name].path)
    assert_same(disk, flat(subformats[name].flat), 1000 if name.startswith("twoGb") else 10_000)
    assert disk.warnings == ()


@pytest.mark.requirement("R24")
def test_ranges_of_a_stream_with_a_footer(footer_stream: Disk) -> None:
    assert_same(open_path(footer_stream.path), flat(footer_stream.flat))


def _grains(source: random.Random, count: int, size: int, limit: int) -> dict[int, bytes]:
    numbers = {source.randrange(limit) for _ in range(count)}
    first = source.randrange(limit // 2)
    numbers |= set(range(first, first + 40)) | {limit - 1}
    shuffled = sorted(numbers)
    source.shuffle(shuffled)
    return {n: source.randbytes(size) for n in sorted(numbers)[: count // 2] + shuffled}


def _base(folder: Path, sectors: int, source: random.Random) -> tuple[int, str]:
    """Write a flat base of the size, so that what is not allocated in a delta is seen."""
    (folder / "base-flat.vmdk").write_bytes(source.randbytes(sectors * SECTOR))
    text = build.descriptor([f'RW {sectors} VMFS "base-flat.vmdk"'], create_type="vmfs", cid=7)
    (folder / "base.vmdk").write_text(text)
    return 7, "base.vmdk"


def _compare_with_qemu(path: Path, count: int = 10_000) -> None:
    assert_same(open_path(path), flat(to_raw(path, path.with_suffix(".raw"))), count)


@pytest.mark.requirement("R24")
@pytest.mark.parametrize("grain_size", [1, 8])
def test_ranges_of_a_cowd_delta(folder: Path, grain_size: int) -> None:
    source = random.Random(4)
    sectors = 3 * 4096 * grain_size - 5
    grains = _grains(source, 900, grain_size * SECTOR, -(-sectors // grain_size))
    build.cow(sectors, grains, grain_size=grain_size).write(folder / "a-delta.vmdk")
    text = build.descriptor(
        [f'RW {sectors} VMFSSPARSE "a-delta.vmdk"'],
        create_type="vmfsSparse",
        parent=_base(folder, sectors, source),
    )
    (folder / "a.vmdk").write_text(text)
    _compare_with_qemu(folder / "a.vmdk")


@pytest.mark.requirement("R24")
def test_ranges_of_a_sesparse_delta(folder: Path) -> None:
    source = random.Random(5)
    sectors = 40 * (1 << 11) + 3
    limit = -(-sectors // 8)
    grains: dict[int, bytes | None] = dict(_grains(source, 5000, 4096, limit))
    free = [n for n in range(limit) if n not in grains]
    grains |= dict.fromkeys(free[::7])
    build.space_efficient(sectors, grains, unmapped=free[3::7]).write(folder / "a-sesparse.vmdk")
    text = build.descriptor(
        [f'RW {sectors} SESPARSE "a-sesparse.vmdk"'],
        create_type="seSparse",
        parent=_base(folder, sectors, source),
    )
    (folder / "a.vmdk").write_text(text)
    _compare_with_qemu(folder / "a.vmdk")


@pytest.mark.requirement("R24")
@pytest.mark.parametrize("level", [0, 6])
def test_ranges_of_a_stream_out_of_order(folder: Path, level: int) -> None:
    source = random.Random(6)
    sectors = 66 * (1 << 11) + 9
    grains = _grains(source, 60, 65_536, -(-sectors // 128))
    text = build.descriptor(
        [f'RDONLY {sectors} SPARSE "old name.vmdk"'], create_type="streamOptimized"
    )
    build.streamed(sectors, grains, text, level=level).write(folder / "s.vmdk")
    _compare_with_qemu(folder / "s.vmdk")


@pytest.mark.requirement("R24")
def test_ranges_of_small_and_large_hosted_grains(folder: Path) -> None:
    source = random.Random(7)
    for grain_size in (1, 16, 2048):
        sectors = 3 * 512 * min(grain_size, 64) + 3
        limit = -(-sectors // grain_size)
        grains: dict[int, bytes | None] = {
            n: source.randbytes(grain_size * SECTOR)
            for n in source.sample(range(limit), limit // 2)
        }
        text = build.descriptor([f'RW {sectors} SPARSE "x"'], create_type="monolithicSparse")
        path = folder / f"grain{grain_size}.vmdk"
        build.hosted(sectors, grains, text, grain_size=grain_size, padding=SECTOR).write(path)
        _compare_with_qemu(path, 2000)


@pytest.mark.requirement("R23")
@pytest.mark.parametrize("cut", [0, 3])
def test_extents_of_every_kind_in_one_disk(folder: Path, cut: int) -> None:
    """Offsets into files, zeros, read-only extents: none may be dropped or shifted."""
    source = random.Random(8)
    content = source.randbytes(300 * SECTOR)
    (folder / "f 001.vmdk").write_bytes(content)
    grains = {n: source.randbytes(65_536) for n in (0, 2, 3, 7)}
    sectors = 8 * 128 - cut
    build.hosted(sectors, grains).write(folder / "s.vmdk")
    extents = [
        'RW 100 FLAT "f 001.vmdk" 0',
        "RW 77 ZERO",
        'RDONLY 33 FLAT "f 001.vmdk" 150',
        f'RW {sectors} SPARSE "s.vmdk"',
        'RW 1 FLAT "f 001.vmdk" 299',
        'RW 100 FLAT "f 001.vmdk" 100',
    ]
    path = folder / "a.vmdk"
    path.write_text(build.descriptor(extents))
    # Made of what was put in: qemu-img drops extents of zeros and those that are read-only.
    expected = (
        content[: 100 * SECTOR]
        + bytes(77 * SECTOR)
        + content[150 * SECTOR : 183 * SECTOR]
        + b"".join(grains.get(n, bytes(65_536)) for n in range(8))[: sectors * SECTOR]
        + content[299 * SECTOR :]
        + content[100 * SECTOR : 200 * SECTOR]
    )
    assert_same(open_path(path), memoryview(expected))
    # It reads on into a grain's padding where a sparse extent before the last one ends within it.
    if not cut:
        (folder / "zeros").write_bytes(bytes(77 * SECTOR))
        extents[1] = 'RW 77 FLAT "zeros" 0'
        extents[2] = 'RW 33 FLAT "f 001.vmdk" 150'
        other = folder / "b.vmdk"
        other.write_text(build.descriptor(extents, create_type="twoGbMaxExtentFlat"))
        assert to_raw(other, folder / "b.raw").read_bytes() == expected


def test_an_extent_without_access_is_refused_and_the_rest_is_read(folder: Path) -> None:
    (folder / "f").write_bytes(b"f" * 4 * SECTOR)
    extents = ['RW 2 FLAT "f" 0', 'NOACCESS 5 FLAT "gone" 0', 'RW 2 FLAT "f" 2']
    (folder / "a.vmdk").write_text(build.descriptor(extents))
    disk = open_path(folder / "a.vmdk")
    assert disk.size == 9 * SECTOR
    assert bytes(run_sync(disk.read(0, 1024))) == bytes(run_sync(disk.read(7 * SECTOR, 1024)))
    for offset, length in ((1024, 1), (1000, 100), (6 * SECTOR, 1024), (0, 9 * SECTOR)):
        with pytest.raises(Unsupported, match=r"NOACCESS \(gone\)"):
            run_sync(disk.read(offset, length))


@pytest.mark.requirement("R31")
def test_a_chain_of_32_links_by_qemu_img(qemu_chain: Disk) -> None:
    disk = open_path(qemu_chain.path)
    assert len(disk.links) == 32
    assert disk.links[31].descriptor.parent_cid is None
    assert all(link.descriptor.ddb["adapterType"] == "ide" for link in disk.links)
    assert_same(disk, flat(qemu_chain.flat))


TIB = 1 << 40
SIZES_R37 = [2 * TIB - SECTOR, 2 * TIB + SECTOR, int(2.2 * TIB) // SECTOR * SECTOR, 62 * TIB]


@pytest.mark.requirement("R37")
@pytest.mark.parametrize("size", SIZES_R37)
def test_the_end_of_a_large_hosted_sparse_disk(folder: Path, size: int) -> None:
    sectors = size // SECTOR
    last = -(-sectors // 128) - 1
    text = build.descriptor([f'RW {sectors} SPARSE "x"'], create_type="monolithicSparse")
    grains = {0: b"\x11" * 65_536, last: b"\x77" * 65_536}
    path = build.hosted(sectors, grains, text).write(folder / "large.vmdk")
    _check_end(path, size, size - last * 65_536)


@pytest.mark.requirement("R37")
@pytest.mark.parametrize("size", [*SIZES_R37, 64 * TIB - SECTOR])
def test_the_end_of_a_large_sesparse_disk(folder: Path, size: int) -> None:
    sectors = size // SECTOR
    last = -(-sectors // 8) - 1
    grains = {0: b"\x11" * 4096, last: b"\x77" * 4096}
    build.space_efficient(sectors, grains).write(folder / "x-sesparse.vmdk")
    path = folder / "large.vmdk"
    path.write_text(build.descriptor([f'RW {sectors} SESPARSE "x-sesparse.vmdk"']))
    _check_end(path, size, size - last * 4096)


@pytest.mark.requirement("R37")
def test_the_end_of_a_large_cowd_disk(folder: Path) -> None:
    """Its fields of 32 bits reach to 2 TiB less a sector."""
    sectors = (1 << 32) - 1
    grains = {0: b"\x11" * SECTOR, sectors - 1: b"\x77" * SECTOR}
    build.cow(sectors, grains).write(folder / "x-delta.vmdk")
    path = folder / "large.vmdk"
    path.write_text(build.descriptor([f'RW {sectors} VMFSSPARSE "x-delta.vmdk"']))
    _check_end(path, sectors * SECTOR, SECTOR)


def _check_end(path: Path, size: int, tail: int) -> None:
    disk = open_path(path)
    assert disk.size == size
    assert bytes(run_sync(disk.read(size - tail - 1, tail + 1))) == b"\0" + b"\x77" * tail
    assert bytes(run_sync(disk.read(size // 2, 1 << 20))) == bytes(1 << 20)
    assert bytes(run_sync(disk.read(0, 512))) == b"\x11" * 512
    if tail % SECTOR == 0:
        command = f"read -P 0x77 {size - tail} {tail}"
        answer = run("qemu-io", "-r", "-f", "vmdk", "-c", command, path)
        assert "failed" not in answer
        assert f"read {tail}/{tail} bytes" in answer
