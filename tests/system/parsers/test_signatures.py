"""Volumes are named, labelled and identified as blkid does it."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest

from fixtures.partitions import MIB, blank
from fixtures.signatures import (
    MADE,
    blkid,
    lvm_label,
    make,
    md_superblock_0,
    md_superblock_1,
)
from tests.support.parsers.disk_reader import CountingReader, FileReader
from vmount.parsers.errors import NotRecognised, ParseError
from vmount.parsers.partition.table import read_partition_table
from vmount.parsers.reader import BytesReader, run_sync
from vmount.parsers.signatures import HEAD, KIB, Signature, identify

SIZE = 4 * MIB
VMFS = b"\x0d\xd0\x01\xc0"
FORGED: dict[str, list[tuple[int, bytes]]] = {
    "RAID 1.1": [(0, md_superblock_1(0))],
    "RAID 1.2": [(4096, md_superblock_1(4096))],
    "RAID 1.0": [(SIZE - 8192, md_superblock_1(SIZE - 8192))],
    "RAID 0.90": [(SIZE - 65536, md_superblock_0(SIZE // 512))],
    "LVM2": [(512, lvm_label())],
    "VMFS member": [(MIB, VMFS)],
    "VMFS": [(2 * MIB, b"\x5e\xf1\xab\x2f")],
    "ReFS": [(0, b"\0\0\0ReFS\0\0\0\0\0\0\0\0FSRS")],
    "hibernation": [(4086, b"S1SUSPEND")],
    "ceph": [(0, b"bluestore block device")],
    "vdo": [(0, b"dmvdo001")],
    "squashfs": [(0, b"hsqs".ljust(28, b"\0") + b"\4\0")],
    "oracle": [(32, b"ORCLDISK")],
    "nothing": [],
}
"""What takes a kernel or another system to make: as much of it as blkid looks at."""


@pytest.mark.parametrize("name", MADE)
def test_what_a_tool_made_is_named_as_by_blkid(tmp_path: Path, name: str) -> None:
    volume = make(name, tmp_path / "volume")
    expected = blkid(volume)
    found = run_sync(identify(FileReader(volume)))
    assert expected[0]
    assert found == expected


@pytest.mark.parametrize("name", MADE)
def test_a_disk_that_one_file_system_fills_has_no_partition_table(
    tmp_path: Path, name: str
) -> None:
    volume = make(name, tmp_path / "volume")
    with pytest.raises(NotRecognised):
        run_sync(read_partition_table(FileReader(volume)))


@pytest.mark.parametrize("name", ["ext4", "xfs", "btrfs", "luks2"])
def test_boot_code_in_front_of_a_file_system_is_no_partition_table(
    tmp_path: Path, name: str
) -> None:
    volume = make(name, tmp_path / "volume")
    with volume.open("r+b") as image:
        image.seek(510)
        image.write(b"\x55\xaa")
    with pytest.raises(NotRecognised, match=blkid(volume)[0]):
        run_sync(read_partition_table(FileReader(volume)))


@pytest.mark.parametrize("name", FORGED)
def test_what_was_forged_is_named_as_by_blkid(tmp_path: Path, name: str) -> None:
    volume = blank(tmp_path / "volume", SIZE)
    with volume.open("r+b") as image:
        for offset, data in FORGED[name]:
            image.seek(offset)
            image.write(data)
    assert (run_sync(identify(FileReader(volume))) or ("", "", "")) == blkid(volume)


@pytest.mark.parametrize(
    ("offset", "magic", "name"),
    [
        (6 * 512, b"PRIVHEAD", "ldm"),
        (SIZE - 512, b"PRIVHEAD", "ldm"),
        (0, b"SPACEDB ", "storage_spaces"),
        (3, b"-FVE-FS-", "BitLocker"),
        (32, b"NXSB", "apfs"),
        (1024, b"H+\0\4", "hfsplus"),
        (128 * 1024, b"\x0c\xb1\xba\0\0\0\0\0", "zfs_member"),
    ],
)
def test_what_blkid_wants_more_of_or_does_not_know(offset: int, magic: bytes, name: str) -> None:
    volume = bytearray(SIZE)
    volume[offset : offset + len(magic)] = magic
    assert run_sync(identify(BytesReader(volume))) == Signature(name, "", "")


def test_little_is_read() -> None:
    reader = CountingReader(bytes(8 * MIB))
    assert run_sync(identify(reader)) is None
    assert reader.reads <= 5
    assert reader.bytes < 512 * KIB


def test_mutations_and_truncations_give_a_value(tmp_path: Path) -> None:
    rng = random.Random(2)
    for name in ("ext4", "fat16", "fat32", "ntfs", "exfat", "luks2", "iso9660", "swap"):
        original = make(name, tmp_path / name).read_bytes()[:MIB]
        for _ in range(60):
            image = bytearray(original[: rng.choice([len(original), rng.randrange(HEAD)])])
            for _ in range(rng.randint(0, 8) if image else 0):
                image[rng.randrange(min(len(image), 2048))] = rng.randrange(256)
            found = run_sync(identify(BytesReader(image)))
            assert found is None or found.name
            with contextlib.suppress(ParseError):
                run_sync(read_partition_table(BytesReader(image)))


def test_every_forged_header_may_be_cut_anywhere() -> None:
    for parts in FORGED.values():
        for offset, data in parts:
            for keep in (4, 8, 12, 16, 32, len(data) - 1):
                image = bytes(offset) + data[:keep]
                found = run_sync(identify(BytesReader(image)))
                assert found is None or found.name
