"""What the log has changed: the items of its transactions, in the order of bytes of the machine.

Source: "XFS Algorithms & Data Structures", "Journaling Log" (Log Items).
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.xfs.errors import Damage

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

BUFFER_ITEM = Layout(
    "XFS log buffer item",
    Field("type", "H", at=0x00, note="blf_type: ItemType.BUFFER"),
    Field("regions", "H", at=0x02, note="blf_size: regions of the item, with this one"),
    Field("flags", "H", at=0x04, note="BufferFlag; what it holds in the upper 5 bits"),
    Field("length", "H", at=0x06, note="blf_len: basic blocks of the buffer"),
    Field("first", "q", at=0x08, note="blf_blkno: basic block of the volume"),
    Field("words", "I", at=0x10, note="blf_map_size: of the bitmap that follows, 32 bits each"),
    size=20,
    source="Linux fs/xfs/libxfs/xfs_log_format.h struct xfs_buf_log_format",
)
INODE_ITEM = Layout(
    "XFS log inode item",
    Field("type", "H", at=0x00, note="ilf_type: ItemType.INODE"),
    Field("regions", "H", at=0x02, note="ilf_size: regions of the item, with this one"),
    Field("fields", "I", at=0x04, note="InodeField"),
    Field("attr_size", "H", at=0x08, note="ilf_asize: bytes of the attribute fork's region"),
    Field("data_size", "H", at=0x0A, note="ilf_dsize"),
    Field("padding", "4x", at=0x0C),
    Field("number", "Q", at=0x10, note="ilf_ino"),
    Field("device", "16s", at=0x18, note="ilf_u: a device's number in the first 4 bytes"),
    Field("first", "q", at=0x28, note="ilf_blkno: of the inode's buffer, in basic blocks"),
    Field("length", "i", at=0x30, note="ilf_len: basic blocks of the buffer"),
    Field("offset", "i", at=0x34, note="ilf_boffset: of the inode in the buffer, in bytes"),
    size=56,
    source="Linux fs/xfs/libxfs/xfs_log_format.h struct xfs_inode_log_format",
)
INODE_ITEM_32 = Layout(
    "XFS log inode item of 32 bits",
    Field("type", "H", at=0x00, note="ilf_type: ItemType.INODE"),
    Field("regions", "H", at=0x02, note="ilf_size: regions of the item, with this one"),
    Field("fields", "I", at=0x04, note="InodeField"),
    Field("attr_size", "H", at=0x08, note="ilf_asize: bytes of the attribute fork's region"),
    Field("data_size", "H", at=0x0A, note="ilf_dsize"),
    Field("number", "Q", at=0xC, note="ilf_ino"),
    Field("device", "16s", at=0x14, note="ilf_u: a device's number in the first 4 bytes"),
    Field("first", "q", at=0x24, note="ilf_blkno: of the inode's buffer, in basic blocks"),
    Field("length", "i", at=0x2C, note="ilf_len: basic blocks of the buffer"),
    Field("offset", "i", at=0x30, note="ilf_boffset: of the inode in the buffer, in bytes"),
    size=52,
    source="Linux fs/xfs/libxfs/xfs_log_format.h struct xfs_inode_log_format_32",
)
"""As a machine of 32 bits aligns it."""
INODE_CHUNK = Layout(
    "XFS log item of new inodes",
    Field("head", "4s", at=0x00, note="icl_type and icl_size, in the byte order of the machine"),
    Field("group", "I", at=0x04, note="icl_ag: allocation group"),
    Field("block", "I", at=0x08, note="icl_agbno: in the group"),
    Field("inodes", "I", at=0x0C, note="icl_count"),
    Field("inode_size", "I", at=0x10, note="icl_isize: bytes"),
    Field("blocks", "I", at=0x14, note="icl_length"),
    Field("generation", "I", at=0x18, note="icl_gen: of all of them"),
    byte_order=">",
    size=28,
    source="Linux fs/xfs/libxfs/xfs_log_format.h struct xfs_icreate_log",
)
INTENT = Layout(
    "XFS log intent",
    Field("type", "H", at=0x00, note="ItemType"),
    Field("regions", "H", at=0x02, note="..._size: regions of the item"),
    Field("extents", "I", at=0x04, note="..._nextents; other meanings in ATTRI and XMI"),
    Field("id", "Q", at=0x08, note="the same in an intent and in the item that finishes it"),
    size=16,
    source=(
        "Linux fs/xfs/libxfs/xfs_log_format.h struct xfs_bui_log_format; "
        "the others begin as it does"
    ),
)
_BUFFER = BUFFER_ITEM.whole()
_INODE = INODE_ITEM.whole()
_INODE_32 = INODE_ITEM_32.whole()
_ICREATE = INODE_CHUNK.picker("group", "block", "inodes", "inode_size", "blocks")
_INTENT = INTENT.picker("id")


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
        raise Corrupt(Damage.LOG_BUFFER_ITEM_CUT_OFF)
    _, _, flags, count, first, words = _BUFFER.unpack_from(first_region)
    if first < 0 or count * 512 > MAX_BUFFER or _BUFFER.size + words * 4 > len(first_region):
        raise Corrupt(Damage.LOG_BUFFER_ITEM, actual=f"{count} blocks at {first:#x}")
    if flags & BufferFlag.CANCEL:
        return BufferItem(flags, first, count, [])
    bitmap = int.from_bytes(first_region[_BUFFER.size : _BUFFER.size + words * 4], "little")
    patches = []
    bit = 0
    for region in regions[1:]:
        rest = bitmap >> bit
        if not rest:
            raise Corrupt(Damage.LOG_BUFFER_ITEM_WITH_MORE_REGIONS_THAN_MAP)
        bit += (rest & -rest).bit_length() - 1
        run = bitmap >> bit
        length = ((~run & (run + 1)).bit_length() - 1) * CHUNK
        # A run of changed chunks may be in several regions.
        length = min(length, len(region) // CHUNK * CHUNK)
        if not length or bit * CHUNK + length > count * 512:
            raise Corrupt(Damage.LOG_BUFFER_ITEM_BEYOND_BUFFER)
        patches.append((bit * CHUNK, region[:length]))
        bit += length // CHUNK
    return BufferItem(flags, first, count, patches)


def decode_inode(regions: list[bytes]) -> InodeItem:
    """Decode the item of an inode. Raises Corrupt."""
    form = _INODE if len(regions[0]) >= _INODE.size else _INODE_32
    if len(regions[0]) < form.size:
        raise Corrupt(Damage.LOG_INODE_ITEM_CUT_OFF)
    _, _, fields, _, _, number, device, first, count, _ = form.unpack_from(regions[0])
    return InodeItem(
        number, fields, int.from_bytes(device[:4], "little"), (first, count), regions[1:]
    )


def decode_icreate(regions: list[bytes]) -> InodeChunk:
    """Decode the item of new inodes, which is big-endian. Raises Corrupt."""
    if len(regions[0]) < INODE_CHUNK.size:
        raise Corrupt(Damage.LOG_ITEM_OF_NEW_INODES_CUT_OFF)
    group, block, inodes, inode_size, blocks = _ICREATE.unpack_from(regions[0])
    return InodeChunk(group, block, blocks, inode_size, inodes)


def intent_id(region: bytes) -> int:
    """Return what an intent and the item that finishes it have in common. Raises Corrupt."""
    if len(region) < _INTENT.size:
        raise Corrupt(Damage.LOG_INTENT_CUT_OFF)
    number: int
    (number,) = _INTENT.unpack_from(region)
    return number
