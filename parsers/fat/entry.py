"""The short entry of a directory: all that FAT knows of a file.

Source: the specification, section "FAT Directory Structure".
"""

from __future__ import annotations

import stat
from typing import NamedTuple

from vmount.parsers.fat.timestamp import decode_time
from vmount.parsers.layout import Field, Layout
from vmount.parsers.model import Attrs
from vmount.parsers.reader import Buffer

SHORT_ENTRY = Layout(
    "FAT directory entry",
    Field(
        "name",
        "11s",
        at=0x00,
        note="8 and 3 characters, padded with spaces; 0: the end, 0xE5: free, 0x05: 0xE5",
    ),
    Field("attributes", "B", at=0x0B),
    Field(
        "case_flags", "B", at=0x0C, note="DIR_NTRes: 8: the name in lower case, 0x10: the extension"
    ),
    Field("created_centiseconds", "B", at=0x0D, note="DIR_CrtTimeTenth: 10 ms, 0 to 199"),
    Field(
        "created_time",
        "H",
        at=0x0E,
        note="2 s; hour in the upper 5 bits, minute in 6, as modified_time",
    ),
    Field(
        "created_date",
        "H",
        at=0x10,
        note="years since 1980 in 7 bits, month in 4, day in 5, as the others",
    ),
    Field("accessed_date", "H", at=0x12, note="DIR_LstAccDate"),
    Field("cluster_high", "H", at=0x14, note="DIR_FstClusHI: FAT32 only"),
    Field("modified_time", "H", at=0x16, note="DIR_WrtTime"),
    Field("modified_date", "H", at=0x18, note="DIR_WrtDate"),
    Field("cluster_low", "H", at=0x1A, note="DIR_FstClusLO"),
    Field("size", "I", at=0x1C, note="bytes; 0 in directories"),
    size=32,
    source="Microsoft FAT specification (fatgen103), FAT Directory Structure",
)

END = 0x00
DELETED = 0xE5
"""First bytes of a name: nothing comes after; this one is not in use."""

VOLUME_LABEL = 0x08
DIRECTORY = 0x10
LONG = 0x0F
LONG_MASK = 0x3F
"""The attributes of an entry with a part of a long name, and which of them tell."""

DOT = b".          "
DOT_DOT = b"..         "

_PICKER = SHORT_ENTRY.picker(*(field.name for field in SHORT_ENTRY.fields))
_new = tuple.__new__


class ShortEntry(NamedTuple):
    """A file's entry."""

    name: bytes
    """Eleven bytes."""
    attributes: int
    case_flags: int
    created_centiseconds: int
    created_time: int
    created_date: int
    accessed_date: int
    cluster_high: int
    """Of FAT32; OS/2 and others keep something else there."""
    modified_time: int
    modified_date: int
    cluster_low: int
    size: int

    @property
    def is_directory(self) -> bool:
        """Whether this is a directory."""
        return bool(self.attributes & DIRECTORY)

    @property
    def is_file(self) -> bool:
        """Whether this is a file or directory that can be opened by its number."""
        return (
            self.name[0] not in (END, DELETED)
            and not self.attributes & VOLUME_LABEL
            and self.name not in (DOT, DOT_DOT)
        )


def decode_short(data: Buffer, offset: int = 0) -> ShortEntry:
    """Decode the entry at `offset`; any 32 bytes are one."""
    return ShortEntry(*_PICKER.unpack_from(data, offset))


def entry_attrs(entry: ShortEntry, ino: int, cluster_size: int, utc_offset: int) -> Attrs:
    """Return what an entry says of its file.

    A directory's size is 0, as its entry has it: to count its clusters would cost a look at the FAT for each.
    FAT has no time of a change of attributes; as with Linux it is that of modification.
    """
    modified = decode_time(entry.modified_date, entry.modified_time, 0, utc_offset)
    created = accessed = 0
    if entry.created_date:
        created = decode_time(
            entry.created_date, entry.created_time, entry.created_centiseconds, utc_offset
        )
    if entry.accessed_date:
        accessed = decode_time(entry.accessed_date, 0, 0, utc_offset)
    if entry.attributes & DIRECTORY:
        mode, size = stat.S_IFDIR | 0o755, 0
    else:
        mode, size = stat.S_IFREG | 0o644, entry.size
    allocated = -(-size // cluster_size) * cluster_size
    times = (accessed or modified, modified, modified, created)
    return _new(Attrs, (ino, mode, 1, 0, 0, size, allocated, 0, *times))
