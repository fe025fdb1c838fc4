"""GPT partitions are read as sfdisk, sgdisk and fdisk have them, from either copy of the table."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.partitions import MIB, blank, disk_id, fdisk, fdisk_ranges, listing, sgdisk
from fixtures.programs import run
from tests.support.parsers.disk_reader import CountingReader, FileReader
from vmount.parsers.errors import Corrupt, NotRecognised, ParseError
from vmount.parsers.partition import gpt
from vmount.parsers.partition.model import Partition, checked
from vmount.parsers.partition.table import PartitionTable, read_partition_table
from vmount.parsers.reader import BytesReader, run_sync

TIB = 1 << 40
OPTIONS = [
    "-n1:2048:+1M",
    "-t1:ef00",
    "-c1:EFI system",
    "-n2:0:+2M",
    "-t2:0c01",
    "-n4:0:+3M",
    "-t4:0700",
    "-c4:Grüße \N{CAT FACE}",
    "-A4:set:2",
    "-n128:0:0",
    "-t128:8e00",
]


SIZE = 16 * MIB


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sgdisk(blank(tmp_path_factory.mktemp("gpt") / "disk", SIZE), *OPTIONS)


@pytest.fixture
def disk(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copyfile(pristine, tmp_path / "disk"))


def read(path: Path) -> PartitionTable:
    return run_sync(read_partition_table(FileReader(path)))


def assert_as_sfdisk(path: Path) -> PartitionTable:
    table = read(path)
    assert table.scheme == "gpt"
    assert table.disk_id == disk_id(path)
    assert [
        (p.number, p.offset, p.length, p.type, p.guid, p.name, p.bootable) for p in table.partitions
    ] == listing(path)
    return table


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as image:
        image.seek(offset)
        image.write(data)


@pytest.mark.requirement("R1")
def test_partitions_as_sfdisk_lists_them(disk: Path) -> None:
    table = assert_as_sfdisk(disk)
    assert [p.number for p in table.partitions] == [1, 2, 4, 128]
    assert [p.type_name for p in table.partitions] == [
        "EFI system",
        "Microsoft reserved",
        "Microsoft basic data",
        "Linux LVM",
    ]
    assert table.warnings == ()
    assert table.part_uuid(table.partitions[0]) == table.partitions[0].guid


def test_partitions_as_sgdisk_lists_them(disk: Path) -> None:
    printed = re.findall(r"^ +(\d+) +(\d+) +(\d+) ", run("sgdisk", "-p", str(disk)), re.MULTILINE)
    assert [(p.number, p.offset // 512, p.end // 512 - 1) for p in read(disk).partitions] == [
        tuple(map(int, row)) for row in printed
    ]


@pytest.mark.requirement("R1")
@pytest.mark.parametrize("offset", [512, 512 + 40, 1024, 1024 + 3 * 128 + 60])
def test_the_backup_serves_when_the_primary_is_damaged(disk: Path, offset: int) -> None:
    expected = read(disk)
    overwrite(disk, offset, bytes(512) if offset == 512 else b"\x5a\xa5")
    table = read(disk)
    assert table.partitions == expected.partitions
    assert "its backup is used" in table.warnings[0]
    assert [(p.number, p.offset, p.length) for p in table.partitions] == [
        row[:3] for row in listing(disk)
    ]


@pytest.mark.requirement("R1")
def test_both_copies_damaged_is_an_error_that_names_both(disk: Path) -> None:
    overwrite(disk, 512 + 40, b"\xff")
    overwrite(disk, SIZE - 512 + 40, b"\xff")
    with pytest.raises(Corrupt, match=r"no copy.*checksum at 0x200.*checksum at 0xfffe00"):
        read(disk)


def test_a_protective_mbr_without_any_gpt(disk: Path) -> None:
    overwrite(disk, 512, bytes(512))
    overwrite(disk, SIZE - 512, bytes(512))
    with pytest.raises(Corrupt, match="the disk has none"):
        read(disk)


def test_a_whole_primary_counts_without_its_mbr_and_a_backup_does_not(disk: Path) -> None:
    expected = read(disk)
    overwrite(disk, 0, bytes(512))
    table = read(disk)
    assert table.partitions == expected.partitions
    assert table.warnings == ("the protective MBR is missing",)
    overwrite(disk, 512, bytes(512))
    with pytest.raises(NotRecognised):
        read(disk)


def test_a_gpt_behind_an_mbr_of_its_own_is_stale(disk: Path) -> None:
    entry = struct.pack("<B3xB3xII", 0, 0x83, 2048, 4096)
    overwrite(disk, 446, entry)
    assert read(disk).scheme == "mbr"


@pytest.mark.requirement("R1")
def test_a_hybrid_mbr_leads_to_the_gpt(disk: Path) -> None:
    sgdisk(disk, "-h", "1:4")
    table = read(disk)
    assert [p.number for p in table.partitions] == [1, 2, 4, 128]
    assert "hybrid MBR" in table.warnings[0]


@pytest.mark.requirement("R1")
def test_more_than_128_entries(tmp_path: Path) -> None:
    numbers = [n for number in range(1, 201) for n in (f"-n{number}:0:+64K",)]
    disk = sgdisk(blank(tmp_path / "disk", 64 * MIB), "-o", "-S", "256", "-a", "1", *numbers)
    table = assert_as_sfdisk(disk)
    assert len(table.partitions) == 200
    overwrite(disk, 512, bytes(512))
    assert read(disk).partitions == table.partitions


@pytest.mark.requirement("R1")
def test_entries_larger_than_128_bytes(disk: Path) -> None:
    expected = read(disk)
    image = bytearray(disk.read_bytes())
    array = image[1024 : 1024 + 128 * 128]
    wide = b"".join(bytes(array[at : at + 128]).ljust(256, b"\xee") for at in range(0, 8192, 128))
    image[1024 : 1024 + len(wide)] = wide
    _rewrite_header(image, entry_count=64, entry_size=256, array_crc=zlib.crc32(wide))
    table = run_sync(read_partition_table(BytesReader(image)))
    assert table.partitions == expected.partitions[:3]
    assert table.warnings == ()


@pytest.mark.requirement("R1")
def test_sectors_of_4096_bytes_as_fdisk_lists_them(tmp_path: Path) -> None:
    commands = "g\nn\n1\n\n+1M\nn\n9\n\n+2M\nn\n128\n\n\nw\n"
    disk = fdisk(blank(tmp_path / "disk", 100 * MIB), commands, sector_size=4096)
    table = read(disk)
    found = [(p.number, p.offset, p.length) for p in table.partitions]
    assert found == fdisk_ranges(disk, sector_size=4096)
    assert table.sector_size == 4096
    overwrite(disk, 4096, bytes(4096))
    assert read(disk).partitions == table.partitions


def test_what_a_smaller_sector_left_behind_is_not_taken_for_the_table(
    pristine: Path, tmp_path: Path
) -> None:
    """A disk first used with sectors of 512 bytes, then with 4096: the old header is whole still."""
    commands = "g\nn\n1\n\n+1M\nn\n9\n\n+2M\nw\n"
    disk = fdisk(blank(tmp_path / "disk", SIZE), commands, sector_size=4096)
    expected = read(disk)
    overwrite(disk, 512, pristine.read_bytes()[512:4096])
    assert read(disk) == expected


@pytest.fixture
def huge() -> Iterator[Path]:
    """A folder in memory: files on ext4 end at 16 TiB."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.mark.requirement("R37")
