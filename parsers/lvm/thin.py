"""Thin volumes: blocks of a pool's data device, found in the B-trees of its metadata device.

Strategy: nodes are read when they are first needed and kept. A range is resolved leaf by leaf; what
neighbours on the data device is read at once.
Source: Linux kernel, drivers/md/dm-thin-metadata.c and Documentation/admin-guide/device-mapper.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.layout import Field, Layout
from vmount.parsers.lvm.btree import BLOCK, Leaf, Nodes, block_checksum, find_known_leaf, find_leaf
from vmount.parsers.lvm.composite import SourcePiece, announce, gather, joined, try_gather
from vmount.parsers.reader import Span, check_bounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.reader import BlockSource, Buffer, Reader

SECTOR = 512
MAX_DATA_BLOCK = 1 << 30
"""Bytes, of device-mapper."""
_SALT = 160774
_MAGIC = 27022010
_TIME_BITS = 24
_DATA, _ORIGIN = 0, 1

SUPERBLOCK = Layout(
    "dm-thin superblock",
    Field("checksum", "I", at=0x00, note="csum: crc32c of the rest of the block"),
    Field("flags", "I", at=0x04),
    Field("block", "Q", at=0x08, note="blocknr: 0"),
    Field("uuid", "16s", at=0x10),
    Field("magic", "Q", at=0x20, note="27022010"),
    Field("version", "I", at=0x28),
    Field("time", "I", at=0x2C, note="counts snapshots"),
    Field("transaction_id", "Q", at=0x30, note="trans_id: of user space"),
    Field("held_root", "Q", at=0x38, note="superblock copy of a metadata snapshot; 0: none"),
    Field("data_space_map", "128s", at=0x40),
    Field("metadata_space_map", "128s", at=0xC0),
    Field("mapping_root", "Q", at=0x140, note="data_mapping_root: block of the B-tree"),
    Field("details_root", "Q", at=0x148, note="device_details_root"),
    Field("data_block_sectors", "I", at=0x150, note="data_block_size: sectors of 512 bytes"),
    Field("metadata_block_sectors", "I", at=0x154, note="metadata_block_size: 8"),
    Field("metadata_blocks", "Q", at=0x158, note="metadata_nr_blocks"),
    Field("compat_flags", "I", at=0x160),
    Field("compat_read_only_flags", "I", at=0x164, note="compat_ro_flags"),
    Field("incompat_flags", "I", at=0x168),
    size=364,
    source="Linux drivers/md/dm-thin-metadata.c struct thin_disk_superblock",
)


@dataclass(frozen=True, slots=True)
class PoolSuperblock:
    """A pool: its geometry and its trees."""

    transaction_id: int
    mapping_root: int
    details_root: int
    data_block: int
    """Bytes."""


def decode_superblock(data: Buffer) -> PoolSuperblock:
    """Decode the superblock of a pool's metadata device."""
    raw = SUPERBLOCK.parse(data)
    if raw.magic != _MAGIC:
        raise Corrupt("thin pool superblock: magic", 0, expected=_MAGIC, actual=raw.magic)
    checksum = block_checksum(data, _SALT)
    if checksum != raw.checksum:
        raise Corrupt("thin pool superblock: checksum", 0, expected=raw.checksum, actual=checksum)
    if raw.block != 0:
        raise Corrupt("thin pool superblock: its block number", 0, expected=0, actual=raw.block)
    if raw.version not in (1, 2):
        raise Unsupported(f"thin pool metadata of version {raw.version}")
    if raw.incompat_flags:
        raise Unsupported(f"thin pool features {raw.incompat_flags:#x}")
    if raw.metadata_block_sectors * SECTOR != BLOCK:
        raise Unsupported(f"thin pool metadata blocks of {raw.metadata_block_sectors} sectors")
    block = raw.data_block_sectors * SECTOR
    if not 0 < block <= MAX_DATA_BLOCK:
        raise Corrupt("thin pool superblock: size of a data block", 0, actual=block)
    return PoolSuperblock(raw.transaction_id, raw.mapping_root, raw.details_root, block)


