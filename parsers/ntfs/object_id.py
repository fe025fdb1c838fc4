"""$OBJECT_ID: the GUID that Windows finds a file by when it was moved, and where it was born.

Source: [MS-DLTM] and [MS-FSCC] 2.1.3 (object ids); the form of the attribute is ntfs-3g's.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt
from vmount.parsers.ntfs.attribute import OBJECT_ID
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.ntfs.stream import select
from vmount.parsers.ntfs.view_index import COLLATION_ULONGS, ViewIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.ntfs.attribute import Attribute
    from vmount.parsers.ntfs.boot import Boot
    from vmount.parsers.reader import Reader

INDEX = "$O"
GUID_SIZE = 16
WHOLE_SIZE = 4 * GUID_SIZE
"""With the GUIDs of its first volume, first file and domain."""

_BIRTH = 8
"""Offset of those three in the data of an entry of $O: after the reference to the file."""


async def object_id(attributes: Sequence[Attribute]) -> bytes | None:
    """Return a file's $OBJECT_ID as it is in its record, None if it has none. Raises Corrupt."""
    found = select(attributes, OBJECT_ID)
    if not found:
        return None
    value = found[0].value
    if len(value) < GUID_SIZE:
        raise Corrupt(Damage.SIZE_OF_OBJECT_ID, expected=GUID_SIZE, actual=len(value))
    return value[:WHOLE_SIZE]


async def with_birth(
    value: bytes, reader: Reader, boot: Boot, attributes: Sequence[Attribute]
) -> bytes:
    """Return an object id with what the index in $Extend/$ObjId adds to it: `attributes` are that file's.

    Raises Corrupt.
    """
    index = ViewIndex(reader, boot, attributes, INDEX, COLLATION_ULONGS)
    data = await index.find(struct.unpack("<4I", value[:GUID_SIZE]))
    if data is None or len(data) < _BIRTH + WHOLE_SIZE - GUID_SIZE:
        return value
    return value[:GUID_SIZE] + data[_BIRTH : _BIRTH + WHOLE_SIZE - GUID_SIZE]
