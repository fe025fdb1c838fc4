"""Directories: their entries, in an inode or in blocks, and the hash index.

The blocks of a directory lie in an address space of its own: those with entries from 0 on, the index from
32 GiB on, and a map of free space from 64 GiB on.
Source: "XFS Algorithms & Data Structures", "Directories".
"""

from __future__ import annotations

from vmount.parsers.errors import Corrupt
from vmount.parsers.inode_entry import InodeEntry
from vmount.parsers.layout import Field, Layout
from vmount.parsers.xfs.errors import Damage
from vmount.parsers.xfs.hash_index import BLOCK_TAIL

INDEX_START = 32 << 30
"""Address in bytes where a directory's index starts."""
FREE_START = 64 << 30

_BLOCK_4, _BLOCK_5 = b"XD2B", b"XDB3"
_DATA_4, _DATA_5 = b"XD2D", b"XDD3"
_DATA_HEADER = {_BLOCK_4: 16, _DATA_4: 16, _BLOCK_5: 64, _DATA_5: 64}
UNUSED = Layout(
    "XFS directory: unused space",
    Field("tag", "2s", at=0x00, note="freetag: 0xFFFF"),
    Field("length", "H", at=0x02, note="bytes, with this"),
    byte_order=">",
    size=4,
    source="Linux fs/xfs/libxfs/xfs_da_format.h struct xfs_dir2_data_unused",
)
ENTRY = Layout(
    "XFS directory entry",
    Field("ino", "Q", at=0x00, note="inumber"),
    Field("name_length", "B", at=0x08, note="namelen: bytes; name, file type and tag follow"),
    byte_order=">",
    size=9,
    source="Linux fs/xfs/libxfs/xfs_da_format.h struct xfs_dir2_data_entry",
)
_tail = BLOCK_TAIL.whole()
_UNUSED = b"\xff\xff"
_unused_length = UNUSED.picker("length").unpack_from
_pick_entry = ENTRY.whole().unpack_from
_NAME_AT = ENTRY.size
_SHORT_HEADER = 2


def decode_short(data: bytes, where: int, *, file_types: bool) -> list[InodeEntry]:
    """Decode the entries of a directory that fills its fork exactly. Raises Corrupt."""
    if len(data) < _SHORT_HEADER:
        raise Corrupt(Damage.DIRECTORY_IN_INODE_CUT_OFF, where)
    count, wide = data[0], data[1]
    ino_size = 8 if wide else 4
    position, end = _SHORT_HEADER + ino_size, len(data)
    type_size = 1 if file_types else 0
    entries = []
    for _ in range(count):
        if position + 3 > end:
            raise Corrupt(Damage.DIRECTORY_IN_INODE_ENTRY_CUT_OFF, where + position)
        name_end = position + 3 + data[position]
        following = name_end + type_size + ino_size
        if following > end:
            raise Corrupt(Damage.DIRECTORY_IN_INODE_ENTRY_CUT_OFF, where + position)
        name = data[position + 3 : name_end]
        _check_name(name, where + position)
        file_type = data[name_end] if file_types else 0
        ino = int.from_bytes(data[name_end + type_size : following], "big")
        entries.append(InodeEntry(name, ino, file_type))
        position = following
    return entries


def decode_block(data: bytes, where: int, *, version_5: bool, file_types: bool) -> list[InodeEntry]:
    """Decode the entries of a directory block that starts at `where` in the volume.

    "." and ".." are left out. Raises Corrupt if the chain of entries does not fill the block, or a
    name could not be one.
    """
    magic = data[:4]
    if magic not in ((_BLOCK_5, _DATA_5) if version_5 else (_BLOCK_4, _DATA_4)):
        raise Corrupt(Damage.DIRECTORY_BLOCK_MAGIC, where, actual=magic)
    end = len(data)
    if magic in (_BLOCK_4, _BLOCK_5):
        count, _ = _tail.unpack_from(data, end - BLOCK_TAIL.size)
        end -= BLOCK_TAIL.size + count * 8
    position = _DATA_HEADER[magic]
    if end < position:
        raise Corrupt(Damage.DIRECTORY_BLOCK_SIZE_OF_INDEX, where)
    type_size = 1 if file_types else 0
    entries = []
    while position < end:
        if data[position : position + 2] == _UNUSED:
            (length,) = _unused_length(data, position)
            if length & 7 or not 0 < length <= end - position:
                raise Corrupt(
                    Damage.DIRECTORY_BLOCK_UNUSED_SPACE,
                    where + position,
                    expected=f"at most {end - position}",
                    actual=length,
                )
            position += length
            continue
        entry, position = _entry(data, position, end, where, type_size)
        if entry.name not in (b".", b".."):
            entries.append(entry)
    return entries


def entry_at(data: bytes, position: int, where: int, *, file_types: bool) -> InodeEntry:
    """Decode the entry at `position` of a directory block that the index points at. Raises Corrupt."""
    if position < _DATA_HEADER[_BLOCK_4] or data[position : position + 2] == _UNUSED:
        raise Corrupt(Damage.DIRECTORY_INDEX_NO_ENTRY_THERE, where + position)
    return _entry(data, position, len(data), where, 1 if file_types else 0)[0]


def _entry(
    data: bytes, position: int, end: int, where: int, type_size: int
) -> tuple[InodeEntry, int]:
    if end - position < _NAME_AT + 2:
        raise Corrupt(Damage.DIRECTORY_ENTRY_CUT_OFF, where + position)
    ino, name_length = _pick_entry(data, position)
    name_end = position + _NAME_AT + name_length
    # A tag with the entry's own position ends it, aligned to eight bytes.
    following = name_end + type_size + 2 + 7 & ~7
    if following > end:
        raise Corrupt(Damage.DIRECTORY_ENTRY_CUT_OFF, where + position)
    tag = int.from_bytes(data[following - 2 : following], "big")
    if tag != position:
        raise Corrupt(Damage.DIRECTORY_ENTRY_TAG, where + position, expected=position, actual=tag)
    name = data[position + _NAME_AT : name_end]
    _check_name(name, where + position)
    return InodeEntry(name, ino, data[name_end] if type_size else 0), following


def _check_name(name: bytes, where: int) -> None:
    if not name or b"/" in name or b"\0" in name:
        raise Corrupt(Damage.DIRECTORY_ENTRY_IMPOSSIBLE_NAME, where)
