"""Damaged and hostile volumes: an error for what is damaged, everything else as before."""

from __future__ import annotations

import random
import stat
from typing import TYPE_CHECKING

import pytest

from tests.support.parsers.reading import Image, find
from vmount.parsers.errors import Corrupt, NotRecognised, ParseError
from vmount.parsers.fat import FatFilesystem, open_fat
from vmount.parsers.fat.boot import decode_boot
from vmount.parsers.reader import BytesReader, run_sync

if TYPE_CHECKING:
    from pathlib import Path

    from fixtures import fat

MAX_READS = 20_000
MAX_BYTES = 1 << 30


@pytest.fixture(scope="module")
def pristine(small_32: fat.FatVolume) -> bytes:
    return small_32.image.read_bytes()


@pytest.fixture
def image(pristine: bytes) -> Image:
    return Image(pristine)


def opened(image: Image) -> FatFilesystem:
    return run_sync(open_fat(image))


def set_entry(image: Image, cluster: int, value: int) -> None:
    boot = decode_boot(image.data[:512])
    image.set(boot.fat_offset + cluster * 4, value.to_bytes(4, "little"))


def first_cluster(image: Image, ino: int) -> int:
    entry = image.data[ino * 32 : ino * 32 + 32]
    return int.from_bytes(entry[26:28], "little") | int.from_bytes(entry[20:22], "little") << 16


@pytest.mark.parametrize("damage", [bytes(512), b"\xff" * 512, None])
def test_backup_of_the_boot_sector(image: Image, damage: bytes | None) -> None:
    expected = run_sync(opened(image).listdir(1))
    if damage is None:
        image.set(13, b"\x03")
    else:
        image.set(0, damage)
    filesystem = opened(image)
    assert run_sync(filesystem.listdir(1)) == expected
    (warning,) = filesystem.info.warnings
    assert "backup" in warning


def test_backup_alone_is_no_volume(image: Image) -> None:
    boot = decode_boot(image.data[:512])
    image.set(0, bytes(512))
    for number in range(boot.fats):
        image.set(boot.fat_offset + number * boot.fat_size, bytes(4))
    with pytest.raises(NotRecognised):
        opened(image)


def test_zeroed_boot_sector_without_a_backup(floppy: fat.FatVolume) -> None:
    image = Image(floppy.image.read_bytes())
    image.set(0, bytes(512))
    with pytest.raises(NotRecognised):
        opened(image)


def test_second_fat(image: Image) -> None:
    expected = run_sync(opened(image).listdir(1))
    boot = decode_boot(image.data[:512])
    image.set(boot.fat_offset, bytes(boot.fat_size))
    filesystem = opened(image)
    assert run_sync(filesystem.listdir(1)) == expected
    data = run_sync(filesystem.data(run_sync(find(filesystem, b"size 100001")).ino))
    assert data.size == 100_001
    (warning,) = filesystem.info.warnings
    assert "number 2" in warning


def test_no_good_fat(image: Image) -> None:
    boot = decode_boot(image.data[:512])
    image.set(boot.fat_offset, bytes(2 * boot.fat_size))
    filesystem = opened(image)
    assert len(filesystem.info.warnings) == 2
    with pytest.raises(Corrupt, match="free cluster"):
        run_sync(filesystem.listdir(1))


def test_the_active_fat_counts(image: Image) -> None:
    expected = run_sync(opened(image).listdir(1))
    boot = decode_boot(image.data[:512])
    image.set(boot.fat_offset + 8, bytes(boot.fat_size - 8))
    image.set(40, (0x81).to_bytes(2, "little"))
    filesystem = opened(image)
    assert run_sync(filesystem.listdir(1)) == expected
    assert filesystem.info.warnings == ()


def test_dirty_volumes(image: Image, floppy: fat.FatVolume) -> None:
    for place in ("state", "entry"):
        changed = Image(image.data)
        if place == "state":
            changed.set(65, b"\x01")
        else:
            set_entry(changed, 1, 0x07FF_FFFF)
        assert "dirty" in opened(changed).info.warnings[0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "free"),
        (1, "outside"),
        (0x0FFF_FFF7, "bad"),
        (0x0FFF_FFF0, "outside"),
        (-1, "loop"),
        (0x0FFF_FFFF, "ends early"),
    ],
)
def test_a_chain_that_is_damaged(image: Image, value: int, message: str) -> None:
    ino = run_sync(find(opened(image), b"size 65536")).ino
    first = first_cluster(image, ino)
    set_entry(image, first + 5, first + 2 if value < 0 else value)
    filesystem = opened(image)
    with pytest.raises(Corrupt, match=message):
        run_sync(filesystem.data(ino))
    assert run_sync(filesystem.attrs(ino)).size == 65536
    assert run_sync(filesystem.data(run_sync(find(filesystem, b"size 65535")).ino)).size == 65535


