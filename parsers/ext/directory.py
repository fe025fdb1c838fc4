"""Directory blocks: chains of entries.

A hash tree hides its own nodes in entries without a name, so that the same chain is found in them.
Source: Linux kernel documentation, filesystems/ext4, "Directory Entries".
"""

from __future__ import annotations

from vmount.parsers.errors import Corrupt
from vmount.parsers.ext.checksum import crc32c
from vmount.parsers.ext.errors import Damage
from vmount.parsers.inode_entry import InodeEntry
from vmount.parsers.layout import Field, Layout

ENTRY_HEADER = Layout(
    "ext4 directory entry",
    Field("inode", "I", at=0x00, note="0: the entry is free"),
    Field("record_length", "H", at=0x04, note="rec_len: bytes to the next entry"),
    Field("name_length", "B", at=0x06, note="name_len: bytes; the name follows"),
    Field(
        "file_type",
        "B",
        at=0x07,
        note="EXT4_FT_...; the upper byte of name_len where the volume has no filetype feature",
    ),
    size=8,
    source="Linux fs/ext4/ext4.h struct ext4_dir_entry_2",
)
"""The name follows. Without FILETYPE, file_type is the upper half of the name's length and zero."""

_pick_header = ENTRY_HEADER.picker("inode", "record_length", "name_length", "file_type").unpack_from
_HEADER_SIZE = ENTRY_HEADER.size
_SMALLEST = 12
"""Bytes of an entry with the shortest name."""
ENTRY_TAIL = Layout(
    "ext4 directory block tail",
    Field("reserved", "I", at=0x00, note="det_reserved_zero1: an entry's inode"),
    Field("record_length", "H", at=0x04, note="det_rec_len: 12"),
    Field("reserved_2", "B", at=0x06, note="det_reserved_zero2: an entry's name_length"),
    Field("file_type", "B", at=0x07, note="det_reserved_ft: 0xDE"),
    Field("checksum", "I", at=0x08, note="crc32c of the block before this"),
    size=12,
    source="Linux fs/ext4/ext4.h struct ext4_dir_entry_tail",
)
_TAIL = ENTRY_TAIL.whole()
_TAIL_START = [0, 12, 0, 0xDE]
"""A pseudo entry without a name, at the end of each block that has a checksum."""
_LONGEST_SHORT_RECORD = 65535


def decode_entries(data: bytes, where: int, *, encrypted: bool = False) -> list[InodeEntry]:
    """Decode the entries of a block (or of a piece of inline data) that lies at `where` in the volume.

    "." and ".." are left out. Raises Corrupt if the chain does not fill `data` exactly, or a name
    could not be one (an encrypted one may have any bytes).
    """
    entries = []
    position, end = 0, len(data)
    while position < end:
        if end - position < _HEADER_SIZE:
            raise Corrupt(Damage.DIRECTORY_ENTRY_CUT_OFF, where + position)
        ino, record_length, name_length, file_type = _pick_header(data, position)
        if record_length & 3 or record_length == 0:
            record_length = _decode_long(record_length, end)
        name_end = position + _HEADER_SIZE + name_length
        following = position + record_length
        if record_length < _SMALLEST or name_end > following or following > end:
            raise Corrupt(
                Damage.DIRECTORY_ENTRY_RECORD_LENGTH,
                where + position,
                expected=f"{max(_SMALLEST, _HEADER_SIZE + name_length)} to {end - position}",
                actual=record_length,
            )
        if ino:
            name = data[position + _HEADER_SIZE : name_end]
            if not name or (not encrypted and (b"/" in name or b"\0" in name)):
                raise Corrupt(Damage.DIRECTORY_ENTRY_IMPOSSIBLE_NAME, where + position)
            if name != b"." and name != b"..":
                entries.append(InodeEntry(name, ino, file_type))
        position = following
    return entries


def check_tail(data: bytes, where: int, seed: int) -> None:
    """Check the checksum at the end of a block of entries; `seed` is the directory inode's.

    Raises Corrupt.
    """
    *start, stored = _TAIL.unpack_from(data, len(data) - _TAIL.size)
    if start != _TAIL_START:
        raise Corrupt(Damage.DIRECTORY_BLOCK_HAS_NO_CHECKSUM, where)
    expected = crc32c(seed, data[: -_TAIL.size])
    if stored != expected:
        raise Corrupt(Damage.DIRECTORY_BLOCK_CHECKSUM, where, expected=expected, actual=stored)


def _decode_long(record_length: int, block_size: int) -> int:
    """Return the length of a record that 16 bits may not hold: up to 64 KiB, in blocks of that size."""
    if block_size < 1 << 16:
        return 0
    if record_length in (0, _LONGEST_SHORT_RECORD):
        return block_size
    return record_length & ~3 | (record_length & 3) << 16
