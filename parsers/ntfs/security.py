"""$Secure: the security descriptors of a volume, each kept once for all files that have it.

A file has a number (security_id in its $STANDARD_INFORMATION); the index $SII tells where in the stream
$SDS the descriptor of that number is. $SDS has everything twice: each 256 KiB are repeated in the next
256 KiB. Where the index is damaged the stream is walked: each descriptor has its number with it. Files of NT 4 have a descriptor of their own instead, in $SECURITY_DESCRIPTOR.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "$Secure".
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.lru import Lru
from vmount.parsers.ntfs.attribute import DATA, SECURITY_DESCRIPTOR
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.ntfs.security_descriptor import DESCRIPTOR, MAX_SIZE
from vmount.parsers.ntfs.standard_information import security_id_of
from vmount.parsers.ntfs.stream import Stream, select
from vmount.parsers.ntfs.view_index import COLLATION_ULONG, ViewIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.ntfs.attribute import Attribute
    from vmount.parsers.ntfs.boot import Boot
    from vmount.parsers.ntfs.mft import Mft
    from vmount.parsers.reader import Reader

SECURE_FILE = 9

SDS = "$SDS".encode("utf-16-le")
SII = "$SII"

SDS_HEAD = Layout(
    "security descriptor header",
    Field("hash", "I", at=0x00, note="of the descriptor that follows"),
    Field("security_id", "I", at=0x04),
    Field("offset", "Q", at=0x08, note="of this entry in $SDS"),
    Field("size", "I", at=0x10, note="length: bytes of the entry with this header"),
    size=20,
    source=(
        "reverse engineered: Linux-NTFS documentation (Russon, Fledel), $Secure; "
        "ntfs-3g layout.h SECURITY_DESCRIPTOR_HEADER"
    ),
)
"""In front of each descriptor in $SDS, and the data of an entry of $SII. `size` counts this header too."""

COPY_DISTANCE = 256 << 10
"""Bytes in $SDS from a descriptor to its copy."""

ALIGNMENT = 16
"""Bytes: descriptors begin at multiples of it."""

MOST_WALKED = 32 << 20
"""Bytes of $SDS that are walked: some hundred thousand descriptors, more than a system has."""

MOST_KEPT = 1 << 12
"""Descriptors kept decoded: a system has some thousands."""

_head = SDS_HEAD.picker("hash", "security_id", "offset", "size").unpack_from


class SecurityDescriptors:
    """The descriptors of a volume; those found are kept."""

    def __init__(self, reader: Reader, boot: Boot, mft: Mft) -> None:
        self._reader = reader
        self._boot = boot
        self._mft = mft
        self._attributes: Sequence[Attribute] | None = None
        """Of $Secure."""
        self._stream: Stream | None = None
        self._walked: dict[int, bytes] | None = None
        """What a walk of $SDS has found, once $SII was found damaged."""
        self._kept: Lru[int, bytes] = Lru(MOST_KEPT)

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
            self._kept.put(number, value)
        return value

    async def _find(self, number: int) -> bytes:
        stream, entry = await self._entry(number)
        if entry is None:
            raise Corrupt(Damage.SECURITY_DESCRIPTOR_IS_NOT_IN_SECURE, actual=number)
        if len(entry) < SDS_HEAD.size:
            raise Corrupt(Damage.ENTRY_OF_SII, expected=SDS_HEAD.size, actual=len(entry))
        _, _, offset, size = _head(entry)
        if not SDS_HEAD.size + DESCRIPTOR.size <= size <= SDS_HEAD.size + MAX_SIZE:
            raise Corrupt(Damage.SIZE_OF_SECURITY_DESCRIPTOR, actual=size)
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
            raise Corrupt(Damage.HEADER_OF_SECURITY_DESCRIPTOR_IS_NOT_AS_IN_SII, offset)
        value = data[SDS_HEAD.size :]
        expected = _head(entry)[0]
        if (found := descriptor_hash(value)) != expected:
            raise Corrupt(
                Damage.HASH_OF_SECURITY_DESCRIPTOR, offset, expected=expected, actual=found
            )
        return value

    async def _entry(self, number: int) -> tuple[Stream, bytes | None]:
        """Return $SDS, and the header of the descriptor of a number in it; None if it is not there."""
        if self._attributes is None:
            record = await self._mft.record(SECURE_FILE)
            self._attributes = await self._mft.attributes(record)
        if self._stream is None:
            data = select(self._attributes, DATA, SDS)
            if not data:
                raise Corrupt(Damage.SECURE_HAS_NO_SDS)
            self._stream = Stream(data, self._boot)
        if self._walked is None:
            try:
                index = ViewIndex(self._reader, self._boot, self._attributes, SII, COLLATION_ULONG)
                entry = await index.find((number,))
                if entry is not None:
                    return self._stream, entry
            except Corrupt as error:
                try:
                    self._walked = await self._walk(self._stream)
                except Corrupt:
                    raise error from None
        return self._stream, None if self._walked is None else self._walked.get(number)

    async def _walk(self, stream: Stream) -> dict[int, bytes]:
        """Return the headers of all descriptors in $SDS by their numbers."""
        found: dict[int, bytes] = {}
        size = min(stream.size, MOST_WALKED)
        for block in range(0, size, 2 * COPY_DISTANCE):
            data = await stream.read(self._reader, block, min(COPY_DISTANCE, size - block))
            position = 0
            while position + SDS_HEAD.size <= len(data):
                _, number, offset, length = _head(data, position)
                if offset != block + position or length < SDS_HEAD.size + DESCRIPTOR.size:
                    break
                found.setdefault(number, data[position : position + SDS_HEAD.size])
                position = -(-(position + length) // ALIGNMENT) * ALIGNMENT
        return found


def descriptor_hash(value: bytes) -> int:
    """Return the hash that $Secure keeps of a descriptor: of its whole words, rotated and added."""
    result = 0
    for (word,) in struct.iter_unpack("<I", value[: len(value) & ~3]):
        result = (result << 3 | result >> 29) + word & 0xFFFFFFFF
    return result