@pytest.mark.parametrize("size", [2 * TIB - 512, 2 * TIB, 2 * TIB + 512, 62 * TIB])
def test_large_disks(huge: Path, size: int) -> None:
    options = ("-n1:0:+1G", "-n2:-1M:0", "-c2:the last")
    disk = sgdisk(blank(huge / "disk", size), *options)
    table = assert_as_sfdisk(disk)
    assert table.partitions[1].end > size - MIB
    assert table.partitions[1].problem is None
    overwrite(disk, 512, bytes(512))
    assert read(disk).partitions == table.partitions


def test_a_disk_that_grew(disk: Path) -> None:
    expected = read(disk)
    with disk.open("r+b") as image:
        image.truncate(SIZE + 16 * MIB)
    table = read(disk)
    assert table.partitions == expected.partitions
    assert table.warnings == (f"the disk is {16 * MIB} bytes longer than its GPT says",)
    overwrite(disk, 512, bytes(512))
    assert read(disk).partitions == expected.partitions


def test_a_disk_whose_end_is_missing(disk: Path) -> None:
    expected = read(disk)
    with disk.open("r+b") as image:
        image.truncate(8 * MIB)
    table = read(disk)
    assert table.warnings == (f"the disk is {8 * MIB} bytes shorter than its GPT says",)
    assert table.partitions[:3] == expected.partitions[:3]
    assert "past the end of the disk" in (table.partitions[3].problem or "")


