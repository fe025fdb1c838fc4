"""MBR partitions are numbered, placed and typed as sfdisk and fdisk have them."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest

from fixtures.partitions import MIB, blank, disk_id, fdisk, fdisk_ranges, listing, sfdisk
from tests.support.parsers.disk_reader import CountingReader, FileReader
from vmount.parsers.errors import NotRecognised, ParseError
from vmount.parsers.partition import mbr
from vmount.parsers.partition.table import PartitionTable, read_partition_table
from vmount.parsers.reader import BytesReader, run_sync

PRIMARY = "label: dos\nlabel-id: 0xdeadbeef\n"
LOGICAL = (
    PRIMARY
    + """
1 : start=2048, size=4096, type=7, bootable
2 : start=6144, size=60000, type=5
3 : start=70000, size=2048, type=83
5 : start=8192, size=2048, type=7
6 : start=12288, size=2048, type=83
7 : start=20480, size=4096, type=8e
"""
)


def read(path: Path, sector_size: int = 512) -> PartitionTable:
    return run_sync(read_partition_table(FileReader(path), sector_size=sector_size))


def assert_as_sfdisk(path: Path) -> PartitionTable:
    table = read(path)
    assert table.disk_id == disk_id(path)
    assert [
        (p.number, p.offset, p.length, p.type, p.guid or "", p.name, p.bootable)
        for p in table.partitions
    ] == listing(path)
    return table


@pytest.mark.parametrize(
    "script",
    [
        PRIMARY + "start=2048, size=4096, type=c, bootable\n",
        PRIMARY + "".join(f"size=2048, type={kind}\n" for kind in ("7", "83", "82", "fd")),
        LOGICAL,
        PRIMARY + "4 : start=2048, size=2048, type=42\n2 : start=8192, size=2048, type=fb\n",
        PRIMARY + "type=f\n" + "".join(f"size=2048, type={83}\n" for _ in range(40)),
        PRIMARY + "type=85\nsize=2048, type=83\n",
    ],
    ids=["one", "four", "logical", "gaps", "forty logical", "linux extended"],
)
def test_partitions_as_sfdisk_lists_them(tmp_path: Path, script: str) -> None:
    table = assert_as_sfdisk(sfdisk(blank(tmp_path / "disk", 200 * MIB), script))
    assert table.scheme == "mbr"
    assert table.sector_size == 512
    assert [p.problem for p in table.partitions] == [None] * len(table.partitions)
    assert table.warnings == ()


def test_a_deleted_logical_partition_leaves_a_gap_in_the_chain_and_none_in_the_numbers(
    tmp_path: Path,
) -> None:
    disk = sfdisk(blank(tmp_path / "disk", 100 * MIB), LOGICAL)
    fdisk(disk, "d\n5\nw\n", sector_size=512)
    assert [p.number for p in assert_as_sfdisk(disk).partitions] == [1, 3, 5, 6]


def test_names_and_part_uuid(tmp_path: Path) -> None:
    table = read(sfdisk(blank(tmp_path / "disk", 100 * MIB), LOGICAL))
    assert [p.type_name for p in table.partitions][:2] == ["NTFS, exFAT or HPFS", "Linux"]
    assert [table.part_uuid(p) for p in table.partitions][-1] == "deadbeef-07"


def test_sectors_of_4096_bytes_as_fdisk_lists_them(tmp_path: Path) -> None:
    commands = "o\nn\np\n1\n\n+1M\nn\ne\n2\n\n\nn\n\n+1M\nn\n\n+2M\nw\n"
    disk = fdisk(blank(tmp_path / "disk", 100 * MIB), commands, sector_size=4096)
    found = [(p.number, p.offset, p.length) for p in read(disk, 4096).partitions]
    assert found == fdisk_ranges(disk, sector_size=4096)
    assert len(found) == 3


@pytest.mark.requirement("R37")
def test_the_last_sector_that_an_mbr_can_name(tmp_path: Path) -> None:
    disk = sfdisk(blank(tmp_path / "disk", 5 << 40), PRIMARY + "size=2048\nsize=2048\n")
    with disk.open("r+b") as image:
        image.seek(446 + 16)
        image.write(_entry(0x83, 2**32 - 2, 2**32 - 1))
    table = assert_as_sfdisk(disk)
    assert table.partitions[1].end == (2**33 - 3) * 512
    assert table.partitions[1].problem is None


@pytest.mark.requirement("R33")
def test_a_clone_has_the_same_table(tmp_path: Path) -> None:
    original = sfdisk(blank(tmp_path / "disk", 100 * MIB), LOGICAL)
    clone = tmp_path / "clone"
    clone.write_bytes(original.read_bytes())
    assert read(original) == read(clone)


def test_an_empty_table_is_a_table(tmp_path: Path) -> None:
    assert assert_as_sfdisk(sfdisk(blank(tmp_path / "disk", MIB), PRIMARY)).partitions == ()


def test_a_disk_that_lost_its_end_lists_what_it_lost(tmp_path: Path) -> None:
    disk = sfdisk(
        blank(tmp_path / "disk", 100 * MIB), PRIMARY + "size=20480\nsize=20480\nsize=2048"
    )
    blank_end = 2048 * 512 + 20480 * 512 + MIB
    with disk.open("r+b") as image:
        image.truncate(blank_end)
    problems = [p.problem or "" for p in read(disk).partitions]
    assert problems[0] == ""
    assert problems[1].startswith(f"reaches {20480 * 512 - MIB} bytes past the end of the disk")
    assert "past the end of the disk" in problems[2]


def test_partitions_that_overlap_name_each_other() -> None:
    disk = _disk(_entry(7, 8, 8), _entry(7, 12, 8), _entry(7, 20, 4), _entry(0x83, 9, 1))
    problems = [p.problem for p in run_sync(read_partition_table(BytesReader(disk))).partitions]
    assert problems == [
        "overlaps partition 4",
        "overlaps partition 1",
        None,
        "overlaps partition 1",
    ]


@pytest.mark.parametrize(
    ("links", "warning"),
    [
        ({8: 4, 12: 4}, "has a cycle"),
        ({8: -8}, "has a cycle"),
        ({8: 1 << 20}, "read beyond the end"),
        ({8: 4}, "without 0x55AA"),
    ],
    ids=["loop", "to the MBR", "off the disk", "to nothing"],
)
def test_a_damaged_chain_keeps_what_comes_before(links: dict[int, int], warning: str) -> None:
    disk = bytearray(_disk(_entry(5, 8, 32)))
    for at, distance in links.items():
        record = _record(_entry(0x83, 1, 1), _entry(5, distance % 2**32, 4))
        disk[at * 512 : at * 512 + 512] = record
    if -8 in links.values():
        disk[446:462] = _entry(5, 8, 2**32 - 1)
        disk[8 * 512 + 462 : 8 * 512 + 478] = _entry(5, 0, 4)
    table = run_sync(read_partition_table(BytesReader(disk)))
    assert [p.number for p in table.partitions][:1] == [5]
    assert warning in table.warnings[0]


def test_an_endless_chain_is_left() -> None:
    record = _record(_entry(5, 0, 1))
    disk = bytearray(_disk(_entry(5, 1, 4000)) + bytes(4000 * 512))
    for at in range(1, 3999):
        disk[at * 512 : at * 512 + 512] = record[:446] + _entry(5, at, 1) + record[462:]
    reader = CountingReader(disk)
    table = run_sync(read_partition_table(reader))
    assert "too long" in table.warnings[0]
    assert reader.reads <= mbr.MAX_RECORDS + 1


def test_more_logical_partitions_than_there_are_numbers() -> None:
    disk = bytearray(_disk(_entry(5, 1, 1000)) + bytes(1000 * 512))
    for index in range(400):
        at = 1 + 2 * index
        record = _record(_entry(0x83, 1, 1), _entry(5, 2 * index + 2, 2))
        disk[at * 512 : at * 512 + 512] = record
    table = run_sync(read_partition_table(BytesReader(disk)))
    assert [p.number for p in table.partitions] == list(range(5, 256))
    assert "more logical partitions" in table.warnings[0]


def test_mutations_cost_a_value_or_a_parse_error(tmp_path: Path) -> None:
    original = sfdisk(blank(tmp_path / "disk", 40 * MIB), LOGICAL).read_bytes()[: 36 * MIB]
    rng = random.Random(5)
    records = [at * 512 for at in (0, *(sector for sector in range(6144, 16384, 1024)))]
    disk = bytearray(original)
    for _ in range(400):
        undo = []
        for _ in range(rng.randint(1, 6)):
            at = rng.choice(records) + rng.randint(440, 511)
            undo.append((at, disk[at]))
            disk[at] = rng.randrange(256)
        reader = CountingReader(disk)
        with contextlib.suppress(ParseError):
            run_sync(read_partition_table(reader))
        assert reader.reads < mbr.MAX_RECORDS + 10
        for at, value in reversed(undo):
            disk[at] = value


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 4096])
def test_a_disk_too_small_or_blank(size: int) -> None:
    with pytest.raises(NotRecognised):
        run_sync(read_partition_table(BytesReader(bytes(size))))


def _entry(kind: int, first: int, sectors: int) -> bytes:
    return mbr.ENTRY.build(type=kind, first_lba=first, sectors=sectors)


def _record(*entries: bytes) -> bytes:
    return mbr.BOOT_RECORD.build(entries=b"".join(entries).ljust(64, b"\0"), magic=0xAA55)


def _disk(*entries: bytes) -> bytes:
    return _record(*entries) + bytes(63 * 512)
