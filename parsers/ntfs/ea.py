"""$EA: extended attributes of OS/2 kind. WSL keeps the numbers of device files there.

Source: [MS-FSCC] 2.4, FileFullEaInformation; $LXDEV as WSL writes it.
"""

from __future__ import annotations

import os

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.ntfs.errors import Damage

EA_ENTRY = Layout(
    "extended attribute",
    Field(
        "next_offset",
        "I",
        at=0x00,
        note="NextEntryOffset: from the start of this entry; 0: the last",
    ),
    Field("flags", "B", at=0x04, note="0x80: FILE_NEED_EA"),
    Field("name_length", "B", at=0x05, note="bytes, without the zero byte behind the name"),
    Field("value_length", "H", at=0x06, note="bytes; the value follows the zero byte"),
    size=8,
    source="[MS-FSCC] 2.4, FileFullEaInformation (FILE_FULL_EA_INFORMATION)",
)

LXDEV = b"$LXDEV"

MAX_SIZE = 64 << 10
"""Bytes that all of a file's may have."""

_entry = EA_ENTRY.picker("next_offset", "name_length", "value_length").unpack_from


def decode_eas(value: bytes) -> dict[bytes, bytes]:
    """Return the values by name. Raises Corrupt."""
    found: dict[bytes, bytes] = {}
    position, end = 0, len(value)
    while position + EA_ENTRY.size <= end:
        following, name_length, value_length = _entry(value, position)
        name = position + EA_ENTRY.size
        at = name + name_length + 1
        if at + value_length > end:
            raise Corrupt(Damage.EXTENDED_ATTRIBUTE_OUTSIDE_EA, position, actual=value_length)
        found[value[name : name + name_length]] = value[at : at + value_length]
        if following == 0:
            break
        if following < at + value_length - position:
            raise Corrupt(Damage.EXTENDED_ATTRIBUTES_OVERLAP, position, actual=following)
        position += following
    return found


def device_number(eas: dict[bytes, bytes]) -> int:
    """Return the number of a device file of WSL. Raises Corrupt if it is not there."""
    value = eas.get(LXDEV, b"")
    if len(value) != 8:
        raise Corrupt(Damage.LXDEV_OF_DEVICE_FILE, expected="8 bytes", actual=len(value))
    major, minor = (int.from_bytes(value[at : at + 4], "little") for at in (0, 4))
    if major >= 1 << 12 or minor >= 1 << 20:
        raise Corrupt(Damage.DEVICE_NUMBER, expected="12 and 20 bits", actual=major)
    return os.makedev(major, minor)
