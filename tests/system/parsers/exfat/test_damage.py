"""Damaged and hostile volumes: an error for what is damaged, everything else as before."""

from __future__ import annotations

import random
import stat
from typing import TYPE_CHECKING

import pytest

from tests.support.parsers.reading import Image, find
from vmount.parsers.errors import Corrupt, NotRecognised, ParseError, Unsupported
from vmount.parsers.exfat import ExfatFilesystem, open_exfat
from vmount.parsers.exfat.boot import decode_boot
from vmount.parsers.exfat.directory import place_of
from vmount.parsers.exfat.entry_set import decode_set, set_checksum
from vmount.parsers.reader import BytesReader, run_sync

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_READS = 20_000
MAX_BYTES = 1 << 30


def opened(image: Image) -> ExfatFilesystem:
    return run_sync(open_exfat(image))


def change_set(image: Image, ino: int, change: Callable[[bytearray], None]) -> None:
    """Change the entries of a file (in one cluster) and make their checksum right."""
    place, _ = place_of(ino)
    count = decode_set(image.data[place : place + 256 * 32]).entries
    raw = image.data[place : place + count * 32]
    change(raw)
    raw[2:4] = set_checksum(bytes(raw)).to_bytes(2, "little")
    image.set(place, bytes(raw))


def nth_cluster(image: Image, cluster: int, index: int) -> int:
    table = decode_boot(image.data[:512]).fat_offset
    for _ in range(index):
        at = table + cluster * 4
        cluster = int.from_bytes(image.data[at : at + 4], "little")
    return cluster


def set_entry(image: Image, cluster: int, value: int) -> None:
    image.set(decode_boot(image.data[:512]).fat_offset + cluster * 4, value.to_bytes(4, "little"))


@pytest.mark.parametrize("damage", ["zero", "ones", "byte", "revision", "checksum"])
def test_backup_of_the_boot_region(image: Image, damage: str) -> None:
    expected = run_sync(opened(image).listdir(1))
    match damage:
        case "zero":
            image.set(0, bytes(12 * 512))
        case "ones":
            image.set(0, b"\xff" * 512)
        case "byte":
            image.set(600, b"\x01")
        case "revision":
            image.set(105, b"\x02")
        case _:
            image.set(11 * 512 + 100, b"\x01\x02")
    filesystem = opened(image)
    assert run_sync(filesystem.listdir(1)) == expected
    (warning,) = filesystem.info.warnings
    assert "backup" in warning


def test_both_boot_regions_damaged(image: Image) -> None:
    image.set(600, b"\x01")
    image.set(12 * 512 + 600, b"\x01")
    with pytest.raises(Corrupt, match="checksum of the boot region"):
        opened(image)
    image.set(0, bytes(512))
    with pytest.raises(NotRecognised):
        opened(image)


def test_what_changes_while_mounted_is_not_summed(image: Image) -> None:
    image.set(106, b"\x06\0")
    image.set(112, b"\x63")
    warnings = opened(image).info.warnings
    assert len(warnings) == 2
    assert "dirty" in warnings[0]
    assert "medium" in warnings[1]


def test_texfat_is_refused(image: Image) -> None:
    for sector in (0, 12):
        image.set(sector * 512 + 110, b"\x02")
    with pytest.raises(Unsupported, match="TexFAT"):
        opened(image)


def test_a_set_with_a_wrong_checksum(image: Image) -> None:
    filesystem = opened(image)
    before = run_sync(filesystem.listdir(1))
    ino = run_sync(find(filesystem, b"size 65536")).ino
    place, _ = place_of(ino)
    image.data[place + 56] ^= 1
    filesystem = opened(image)
    after = run_sync(filesystem.listdir(1))
    assert [entry.name for entry in after] == [entry.name for entry in before]
    (damaged,) = [entry for entry in after if entry.attrs is None]
    assert (damaged.name, damaged.ino) == (b"size 65536", ino)
    with pytest.raises(Corrupt, match="checksum"):
        run_sync(filesystem.attrs(ino))
    with pytest.raises(Corrupt, match="checksum"):
        run_sync(opened(image).data(ino))
    with pytest.raises(Corrupt, match="checksum"):
        run_sync(find(filesystem, b"size 65536"))
    with pytest.raises(Corrupt, match="checksum"):
        run_sync(find(filesystem, b"SIZE 65536"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "free"),
        (1, "outside"),
        (0xFFFF_FFF7, "bad"),
        (0xFFFF_FFF0, "outside"),
        (-1, "loop"),
        (0xFFFF_FFFF, "ends early"),
    ],
)
def test_a_chain_that_is_damaged(image: Image, value: int, message: str) -> None:
    ino = run_sync(find(opened(image), b"pieces/one")).ino
    place, _ = place_of(ino)
    entry = decode_set(image.data[place : place + 256 * 32])
    assert not entry.is_contiguous
    third, sixth = (nth_cluster(image, entry.first_cluster, index) for index in (2, 5))
    set_entry(image, sixth, third if value < 0 else value)
    filesystem = opened(image)
    with pytest.raises(Corrupt, match=message):
        run_sync(filesystem.data(ino))
    assert run_sync(filesystem.attrs(ino)).size == entry.size
    assert run_sync(filesystem.data(run_sync(find(filesystem, b"size 65535")).ino)).size == 65535


