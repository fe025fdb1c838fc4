"""Thin volumes and snapshots: damage, hostile trees and tables, bounded reads."""

from __future__ import annotations

import random
import struct

import pytest

from tests.support.parsers.volume_images import CountingReader, builder, load
from vmount.parsers.errors import Corrupt, ParseError, Unsupported
from vmount.parsers.lvm.array_state import is_log_synced
from vmount.parsers.lvm.assemble import LvmVolume, assemble_lvm
from vmount.parsers.lvm.btree import BLOCK, NODE, Nodes, block_checksum, find_leaf
from vmount.parsers.lvm.physical import read_pv
from vmount.parsers.lvm.raid import NEVER, SUPERBLOCK, RaidSuperblock, decode_superblock, judge
from vmount.parsers.lvm.snapshot import MAGIC, open_snapshot
from vmount.parsers.lvm.thin import ThinDevice, open_thin
from vmount.parsers.reader import BytesReader, run_sync
from vmount.parsers.volume_map import length_of


def volumes_of(sources: dict[str, BytesReader]) -> dict[str, LvmVolume]:
    members = [(name, run_sync(read_pv(source))) for name, source in sources.items()]
    return {volume.name: volume for volume in run_sync(assemble_lvm(members)).volumes}


def node(block: int, flags: int, keys: list[int], values: list[int], most: int = 252) -> bytes:
    """Build a node with a checksum that is right."""
    body = NODE.build(flags=flags, block=block, entries=len(keys), max_entries=most, value_size=8)
    data = bytearray(body.ljust(BLOCK, b"\0"))
    struct.pack_into(f"<{len(keys)}Q", data, NODE.size, *keys)
    struct.pack_into(f"<{len(values)}Q", data, NODE.size + 8 * most, *values)
    struct.pack_into("<I", data, 0, block_checksum(data, 121107))
    return bytes(data)


def test_leaves_end_where_the_next_one_begins() -> None:
    tree = BytesReader(
        node(0, 1, [0, 100, 200], [1, 2, 3])
        + node(1, 2, [5], [50])
        + node(2, 2, [100, 150], [60, 61])
        + node(3, 2, [], [])
    )
    for key, keys, end in (
        (0, (5,), 100),
        (99, (5,), 100),
        (100, (100, 150), 200),
        (10**9, (), None),
    ):
        leaf = run_sync(find_leaf(Nodes(tree), 0, key))
        assert (leaf.node.keys, leaf.end) == (keys, end)


@pytest.mark.parametrize(
    ("tree", "problem"),
    [
        (node(0, 1, [0], [0]), "too deep"),
        (node(0, 1, [], []), "empty node"),
        (node(0, 1, [0], [1 << 50]), "beyond the metadata's end"),
        (node(1, 2, [0], [0]), "its block number"),
        (node(0, 3, [0], [0]), "flags"),
        (node(0, 2, [2, 1], [0, 0]), "out of order"),
        (node(0, 2, [0], [0])[:-1] + b"x", "checksum"),
    ],
)
def test_hostile_trees(tree: bytes, problem: str) -> None:
    reader = CountingReader(tree, 40)
    with pytest.raises(Corrupt, match=problem):
        run_sync(find_leaf(Nodes(reader), 0, 7))


def test_entries_are_bounded_by_the_block() -> None:
    data = bytearray(node(0, 2, [0], [0]))
    struct.pack_into("<II", data, NODE.offset("entries"), 300, 300)
    struct.pack_into("<I", data, 0, block_checksum(data, 121107))
    with pytest.raises(Corrupt, match="entries"):
        run_sync(find_leaf(Nodes(BytesReader(data)), 0, 7))


def test_a_thin_volume_that_its_pool_does_not_know() -> None:
    sources = load("lvm-thin").sources()
    device_map = volumes_of(sources)["t1"].device_map
    build = builder(sources)
    metadata, data = build(device_map.metadata), build(device_map.data)  # type: ignore[union-attr]
    device: ThinDevice = device_map.device  # type: ignore[union-attr]
    for changed, problem in (
        (ThinDevice(77, device.size, device.data_block, device.transaction_id), "no device 77"),
        (ThinDevice(1, device.size, 4096, device.transaction_id), "size of a data block"),
        (ThinDevice(1, device.size, device.data_block, 40), "transaction"),
    ):
        with pytest.raises(Corrupt, match=problem):
            run_sync(open_thin(changed, metadata, data, None))


def test_damage_of_a_pool_costs_errors_not_bytes() -> None:
    """Wherever a byte of the metadata changes: the same bytes as before, or an error."""
    sources = load("lvm-thin").sources()
    volume = volumes_of(sources)["t1"]
    device_map, build = volume.device_map, builder(sources)
    whole = run_sync(volume.open(build))
    expected = bytes(run_sync(whole.read(0, whole.size)))
    metadata_mapping, data = device_map.metadata, build(device_map.data)  # type: ignore[union-attr]
    metadata = bytes(run_sync(build(metadata_mapping).read(0, length_of(metadata_mapping))))
    used = [at for at in range(0, len(metadata), BLOCK) if any(metadata[at : at + BLOCK])]
    chosen = random.Random(5)
    errors = 0
    for _ in range(400):
        damaged = bytearray(metadata)
        damaged[chosen.choice(used) + chosen.randrange(BLOCK)] ^= 1 << chosen.randrange(8)
        reader = CountingReader(damaged, 100)
        try:
            thin = run_sync(open_thin(device_map.device, reader, data, None))  # type: ignore[union-attr]
            assert bytes(run_sync(thin.read(0, thin.size))) == expected
        except ParseError:
            errors += 1
    assert errors > 20