def test_a_cross_linked_file_is_read_as_its_chain_says(image: Image) -> None:
    one, two = (run_sync(find(opened(image), name)).ino for name in (b"size 65535", b"size 65536"))
    set_entry(image, first_cluster(image, one), first_cluster(image, two) + 1)
    data = run_sync(opened(image).data(one))
    assert data.size == 65535


def test_a_size_beyond_the_chain(image: Image) -> None:
    ino = run_sync(find(opened(image), b"size 513")).ino
    image.set(ino * 32 + 28, (1025).to_bytes(4, "little"))
    with pytest.raises(Corrupt, match="ends early"):
        run_sync(opened(image).data(ino))
    image.set(ino * 32 + 28, b"\xff\xff\xff\xff")
    with pytest.raises(Corrupt, match="more clusters"):
        run_sync(opened(image).data(ino))
    image.set(ino * 32 + 20, bytes(2))
    image.set(ino * 32 + 26, bytes(2))
    image.set(ino * 32 + 28, (1).to_bytes(4, "little"))
    with pytest.raises(Corrupt, match="first cluster"):
        run_sync(opened(image).data(ino))


def test_directories_that_are_damaged(image: Image) -> None:
    folder = run_sync(find(opened(image), b"some")).ino
    first = first_cluster(image, folder)
    for value, message in ((first, "loop"), (0, "free")):
        set_entry(image, first, value)
        with pytest.raises(Corrupt, match=message):
            run_sync(opened(image).listdir(folder))
    boot = decode_boot(image.data[:512])
    last = boot.clusters - 5000
    for cluster in range(last, last + 4999):
        set_entry(image, cluster, cluster + 1)
    set_entry(image, last + 4999, 0x0FFF_FFFF)
    set_entry(image, first, last)
    with pytest.raises(Corrupt, match="too long"):
        run_sync(opened(image).listdir(folder))
    image.set(folder * 32 + 20, bytes(2))
    image.set(folder * 32 + 26, bytes(2))
    with pytest.raises(Corrupt, match="without clusters"):
        run_sync(opened(image).listdir(folder))


@pytest.mark.requirement("R23")
def test_a_truncated_volume(pristine: bytes) -> None:
    image = Image(pristine[: len(pristine) // 2])
    filesystem = opened(image)
    assert "only" in filesystem.info.warnings[0]
    assert len(run_sync(filesystem.listdir(1))) > 10


@pytest.mark.requirement("R23")
@pytest.mark.parametrize("size", [0, 1, 511, 512, 600])
def test_next_to_nothing(pristine: bytes, size: int) -> None:
    with pytest.raises(ParseError):
        run_sync(open_fat(BytesReader(pristine[:size])))


def test_other_formats(tmp_path: Path) -> None:
    mbr = bytearray(512)
    mbr[:3], mbr[510:] = b"\xeb\x63\x90", b"\x55\xaa"
    ntfs = bytearray(512)
    ntfs[:16], ntfs[510:] = b"\xeb\x52\x90NTFS    \0\2\x08\0\0", b"\x55\xaa"
    for data in (mbr, ntfs, bytes(512), b"\x55\xaa" * 256):
        with pytest.raises(NotRecognised):
            run_sync(open_fat(BytesReader(bytes(data) + bytes(1 << 20))))


async def use_all(filesystem: FatFilesystem) -> int:
    """Use everything that can be reached; return how much of it worked."""
    worked, todo = 0, [filesystem.root]
    seen: set[int] = set()
    while todo and len(seen) < 3000:
        ino = todo.pop()
        if ino in seen:
            continue
        seen.add(ino)
        try:
            entries = await filesystem.listdir(ino)
        except ParseError:
            continue
        for found in entries[:500]:
            try:
                await filesystem.lookup(ino, found.name)
                if found.kind == stat.S_IFDIR:
                    todo.append(found.ino)
                else:
                    data = await filesystem.data(found.ino)
                    assert data.valid == data.size
                worked += 1
            except ParseError:
                continue
    return worked


@pytest.mark.requirement("R22")
@pytest.mark.parametrize("seed", range(40))
def test_mutations(pristine: bytes, floppy: fat.FatVolume, seed: int) -> None:
    chosen = random.Random(seed)
    image = Image(floppy.image.read_bytes() if seed % 4 == 3 else pristine)
    boot = decode_boot(image.data[:512])
    for _ in range(chosen.choice((5, 50, 500))):
        kind = chosen.random()
        if kind < 0.02:
            at = chosen.randrange(0, 90)
        elif kind < 0.4:
            at = boot.fat_offset + chosen.randrange(4000)
        else:
            at = (boot.root_offset or boot.data_offset) + chosen.randrange(600 << 10)
        value = chosen.choice((b"\0", b"\xff", b"\x10", chosen.randbytes(1), chosen.randbytes(4)))
        image.set(at, value)
    if seed % 8 == 7:
        image.size = chosen.randrange(image.size)
    try:
        filesystem = opened(image)
    except ParseError:
        return
    assert run_sync(use_all(filesystem)) >= 0
    assert image.reads < MAX_READS
    assert image.bytes_read < MAX_BYTES