class ThinSource:
    """The bytes of a thin volume.

    What it has never written is read from its external origin, and is zeros where there is none.
    """

    def __init__(
        self,
        nodes: Nodes,
        root: int,
        data: BlockSource,
        origin: BlockSource | None,
        block: int,
        size: int,
    ) -> None:
        self.size = size
        self._nodes = nodes
        self._root = root
        self._block = block
        self._sources: tuple[BlockSource, ...] = (data,) if origin is None else (data, origin)
        self._origin_size = 0 if origin is None else origin.size

    def try_read(self, offset: int, length: int) -> Buffer | None:
        """Return the bytes if both the way to them and they are at hand."""
        pieces = self._known_pieces(offset, length)
        return None if pieces is None else try_gather(self._sources, pieces)

    async def read(self, offset: int, length: int) -> Buffer:
        """Return the bytes."""
        check_bounds(offset, length, self.size)
        pieces: list[SourcePiece] = []
        end = offset + length
        while offset < end:
            leaf = await find_leaf(self._nodes, self._root, offset // self._block)
            offset = self._add_pieces(pieces, leaf, offset, end)
        return await gather(self._sources, joined(pieces))

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Pass the hint on where the way is known already."""
        pieces: list[SourcePiece] = []
        for offset, length in spans:
            if offset >= 0 and 0 < length <= self.size - offset:
                pieces += self._known_pieces(offset, length) or ()
        announce(self._sources, pieces)

    def _known_pieces(self, offset: int, length: int) -> list[SourcePiece] | None:
        check_bounds(offset, length, self.size)
        pieces: list[SourcePiece] = []
        end = offset + length
        while offset < end:
            leaf = find_known_leaf(self._nodes, self._root, offset // self._block)
            if leaf is None:
                return None
            offset = self._add_pieces(pieces, leaf, offset, end)
        return joined(pieces)

    def _add_pieces(self, pieces: list[SourcePiece], leaf: Leaf, offset: int, end: int) -> int:
        """Add what a leaf says of a range; return where its knowledge or the range ends."""
        keys, values = leaf.node.keys, leaf.node.values
        if keys and not values:
            raise Corrupt("thin pool: a leaf without block addresses")
        if leaf.end is not None:
            end = min(end, leaf.end * self._block)
        index = bisect_left(keys, offset // self._block)
        while offset < end:
            number = offset // self._block
            if index < len(keys) and keys[index] == number:
                part = min((number + 1) * self._block, end) - offset
                place = (values[index] >> _TIME_BITS) * self._block + offset % self._block
                if place + part > self._sources[_DATA].size:
                    raise Corrupt("thin pool: a block beyond the data's end", place)
                pieces.append(SourcePiece(_DATA, place, part))
                index += 1
            else:
                until = keys[index] * self._block if index < len(keys) else end
                part = min(until, end) - offset
                pieces += self._unwritten(offset, part)
            offset += part
        return offset

    def _unwritten(self, offset: int, length: int) -> list[SourcePiece]:
        there = max(min(offset + length, self._origin_size) - offset, 0)
        pieces = []
        if there:
            pieces.append(SourcePiece(_ORIGIN, offset, there))
        if there < length:
            pieces.append(SourcePiece(None, 0, length - there))
        return pieces


@dataclass(frozen=True, slots=True)
class ThinDevice:
    """What LVM2 says of a thin volume and its pool."""

    device_id: int
    size: int
    """Bytes."""
    data_block: int
    """Bytes."""
    transaction_id: int
    """Of the pool."""


async def open_thin(
    device: ThinDevice, metadata: BlockSource, data: BlockSource, origin: BlockSource | None
) -> ThinSource:
    """Find a thin volume in its pool.

    Raises Corrupt if the pool and LVM2's metadata do not match.
    """
    pool = await _read_superblock(metadata)
    if pool.data_block != device.data_block:
        raise Corrupt(
            "thin pool: size of a data block", expected=device.data_block, actual=pool.data_block
        )
    # LVM2 writes its own metadata first: after a crash the pool may be one transaction behind.
    if not device.transaction_id - 1 <= pool.transaction_id <= device.transaction_id:
        raise Corrupt(
            "thin pool: transaction", expected=device.transaction_id, actual=pool.transaction_id
        )
    nodes = Nodes(metadata)
    details = await find_leaf(nodes, pool.details_root, device.device_id)
    if device.device_id not in details.node.keys:
        raise Corrupt(f"thin pool: no device {device.device_id}")
    roots = (await find_leaf(nodes, pool.mapping_root, device.device_id)).node
    index = bisect_left(roots.keys, device.device_id)
    if index == len(roots.keys) or roots.keys[index] != device.device_id or not roots.values:
        raise Corrupt(f"thin pool: device {device.device_id} has no mapping")
    return ThinSource(nodes, roots.values[index], data, origin, device.data_block, device.size)


async def _read_superblock(metadata: Reader) -> PoolSuperblock:
    return decode_superblock(await metadata.read(0, BLOCK))
