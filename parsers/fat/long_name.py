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
    Field("order", "B"),
    Field("name1", "10s"),
    Field("attributes", "B"),
    Field("type", "B"),
    Field("checksum", "B"),
    Field("name2", "12s"),
    Field("cluster", "H"),
    Field("name3", "4s"),
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