def test_entries_that_cannot_be_right_have_a_problem() -> None:
    def entry(first: int, last: int) -> bytes:
        return gpt.ENTRY.build(type_guid=b"t" * 16, first_lba=first, last_lba=last)

    array = entry(100, 99) + entry(100, 50) + entry(100, 2**64 - 1) + entry(10, 20) + entry(20, 30)
    partitions = checked(gpt.decode_entries(array, 128, 512), MIB)
    problems = [p.problem or "" for p in partitions]
    assert problems[0] == problems[1] == "ends before it starts"
    assert "past the end of the disk" in problems[2]
    assert problems[3:] == ["overlaps partition 5", "overlaps partition 4"]


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=12),
)
def test_overlaps_are_those_that_comparing_all_pairs_finds(ranges: list[tuple[int, int]]) -> None:
    partitions = [
        Partition(number, offset, length, "", "", "", None, False, None)
        for number, (offset, length) in enumerate(ranges, 1)
    ]
    for partition in checked(partitions, 1000):
        others = {
            f"overlaps partition {other.number}"
            for other in partitions
            if other.number != partition.number
            and other.offset < partition.end
            and partition.offset < other.end
        }
        assert (partition.problem in others) if others else (partition.problem is None)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("entry_count", 1 << 30, "array size"),
        ("entry_size", 64, "entry size"),
        ("entry_size", 129, "entry size"),
        ("my_lba", 7, "own position"),
        ("array_lba", 1 << 60, "read beyond the end"),
        ("header_size", 4000, "header size"),
        ("header_size", 20, "header size"),
    ],
)
def test_a_header_that_lies_is_refused(disk: Path, field: str, value: int, message: str) -> None:
    image = bytearray(disk.read_bytes())
    _rewrite_header(image, **{field: value})
    image[-512:] = bytes(512)
    with pytest.raises(Corrupt, match=message):
        run_sync(read_partition_table(BytesReader(image)))


def test_mutations_cost_a_value_or_a_parse_error(disk: Path) -> None:
    image = bytearray(disk.read_bytes())
    rng = random.Random(1)
    places = [*range(446, 1024 + 512), *range(len(image) - 512, len(image))]
    for _ in range(500):
        undo = [(at, image[at]) for at in rng.sample(places, rng.randint(1, 5))]
        for at, _value in undo:
            image[at] = rng.randrange(256)
        if rng.random() < 0.5:
            _rewrite_header(image)
        reader = CountingReader(image)
        with contextlib.suppress(ParseError):
            run_sync(read_partition_table(reader))
        assert reader.reads < 12
        assert reader.bytes < 3 * gpt.MAX_ARRAY_BYTES
        for at, value in undo:
            image[at] = value


def test_truncated_disks_cost_a_value_or_a_parse_error(disk: Path) -> None:
    image = disk.read_bytes()
    for size in [0, 1, 511, 512, 600, 1023, 1024, 1025, 4096, 8192, 17407, 17408, 20000, MIB]:
        reader = CountingReader(image[:size])
        try:
            table = run_sync(read_partition_table(reader))
        except ParseError:
            continue
        assert size >= 17408
        assert "shorter than its GPT says" in table.warnings[0]


def _rewrite_header(image: bytearray, **changes: int) -> None:
    """Change fields of the primary header and give it the right checksum."""
    parsed = gpt.HEADER.parse(image, 512)
    values = {
        field.name: parsed[field.name] for field in gpt.HEADER.fields if field.name != "reserved"
    }
    header = gpt.HEADER.build(**(values | changes | {"header_crc": 0}))
    image[512 : 512 + len(header)] = header
    covered = image[512 : 512 + min(changes.get("header_size", 92), 512)]
    struct.pack_into("<I", image, 512 + 16, zlib.crc32(covered))