def test_trees_are_read_once() -> None:
    sources = load("lvm-many").sources()
    device_map, build = volumes_of(sources)["tree"].device_map, builder(sources)
    metadata_mapping = device_map.metadata  # type: ignore[union-attr]
    metadata = bytes(run_sync(build(metadata_mapping).read(0, length_of(metadata_mapping))))
    reader = CountingReader(metadata, 1000)
    data = build(device_map.data)  # type: ignore[union-attr]
    thin = run_sync(open_thin(device_map.device, reader, data, None))  # type: ignore[union-attr]
    for at in range(0, thin.size - 4096, thin.size // 500):
        run_sync(thin.read(at, 4096))
        assert thin.try_read(at, 4096) is not None
    assert 1000 - reader.left < 20


def store(*exceptions: tuple[int, int], valid: int = 1, chunks: int = 8) -> BytesReader:
    """Build a snapshot store with chunks of 4 KiB."""
    data = bytearray(chunks * 4096)
    struct.pack_into("<4I", data, 0, MAGIC, valid, 1, 8)
    for index, exception in enumerate(exceptions):
        struct.pack_into("<QQ", data, 4096 + 16 * index, *exception)
    return BytesReader(data)


@pytest.mark.parametrize(
    ("table", "kind", "problem"),
    [
        (store(valid=0), Unsupported, "store was full"),
        (store((1, 8)), Corrupt, "beyond its end"),
        (store((1, 2), (1, 3)), Corrupt, "twice"),
        (store((1, 2), (2, 3), (1, 4)), Corrupt, "twice"),
        (store((1 << 63, 2)), Corrupt, "without an address"),
        (BytesReader(bytes(4096)), Corrupt, "magic"),
    ],
)
def test_hostile_snapshots(table: BytesReader, kind: type[ParseError], problem: str) -> None:
    with pytest.raises(kind, match=problem):
        run_sync(open_snapshot(BytesReader(bytes(1 << 16)), table, 1 << 16))


def test_a_store_of_full_areas_ends() -> None:
    table = store(*((number, 2) for number in range(256)), chunks=2)
    with pytest.raises(Corrupt, match="beyond its end"):
        run_sync(open_snapshot(BytesReader(bytes(1 << 20)), table, 1 << 20))


def image_block(position: int, events: int = 5, failed: int = 0) -> RaidSuperblock:
    return RaidSuperblock(position, events, failed, True, True, 0)


def test_which_images_to_trust() -> None:
    good = [image_block(0), image_block(1), image_block(2)]
    assert judge(good).stale == frozenset()
    assert judge([*good[:2], None]).stale == {2}
    assert judge([*good[:2], image_block(2, 4)]).stale == frozenset()
    assert judge([*good[:2], image_block(2, 3)]).stale == {2}
    assert judge([*good[:2], image_block(1)]).stale == {2}
    assert judge([image_block(0, 6, 0b100), *good[1:]]).stale == {2}
    assert judge([*good[:2], RaidSuperblock(2, 5, 0, False, True, 0)]).stale == {2}
    assert not judge([None, None]).in_sync


def test_raid_superblocks() -> None:
    assert decode_superblock(bytes(512)) is None
    with pytest.raises(Corrupt, match="magic"):
        decode_superblock(b"x" * 512)
    values: dict[str, object] = {
        "magic": 0x64526D44,
        "compat_features": 1,
        "disk_recovery_offset": NEVER,
    }
    values |= {"array_resync_offset": NEVER, "extended_failed_devices": [1, 0, 0]}
    raw = SUPERBLOCK.build(**values).ljust(512, b"\0")
    superblock = decode_superblock(raw)
    assert superblock is not None
    assert (superblock.failed, superblock.recovered, superblock.in_sync) == (1 << 64, True, True)
    with pytest.raises(Unsupported, match="reshape"):
        decode_superblock(SUPERBLOCK.build(**values, flags=1).ljust(512, b"\0"))


def test_mirror_logs() -> None:
    head = struct.pack("<IIQ", 0x4D695272, 2, 10).ljust(1024, b"\0")
    assert is_log_synced(head + b"\xff\x03", 10)
    assert not is_log_synced(head + b"\xff\x01", 10)
    assert not is_log_synced(head + b"\xff\xff", 11)
    assert not is_log_synced(bytes(1026), 10)


@pytest.mark.requirement("R23")
@pytest.mark.parametrize("group", ["plain", "stale", "thin", "snap", "cache"])
def test_mutated_members(group: str) -> None:
    """Any damage: volumes or a ParseError, after few reads."""
    chosen = random.Random(group)
    image = load(f"lvm-{group}")
    for _ in range(60):
        sources = {}
        for name, data in image.members.items():
            mutated = bytearray(data)
            for _ in range(chosen.randrange(40)):
                mutated[chosen.randrange(chosen.choice((2048, 140_000, len(mutated))))] ^= 0xFF
            if chosen.randrange(4) == 0:
                del mutated[chosen.randrange(len(mutated)) :]
            sources[name] = CountingReader(mutated, 3000)
        members = []
        for name, source in sources.items():
            try:
                members.append((name, run_sync(read_pv(source))))
            except ParseError:
                continue
        for volume in run_sync(assemble_lvm(members)).volumes:
            try:
                opened = run_sync(volume.open(builder(dict(sources))))
                run_sync(opened.read(0, min(opened.size, 1 << 20)))
            except (ParseError, OSError):
                continue
