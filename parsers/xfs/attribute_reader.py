"""Extended attributes of an inode, with their values.

Strategy: the leaves under each node are fetched together, then the blocks of all values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.xfs.acl import NAMES, system_acl
from vmount.parsers.xfs.attribute import (
    HIDDEN,
    LEAF_MAGIC,
    NODE_MAGIC,
    REMOTE_HEADER_SIZE,
    Attribute,
    AttributeFlag,
    block_magic,
    decode_leaf,
    decode_node,
    decode_remote,
    decode_short,
)
from vmount.parsers.xfs.checksum import DIRECTORY_INDEX, REMOTE
from vmount.parsers.xfs.errors import Damage
from vmount.parsers.xfs.inode import Format, Inode
from vmount.parsers.xfs.mapping import read_extents

if TYPE_CHECKING:
    from vmount.parsers.xfs.extent import Extents
    from vmount.parsers.xfs.volume import Volume

MAX_BYTES = 16 << 20
"""Of all attributes of one file, names and values: the kernel lists 64 KiB of names and has values of as many,
so that a small file could hold half a gigabyte."""
_BLOCKS_AT_ONCE = 256


async def read_attributes(volume: Volume, inode: Inode) -> dict[bytes, bytes]:
    """Return an inode's attributes by name ("user.comment"), with the values that getxattr gives.

    Raises Corrupt, Unsupported for more than can be held.
    """
    fork = inode.attr_fork
    if fork is None:
        return {}
    attributes: dict[bytes, bytes] = {}
    if fork.format == Format.LOCAL:
        for attribute in decode_short(fork.data, fork.where):
            _add(attributes, attribute, attribute.value or b"")
    elif fork.extents or fork.format == Format.BTREE:
        reader = _Fork(volume, inode, await read_extents(volume, inode, fork))
        await reader.collect(attributes)
    return attributes


def _add(attributes: dict[bytes, bytes], attribute: Attribute, value: bytes) -> None:
    flags, name = attribute.flags, attribute.name
    if flags & HIDDEN:
        return
    if flags & AttributeFlag.ROOT:
        if name in NAMES:
            attributes[NAMES[name]] = system_acl(value)
            return
        prefix = b"trusted."
    else:
        prefix = b"security." if flags & AttributeFlag.SECURE else b"user."
    attributes[prefix + name] = value


class _Fork:
    """The blocks of an attribute fork."""

    def __init__(self, volume: Volume, inode: Inode, extents: Extents) -> None:
        self._volume = volume
        self._ino = inode.number
        self._extents = extents
        self._version_5 = volume.superblock.checksums
        self._seen: set[int] = set()
        self._bytes = 0

    async def collect(self, attributes: dict[bytes, bytes]) -> None:
        """Add all attributes of the fork."""
        level, pending = None, [0]
        while pending:
            children: list[int] = []
            for batch in range(0, len(pending), _BLOCKS_AT_ONCE):
                below = await self._visit(
                    pending[batch : batch + _BLOCKS_AT_ONCE], level, attributes
                )
                level_below, addresses = below
                children += addresses
            pending, level = children, level_below

    async def _visit(
        self, addresses: list[int], level: int | None, attributes: dict[bytes, bytes]
    ) -> tuple[int, list[int]]:
        """Take the attributes of leaves; return the level and addresses of what is below nodes.

        `level` is what their parents say, 0 for leaves, None for the root.
        """
        before = len(self._seen)
        self._seen.update(addresses)
        if len(self._seen) != before + len(addresses):
            raise Corrupt(Damage.INODE_BLOCK_OF_ATTRIBUTES_IS_USED_TWICE, of=self._ino)
        below: list[int] = []
        found: list[Attribute] = []
        for where, data in await self._blocks(addresses):
            magic = block_magic(data)
            if magic == LEAF_MAGIC[self._version_5] and not level:
                if self._version_5:
                    self._check(data, where, "attribute leaf")
                found += decode_leaf(data, where, version_5=self._version_5)
            elif magic == NODE_MAGIC[self._version_5] and level != 0:
                if self._version_5:
                    self._check(data, where, "attribute node")
                own, children = decode_node(data, where, version_5=self._version_5)
                if level is not None and own != level:
                    raise Corrupt(Damage.ATTRIBUTE_NODE_LEVEL, where, expected=level, actual=own)
                level = own
                below += children
            else:
                raise Corrupt(Damage.ATTRIBUTE_BLOCK_MAGIC, where, actual=magic)
        await self._take(found, attributes)
        return (level or 1) - 1, below

    def _check(self, data: bytes, where: int, kind: str) -> None:
        self._volume.check(data, DIRECTORY_INDEX, kind, where, self._ino)

    async def _take(self, found: list[Attribute], attributes: dict[bytes, bytes]) -> None:
        for attribute in found:
            self._bytes += len(attribute.name) + attribute.size
        if self._bytes > MAX_BYTES:
            raise Unsupported(f"attributes of more than {MAX_BYTES} bytes in one file")
        places = [
            self._value_blocks(attribute) if attribute.value is None else range(0)
            for attribute in found
            if not attribute.flags & HIDDEN
        ]
        blocks = iter(await self._blocks([block for place in places for block in place]))
        shown = [attribute for attribute in found if not attribute.flags & HIDDEN]
        for attribute, place in zip(shown, places, strict=True):
            value = attribute.value
            if value is None:
                value = b""
                for _ in place:
                    where, data = next(blocks)
                    value += self._part(data, where, len(value))
                if len(value) < attribute.size:
                    raise Corrupt(
                        Damage.INODE_VALUE_OF_ATTRIBUTE,
                        of=self._ino,
                        expected=f"{attribute.size} bytes",
                        actual=len(value),
                    )
                value = value[: attribute.size]
            _add(attributes, attribute, value)

    def _value_blocks(self, attribute: Attribute) -> range:
        room = self._volume.block_size - (REMOTE_HEADER_SIZE if self._version_5 else 0)
        return range(attribute.block, attribute.block + -(-attribute.size // room))

    def _part(self, data: bytes, where: int, position: int) -> bytes:
        if not self._version_5:
            return data
        self._volume.check(data, REMOTE, "attribute's value", where, self._ino)
        return decode_remote(data, where, position)

    async def _blocks(self, addresses: list[int]) -> list[tuple[int, bytes]]:
        """Return the offset in the volume and the bytes of blocks of the fork."""
        offsets = [self._offset(address) for address in addresses]
        ordered = sorted(set(offsets))
        pieces = await self._volume.read_pieces(ordered, self._volume.block_size)
        by_offset = dict(zip(ordered, pieces, strict=True))
        return [(offset, by_offset[offset]) for offset in offsets]

    def _offset(self, address: int) -> int:
        index = self._extents.which(address)
        if index >= 0:
            extent = self._extents[index]
            if address < extent.block + extent.blocks:
                return self._volume.offset(extent.start + address - extent.block)
        raise Corrupt(f"inode {self._ino}: no block {address:#x} in its attributes")
