"""Addresses against dissect.vmfs's, and those that are refused."""

from __future__ import annotations

import random

import pytest
from dissect.vmfs import address as theirs

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.vmfs.address import (
    decode_descriptor_address,
    decode_file_block,
    decode_resource_address,
)
from vmount.parsers.vmfs.fs_info import Config, FsInfo, Version

MIB = 1 << 20
ROUNDS = 500


def header(version: Version, config: int = Config.DENSE_SUB_BLOCKS) -> FsInfo:
    return FsInfo(
        version=version,
        minor_version=81,
        local=False,
        uuid="",
        label="",
        block_size=MIB,
        sub_block_size=8192,
        config=config,
        pb2_descriptor=0,
        pb2_offset=0,
        fdc_group_offset=65536,
        fdc_clusters_per_group=64,
        alignment=4096,
        large_block_shift=9,
    )


FIVE, SIX = header(Version.VMFS5), header(Version.VMFS6)


def test_file_descriptors() -> None:
    dice = random.Random(1)
    for _ in range(ROUNDS):
        cluster, number = dice.randrange(1 << 16), dice.randrange(1 << 10)
        decoded = decode_descriptor_address(theirs.FileDescriptorAddr.make(cluster, number))
        assert decoded[1:] == (cluster, number)
    for wrong in (0, 5, 0x0C, 1 << 32 | 4, -1):
        with pytest.raises(Corrupt):
            decode_descriptor_address(wrong)


@pytest.mark.parametrize("kind", [theirs.PointerBlockAddr, theirs.PointerBlock2Addr])
def test_pointer_blocks_5(kind: type[theirs.PointerBlockAddr]) -> None:
    dice = random.Random(2)
    for _ in range(ROUNDS):
        cluster, number = dice.randrange(1 << 22), dice.randrange(16)
        address = kind.make(cluster, number, dice.randrange(2))
        assert decode_resource_address(address, FIVE)[1:] == (cluster, number)
    with pytest.raises(Unsupported, match="unknown bits 0x8"):
        decode_resource_address(kind.make(1, 1) | 8, FIVE)


def test_sub_blocks_5() -> None:
    dice = random.Random(3)
    for _ in range(ROUNDS):
        address = dice.randrange(1 << 32) & ~7 | 2
        expected = theirs.SubBlockAddr.parse(address, dense=True)
        assert decode_resource_address(address, FIVE)[1:] == expected
    with pytest.raises(Unsupported, match="unknown bits 0x10"):
        decode_resource_address(0x12, header(Version.VMFS5, config=0))


@pytest.mark.parametrize(
    "kind", [theirs.SubBlockAddr64, theirs.PointerBlockAddr64, theirs.PointerBlock2Addr64]
)
def test_resources_6(kind: type[theirs.SubBlockAddr64]) -> None:
    dice = random.Random(4)
    for _ in range(ROUNDS):
        cluster, number = dice.randrange(1 << 36), dice.randrange(1 << 8)
        address = kind.make(cluster, number, dice.randrange(2))
        assert decode_resource_address(address, SIX)[1:] == (cluster, number)
    for bit in (3, 4, 42, 55):
        with pytest.raises(Unsupported, match="unknown bits"):
            decode_resource_address(kind.make(1, 1) | 1 << bit, SIX)


def test_file_blocks() -> None:
    dice = random.Random(5)
    for _ in range(ROUNDS):
        block, zeroed, cow = dice.randrange(1 << 26), dice.randrange(2), dice.randrange(2)
        five = decode_file_block(theirs.FileBlockAddr.make(block, cow, zeroed), FIVE, MIB)
        assert five == (block * MIB, MIB, bool(zeroed))
        cluster, number = dice.randrange(1 << 31), dice.randrange(512)
        small = theirs.SmallFileBlockAddr.make(cluster, number, cow, 0xFF * zeroed)
        assert decode_file_block(small, SIX, MIB) == (
            (cluster * 512 + number) * MIB,
            MIB,
            bool(zeroed),
        )
        large = theirs.LargeFileBlockAddr.make(block, cow, 0xFF * zeroed)
        assert decode_file_block(large, SIX, MIB) == (block * 512 * MIB, 512 * MIB, bool(zeroed))


def test_blocks_that_are_to_be_zeroed_in_part_are_refused() -> None:
    address = theirs.SmallFileBlockAddr.make(1, 1, tbz=0x0F)
    assert decode_file_block(address, SIX, MIB).zeroed
    with pytest.raises(Unsupported, match="must be zeroed in part"):
        decode_file_block(address, SIX, MIB // 8)
    with pytest.raises(Unsupported, match="must be zeroed in part"):
        decode_file_block(theirs.LargeFileBlockAddr.make(1, tbz=1), SIX, MIB)


@pytest.mark.parametrize(
    ("address", "info", "error"),
    [
        (0x7, FIVE, Unsupported),
        (0x4, FIVE, Unsupported),
        (0x6, SIX, Unsupported),
        (0x9, FIVE, Unsupported),
        (0x9, SIX, Unsupported),
        (0x41, SIX, Unsupported),
        (1 << 63 | 7, SIX, Unsupported),
        (theirs.SmallFileBlockAddr.make(0, 512), SIX, Corrupt),
    ],
)
def test_what_is_not_known_is_refused(address: int, info: FsInfo, error: type[Exception]) -> None:
    with pytest.raises(error):
        decode_file_block(address, info, MIB)
