"""Long entries: up to twenty before a short entry, which together hold its long name.

Source: the specification, section "FAT Long Directory Entries".
"""

from __future__ import annotations

from vmount.parsers.fat.names import short_checksum
from vmount.parsers.layout import Field, Layout
from vmount.parsers.reader import Buffer
from vmount.parsers.wtf8 import from_utf16

LONG_ENTRY = Layout(
    "FAT long directory entry",
    Field(
        "order",
        "B",
        at=0x00,
        note="LDIR_Ord: from 1 in the entry next to the short one; 0x40: the last part",
    ),
    Field("name1", "10s", at=0x01, note="5 UTF-16 code units"),
    Field("attributes", "B", at=0x0B, note="0x0F"),
    Field("type", "B", at=0x0C, note="0"),
    Field("checksum", "B", at=0x0D, note="LDIR_Chksum: of the short name"),
    Field("name2", "12s", at=0x0E, note="6 code units"),
    Field("cluster", "H", at=0x1A, note="LDIR_FstClusLO: 0"),
    Field("name3", "4s", at=0x1C, note="2 code units"),
    size=32,
    source="Microsoft FAT specification (fatgen103), FAT Long Directory Entries",
)

LAST = 0x40
"""In `order`: this is the first of them on the disk and the last of the name."""
MAX_ENTRIES = 20
MAX_UNITS = 255

_PICKER = LONG_ENTRY.picker("order", "name1", "checksum", "name2", "name3")


class LongName:
    """Puts a long name together from entries in the order of the disk."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._next = 0
        """The order that the next entry has to have; 0: the name is complete, or there is none."""
        self._checksum = -1

    def reset(self) -> None:
        """Forget what there is: an entry came between that is none of these."""
        if self._parts:
            self._parts = []
        self._next = 0

    def add(self, data: Buffer, offset: int) -> None:
        """Take the long entry at `offset`. One that does not follow the one before is an orphan."""
        order, name1, checksum, name2, name3 = _PICKER.unpack_from(data, offset)
        if order & LAST:
            count = order & ~LAST
            if not 1 <= count <= MAX_ENTRIES:
                self.reset()
                return
            self._parts = []
            self._next, self._checksum = count, checksum
        elif not self._parts or order != self._next or checksum != self._checksum:
            self.reset()
            return
        self._parts.append(name1 + name2 + name3)
        self._next -= 1

    def take(self, short: bytes) -> str | None:
        """Return the name for the short entry that comes next, and forget it.

        None if there is none, it is not complete, or it belongs to another short name.
        """
        if not self._parts:
            return None
        parts, complete = self._parts, self._next == 0
        self.reset()
        if not complete or short_checksum(short) != self._checksum:
            return None
        name, _, _ = from_utf16(b"".join(reversed(parts))).partition("\0")
        if not name or len(name.encode("utf-16-le", "surrogatepass")) > 2 * MAX_UNITS:
            return None
        return name
