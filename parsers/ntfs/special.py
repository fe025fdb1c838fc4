"""Files that are not what their records say: links, devices, placeholders.

Source: reparse, ea and interix name theirs.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt
from vmount.parsers.ntfs import ea, interix, reparse
from vmount.parsers.ntfs.attribute import COMPRESSED_MASK, DATA, EA, ENCRYPTED, REPARSE_POINT
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.ntfs.file_attrs import LINK_MODE, Special
from vmount.parsers.ntfs.filtered import filtered_data
from vmount.parsers.ntfs.standard_information import HIDDEN, REPARSE, SYSTEM, decode_standard_of
from vmount.parsers.ntfs.stream import Stream, select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.model import FileData
    from vmount.parsers.ntfs.attribute import Attribute
    from vmount.parsers.ntfs.boot import Boot
    from vmount.parsers.ntfs.interix import InterixFile
    from vmount.parsers.ntfs.record import Record
    from vmount.parsers.ntfs.reparse import ReparsePoint
    from vmount.parsers.reader import Reader

_PERMISSIONS = 0o644


class SpecialFiles:
    """Looks at the attributes of a file that make it special. All methods raise Corrupt."""

    def __init__(self, reader: Reader, boot: Boot) -> None:
        self._reader = reader
        self._boot = boot

    async def look(self, record: Record, attributes: Sequence[Attribute]) -> Special | None:
        """Tell what the file is to be shown as, None if nothing special."""
        if point := await self.reparse(attributes):
            if point.target is not None:
                return Special(LINK_MODE, len(point.target))
            if kind := reparse.SPECIAL_MODES.get(point.tag):
                return Special(kind | _PERMISSIONS, 0, await self._device(kind, attributes))
            return None
        if file := await self._interix(record, attributes):
            if file.target is not None:
                return Special(LINK_MODE, len(file.target))
            return Special(file.type | _PERMISSIONS, file.size, file.rdev)
        return None

    async def target(self, record: Record, attributes: Sequence[Attribute]) -> bytes | None:
        """Return the target of a symbolic link, None if the file is none."""
        if point := await self.reparse(attributes):
            return point.target
        file = await self._interix(record, attributes)
        return file.target if file else None

    async def reparse(self, attributes: Sequence[Attribute]) -> ReparsePoint | None:
        """Return a file's reparse point if it has one."""
        if not decode_standard_of(attributes)[4] & REPARSE:
            return None
        found = select(attributes, REPARSE_POINT)
        if not found:
            raise Corrupt(Damage.FILE_HAS_NO_REPARSE_POINT_ALTHOUGH_ATTRIBUTES_SAY_SO)
        value = await Stream(found, self._boot).read_all(self._reader, reparse.MAX_SIZE)
        return reparse.decode_reparse(value)

    async def content(self, record: Record, attributes: Sequence[Attribute]) -> FileData | None:
        """Return where a file's bytes are if not simply in its unnamed $DATA attribute, else None.

        Raises Unsupported if a filter driver keeps them in a way that is not known here, OSError(EINVAL)
        if the file is a link or a device.
        """
        if not decode_standard_of(attributes)[4] & (REPARSE | SYSTEM):
            return None
        if await self.look(record, attributes):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        point = await self.reparse(attributes)
        return filtered_data(self._reader, self._boot, attributes, point) if point else None

    async def _interix(self, record: Record, attributes: Sequence[Attribute]) -> InterixFile | None:
        bits = decode_standard_of(attributes)[4]
        data = select(attributes, DATA)
        if not bits & SYSTEM or record.is_directory or not data:
            return None
        if data[0].flags & (COMPRESSED_MASK | ENCRYPTED) and data[0].nonresident:
            return None
        if data[0].sizes.size > interix.MAX_SIZE:
            return None
        content = await Stream(data, self._boot).read_all(self._reader, interix.MAX_SIZE)
        return interix.decode_interix(content, hidden=bool(bits & HIDDEN))

    async def _device(self, kind: int, attributes: Sequence[Attribute]) -> int:
        if kind not in (stat.S_IFCHR, stat.S_IFBLK):
            return 0
        found = select(attributes, EA)
        if not found:
            raise Corrupt(Damage.DEVICE_FILE_HAS_NO_EA)
        value = await Stream(found, self._boot).read_all(self._reader, ea.MAX_SIZE)
        return ea.device_number(ea.decode_eas(value))