@pytest.mark.parametrize("size", [1 << 63, (1 << 64) - 1])
def test_a_size_that_no_file_has_costs_its_entry_only(image: Image, size: int) -> None:
    before = run_sync(opened(image).listdir(1))
    victim = next(entry for entry in before if stat.S_ISREG(entry.kind))

    def grow(raw: bytearray) -> None:
        raw[32 + 24 : 32 + 32] = size.to_bytes(8, "little")

    change_set(image, victim.ino, grow)
    filesystem = opened(image)
    after = run_sync(filesystem.listdir(1))
    assert [entry.name for entry in after] == [entry.name for entry in before]
    assert [entry for entry in after if entry.attrs is None] == [
        victim._replace(kind=0, attrs=None)
    ]
    for use in (filesystem.lookup(1, victim.name), filesystem.attrs(victim.ino)):
        with pytest.raises(Corrupt, match="size of a file"):
            run_sync(use)


def test_contiguous_files_outside_the_volume(image: Image) -> None:
    ino = run_sync(find(opened(image), b"size 65536")).ino
    clusters = decode_boot(image.data[:512]).clusters
    for first, size in ((0, 65536), (1, 65536), (clusters + 1, 513), (5, 1 << 40), (5, (1 << 63))):

        def change(raw: bytearray, first: int = first, size: int = size) -> None:
            raw[33] |= 2
            raw[52:56] = first.to_bytes(4, "little")
            raw[40:48] = raw[56:64] = size.to_bytes(8, "little")

        change_set(image, ino, change)
        with pytest.raises(Corrupt, match="outside the volume"):
            run_sync(opened(image).data(ino))


def test_directories_that_are_damaged(image: Image) -> None:
    ino = run_sync(find(opened(image), b"some")).ino

    def grow(raw: bytearray) -> None:
        raw[40:48] = raw[56:64] = ((256 << 20) + 512).to_bytes(8, "little")

    change_set(image, ino, grow)
    with pytest.raises(Corrupt, match="size of a directory"):
        run_sync(opened(image).listdir(ino))


def test_upcase_table_that_is_damaged(image: Image) -> None:
    boot = decode_boot(image.data[:512])
    root = boot.heap_offset + (boot.root_cluster - 2) * boot.cluster_size
    at = next(at for at in range(root, root + 512, 32) if image.data[at] == 0x82)
    image.data[at + 4] ^= 1
    filesystem = opened(image)
    assert "checksum of the up-case table" in filesystem.info.warnings[0]
    for name in (b"names/mixed CASE", b"names/Mixed Case"):
        assert run_sync(find(filesystem, name)).size == len("Mixed Case")


def test_a_set_across_clusters_by_its_number(image: Image) -> None:
    filesystem = opened(image)
    folder = run_sync(find(filesystem, b"some")).ino
    entries = run_sync(filesystem.listdir(folder))
    crossing = [
        entry
        for entry in entries
        if place_of(entry.ino)[0] % 512 + 32 * (2 + -(-len(entry.name.decode()) // 15)) > 512
    ]
    assert len(crossing) > 20
    for entry in crossing:
        assert run_sync(opened(image).attrs(entry.ino)) == entry.attrs


@pytest.mark.requirement("R23")
def test_a_truncated_volume(pristine: bytes) -> None:
    filesystem = opened(Image(pristine[: len(pristine) - 512]))
    assert "only" in filesystem.info.warnings[0]


@pytest.mark.requirement("R23")
@pytest.mark.parametrize("size", [0, 1, 511, 512, 6000])
def test_next_to_nothing(pristine: bytes, size: int) -> None:
    with pytest.raises(ParseError):
        run_sync(open_exfat(BytesReader(pristine[:size])))


async def use_all(filesystem: ExfatFilesystem) -> int:
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
                elif found.attrs:
                    data = await filesystem.data(found.ino)
                    assert 0 <= data.valid <= data.size
                worked += 1
            except ParseError:
                continue
    return worked


@pytest.mark.requirement("R22")
@pytest.mark.parametrize("seed", range(40))
def test_mutations(pristine: bytes, seed: int) -> None:
    chosen = random.Random(seed)
    image = Image(pristine)
    boot = decode_boot(pristine[:512])
    sets = []
    for at in range(boot.heap_offset, boot.heap_offset + (2 << 20), 32):
        if pristine[at] == 0x85 and pristine[at + 32] == 0xC0:
            sets.append(at)
    assert len(sets) > 300
    for _ in range(chosen.choice((5, 50, 200))):
        kind = chosen.random()
        value = chosen.choice((b"\0", b"\xff", b"\x10", chosen.randbytes(1), chosen.randbytes(4)))
        if kind < 0.02:
            image.set(chosen.randrange(64, 120), value)
        elif kind < 0.4:
            image.set(boot.fat_offset + chosen.randrange(8000), value)
        else:
            at = chosen.choice(sets)
            image.set(at + chosen.randrange(64), value)
            # Most with a checksum that is right, or nothing else would be met.
            raw = bytes(image.data[at : at + (image.data[at + 1] + 1) * 32])
            if chosen.random() < 0.8:
                image.set(at + 2, set_checksum(raw).to_bytes(2, "little"))
    if seed % 8 == 7:
        image.size = chosen.randrange(image.size)
    try:
        filesystem = opened(image)
    except ParseError:
        return
    assert run_sync(use_all(filesystem)) >= 0
    assert image.reads < MAX_READS
    assert image.bytes_read < MAX_BYTES
