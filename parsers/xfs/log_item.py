"""What the log has changed: the items of its transactions, in the order of bytes of the machine.

Source: "XFS Algorithms & Data Structures", "Journaling Log" (Log Items).
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from vmount.parsers.errors import Corrupt

CHUNK = 128
"""Bytes of a buffer that one bit of its map stands for."""
MAX_BUFFER = 64 << 10
"""Bytes of the largest buffer."""


class ItemType(IntEnum):
    """What an item is of; a "done" item finishes the intent that stands before it."""

    EFI = 0x1236
    EFD = 0x1237
    IUNLINK = 0x1238
    INODE = 0x123B
    BUFFER = 0x123C
    DQUOT = 0x123D
    QUOTAOFF = 0x123E
    ICREATE = 0x123F
    RUI = 0x1240
    RUD = 0x1241
    CUI = 0x1242
    CUD = 0x1243
    BUI = 0x1244
    BUD = 0x1245
    ATTRI = 0x1246
    ATTRD = 0x1247
    XMI = 0x1248
    XMD = 0x1249


INTENTS = {
    ItemType.BUI: ItemType.BUD,
    ItemType.ATTRI: ItemType.ATTRD,
    ItemType.XMI: ItemType.XMD,
}
"""Intents whose effect shows in files, and what finishes them. The others free space and keep
count of it."""


class BufferFlag(IntEnum):
    """What a buffer is; the upper five bits say what it holds."""

    INODES = 0x1
    CANCEL = 0x2
    QUOTA = 0x1C


class BufferType(IntEnum):
    """What a buffer holds, as far as nobody here reads it."""

    GROUP_FREE = 5
    GROUP_FREE_LIST = 6
    GROUP_INODES = 7


IGNORED_BUFFERS = frozenset(BufferType)


class InodeField(IntEnum):
    """What of an inode was logged."""

    CORE = 0x1
    DATA = 0x2
    EXTENTS = 0x4
    ROOT = 0x8
    DEVICE = 0x10
    ATTR_DATA = 0x40
    ATTR_EXTENTS = 0x80
    ATTR_ROOT = 0x100


DATA_FORK = InodeField.DATA | InodeField.EXTENTS | InodeField.ROOT
ATTR_FORK = InodeField.ATTR_DATA | InodeField.ATTR_EXTENTS | InodeField.ATTR_ROOT

_BUFFER = struct.Struct("<HHHHqI")
_INODE = struct.Struct("<HHIHHxxxxQ16sqii")
_INODE_32 = struct.Struct("<HHIHHQ16sqii")
"""As a machine of 32 bits aligns it."""
_ICREATE = struct.Struct(">IIIIII")
_INTENT = struct.Struct("<HHIQ")


class BufferItem(NamedTuple):
    """A changed buffer."""

    flags: int
    first: int
    """Basic block of the volume."""
    length: int
    """In basic blocks."""
    patches: list[tuple[int, bytes]]
    """Offset in the buffer and new bytes."""

    @property
    def holds(self) -> int:
        """What the buffer holds, 0 if the kernel that wrote it did not say."""
        return self.flags >> 11


class InodeItem(NamedTuple):
    """A changed inode."""

    number: int
    fields: int
    device: int
    cluster: tuple[int, int]
    """First basic block, and their number, of the buffer that the inode is in."""
    regions: list[bytes]
    """The core, and as `fields` says the forks."""


class InodeChunk(NamedTuple):
    """Blocks that were made to hold inodes."""

    group: int
    block: int
    """In the group."""
    blocks: int
    inode_size: int
    inodes: int


def item_type(region: bytes) -> int:
    """Return the type of an item by its first region."""
    return int.from_bytes(region[:2], "little")


def decode_buffer(regions: list[bytes]) -> BufferItem:
    """Decode the item of a buffer. Raises Corrupt."""
    first_region = regions[0]
    if len(first_region) < _BUFFER.size:
        raise Corrupt("log: buffer item cut off")
    _, _, flags, count, first, words = _BUFFER.unpack_from(first_region)
    if first < 0 or count * 512 > MAX_BUFFER or _BUFFER.size + words * 4 > len(first_region):
        raise Corrupt("log: buffer item", actual=f"{count} blocks at {first:#x}")
    if flags & BufferFlag.CANCEL:
        return BufferItem(flags, first, count, [])
    bitmap = int.from_bytes(first_region[_BUFFER.size : _BUFFER.size + words * 4], "little")
    patches = []
    bit = 0
    for region in regions[1:]:
        rest = bitmap >> bit
        if not rest:
            raise Corrupt("log: buffer item with more regions than its map")
        bit += (rest & -rest).bit_length() - 1
        run = bitmap >> bit
        length = ((~run & (run + 1)).bit_length() - 1) * CHUNK
        # A run of changed chunks may be in several regions.
        length = min(length, len(region) // CHUNK * CHUNK)
        if not length or bit * CHUNK + length > count * 512:
            raise Corrupt("log: buffer item beyond its buffer")
        patches.append((bit * CHUNK, region[:length]))
        bit += length // CHUNK
    return BufferItem(flags, first, count, patches)


def decode_inode(regions: list[bytes]) -> InodeItem:
    """Decode the item of an inode. Raises Corrupt."""
    form = _INODE if len(regions[0]) >= _INODE.size else _INODE_32
    if len(regions[0]) < form.size:
        raise Corrupt("log: inode item cut off")
    _, _, fields, _, _, number, device, first, count, _ = form.unpack_from(regions[0])
    return InodeItem(
        number, fields, int.from_bytes(device[:4], "little"), (first, count), regions[1:]
    )


def decode_icreate(regions: list[bytes]) -> InodeChunk:
    """Decode the item of new inodes, which is big-endian. Raises Corrupt."""
    if len(regions[0]) < 4 + _ICREATE.size:
        raise Corrupt("log: item of new inodes cut off")
    group, block, inodes, inode_size, blocks, _ = _ICREATE.unpack_from(regions[0], 4)
    return InodeChunk(group, block, blocks, inode_size, inodes)


def intent_id(region: bytes) -> int:
    """Return what an intent and the item that finishes it have in common. Raises Corrupt."""
    if len(region) < _INTENT.size:
        raise Corrupt("log: intent cut off")
    number: int = _INTENT.unpack_from(region)[3]
    return number
