"""Entries of a directory: what each of them is, and those that only the root directory has.

Source: the specification, sections 6.2 and 7.1 to 7.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.wtf8 import from_utf16

if TYPE_CHECKING:
    from vmount.parsers.reader import Buffer

ENTRY_SIZE = 32

END = 0x00
"""Nothing comes after."""
IN_USE = 0x80
SECONDARY = 0x40
"""Belongs to the primary entry before."""
BENIGN = 0x20
"""May be ignored by who does not know it."""

BITMAP = 0x81
UPCASE = 0x82
LABEL = 0x83
FILE = 0x85
STREAM = 0xC0
NAME = 0xC1

ROOT_ONLY = (BITMAP, UPCASE, LABEL)

BITMAP_ENTRY = Layout(
    "exFAT allocation bitmap entry",
    Field("type", "B", at=0x00, note="EntryType: 0x81"),
    Field("flags", "B", at=0x01, note="BitmapFlags: 1: of the second FAT"),
    Field("reserved", "18x", at=0x02),
    Field("first_cluster", "I", at=0x14),
    Field("length", "Q", at=0x18, note="DataLength: bytes"),
    size=32,
    source="Microsoft exFAT specification, 7.1 (Allocation Bitmap)",
)

UPCASE_ENTRY = Layout(
    "exFAT up-case table entry",
    Field("type", "B", at=0x00, note="EntryType: 0x82"),
    Field("reserved1", "3x", at=0x01),
    Field("checksum", "I", at=0x04, note="TableChecksum"),
    Field("reserved2", "12x", at=0x08),
    Field("first_cluster", "I", at=0x14),
    Field("length", "Q", at=0x18, note="DataLength: bytes"),
    size=32,
    source="Microsoft exFAT specification, 7.2 (Up-case Table)",
)

LABEL_ENTRY = Layout(
    "exFAT volume label entry",
    Field("type", "B", at=0x00, note="EntryType: 0x83"),
    Field("units", "B", at=0x01, note="CharacterCount"),
    Field("label", "22s", at=0x02, note="11 UTF-16 code units"),
    Field("reserved", "8x", at=0x18),
    size=32,
    source="Microsoft exFAT specification, 7.3 (Volume Label)",
)

MAX_LABEL_UNITS = 11


def is_unknown_critical(kind: int) -> bool:
    """Tell whether an entry is a primary one that must not be ignored, and is none of those known here."""
    return kind & (IN_USE | SECONDARY | BENIGN) == IN_USE and kind not in (FILE, *ROOT_ONLY)


def find_entry(directory: Buffer, kind: int) -> bytes | None:
    """Return the first entry of a kind, None if there is none."""
    for at in range(0, len(directory) - ENTRY_SIZE + 1, ENTRY_SIZE):
        if directory[at] == kind:
            return bytes(directory[at : at + ENTRY_SIZE])
        if directory[at] == END:
            break
    return None


def decode_label(entry: bytes) -> str:
    """Return the label. Raises Corrupt if it is too long."""
    raw: Any = LABEL_ENTRY.parse(entry)
    if raw.units > MAX_LABEL_UNITS:
        expected = f"at most {MAX_LABEL_UNITS}"
        raise Corrupt("length of the volume label", expected=expected, actual=raw.units)
    return from_utf16(raw.label[: 2 * raw.units])
