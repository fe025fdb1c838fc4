"""$Secure: the security descriptors of a volume, each kept once for all files that have it.

A file has a number (security_id in its $STANDARD_INFORMATION); the index $SII tells where in the stream
$SDS the descriptor of that number is. $SDS has everything twice: each 256 KiB are repeated in the next
256 KiB. Files of NT 4 have a descriptor of their own instead, in $SECURITY_DESCRIPTOR.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from typing import TYPE_CHECKING

from parsers.errors import Corrupt
from parsers.layout import Field, Layout
from parsers.ntfs.attribute import DATA, SECURITY_DESCRIPTOR
from parsers.ntfs.security_descriptor import DESCRIPTOR, MAX_SIZE
from parsers.ntfs.standard_information import security_id_of
from parsers.ntfs.stream import Stream, select
from parsers.ntfs.view_index import COLLATION_ULONG, ViewIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parsers.ntfs.attribute import Attribute
    from parsers.ntfs.boot import Boot
    from parsers.ntfs.mft import Mft
    from parsers.reader import Reader

SECURE_FILE = 9

SDS = "$SDS".encode("utf-16-le")
SII = "$SII"

SDS_HEAD = Layout(
    "security descriptor header",
    Field("hash", "I"),
    Field("security_id", "I"),
    Field("offset", "Q"),
    Field("size", "I"),
)
"""In front of each descriptor in $SDS, and the data of an entry of $SII. `size` counts this header too."""

COPY_DISTANCE = 256 << 10
"""Bytes in $SDS from a descriptor to its copy."""

MOST_KEPT = 1 << 12
"""Descriptors kept decoded: a system has some thousands."""

_head = SDS_HEAD.picker("hash", "security_id", "offset", "size").unpack_from


class SecurityDescriptors:
    """The descriptors of a volume; those found are kept."""

    def __init__(self, reader: Reader, boot: Boot, mft: Mft) -> None:
        self._reader = reader
        self._boot = boot
        self._mft = mft
        self._places: tuple[ViewIndex, Stream] | None = None
        self._kept: OrderedDict[int, bytes] = OrderedDict()

    async def of(self, attributes: Sequence[Attribute]) -> bytes | None:
        """Return the security descriptor of a file, None if it has none. Raises Corrupt."""
        number = security_id_of(attributes)
        if number:
            return await self.by_id(number)
        own = select(attributes, SECURITY_DESCRIPTOR)
        if not own:
            return None
        return await Stream(own, self._boot).read_all(self._reader, MAX_SIZE)

    async def by_id(self, number: int) -> bytes:
        """Return the descriptor of a number. Raises Corrupt if it is not there, or damaged."""
        value = self._kept.get(number)
        if value is None:
            value = await self._find(number)
            if len(self._kept) >= MOST_KEPT:
                self._kept.popitem(last=False)
            self._kept[number] = value
        return value

    async def _find(self, number: int) -> bytes:
        index, stream = await self._open()
        entry = await index.find((number,))
        if entry is None:
            raise Corrupt("security descriptor is not in $Secure", actual=number)
        if len(entry) < SDS_HEAD.size:
            raise Corrupt("entry of $SII", expected=SDS_HEAD.size, actual=len(entry))
        _, _, offset, size = _head(entry)
        if not SDS_HEAD.size + DESCRIPTOR.size <= size <= SDS_HEAD.size + MAX_SIZE:
            raise Corrupt("size of a security descriptor", actual=size)
        try:
            return await self._read(stream, offset, entry, size)
        except Corrupt as error:
            try:
                return await self._read(stream, offset + COPY_DISTANCE, entry, size)
            except Corrupt:
                raise error from None

    async def _read(self, stream: Stream, offset: int, entry: bytes, size: int) -> bytes:
        """Read one copy of a descriptor, which must be what its entry in $SII says."""
        data = await stream.read(self._reader, offset, size)
        if data[: SDS_HEAD.size] != entry[: SDS_HEAD.size]:
            raise Corrupt("header of a security descriptor is not as in $SII", offset)
        value = data[SDS_HEAD.size :]
        expected = _head(entry)[0]
        if (found := descriptor_hash(value)) != expected:
            raise Corrupt("hash of a security descriptor", offset, expected=expected, actual=found)
        return value

    async def _open(self) -> tuple[ViewIndex, Stream]:
        if self._places is None:
            record = await self._mft.record(SECURE_FILE)
            attributes = await self._mft.attributes(record)
            index = ViewIndex(self._reader, self._boot, attributes, SII, COLLATION_ULONG)
            data = select(attributes, DATA, SDS)
            if not data:
                raise Corrupt("$Secure has no $SDS", record.where)
            self._places = index, Stream(data, self._boot)
        return self._places


def descriptor_hash(value: bytes) -> int:
    """Return the hash that $Secure keeps of a descriptor: of its whole words, rotated and added."""
    result = 0
    for (word,) in struct.iter_unpack("<I", value[: len(value) & ~3]):
        result = (result << 3 | result >> 29) + word & 0xFFFFFFFF
    return result
