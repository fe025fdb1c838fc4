"""What Windows knows of a file beside its bytes, under the names and in the forms that ntfs-3g has for it.

These attributes are not listed, there as here: who copies a file to some other file system would only
fail to set them. A program that asks for one by its name gets it: `getfattr -n system.ntfs_acl`.

Source: ntfs-3g's manual, "Extended attributes".
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt
from vmount.parsers.ntfs import ea, reparse
from vmount.parsers.ntfs.attribute import EA, FILE_NAME, REPARSE_POINT
from vmount.parsers.ntfs.directory import Directory
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.ntfs.file_name import DOS, FILE_NAME_KEY, WIN32_AND_DOS
from vmount.parsers.ntfs.names import to_wtf8
from vmount.parsers.ntfs.object_id import WHOLE_SIZE, object_id, with_birth
from vmount.parsers.ntfs.record import INO_MASK
from vmount.parsers.ntfs.reparse_tags import WOF
from vmount.parsers.ntfs.standard_information import REPARSE, SPARSE, decode_standard_of
from vmount.parsers.ntfs.stream import Stream, select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.ntfs.attribute import Attribute
    from vmount.parsers.ntfs.boot import Boot
    from vmount.parsers.ntfs.mft import Mft
    from vmount.parsers.ntfs.record import Record
    from vmount.parsers.ntfs.security import SecurityDescriptors
    from vmount.parsers.reader import Reader

PREFIX = b"system.ntfs_"

ACL = PREFIX + b"acl"
ATTRIB = PREFIX + b"attrib"
CRTIME = PREFIX + b"crtime"
DOS_NAME = PREFIX + b"dos_name"
EAS = PREFIX + b"ea"
OBJECT_ID = PREFIX + b"object_id"
REPARSE_DATA = PREFIX + b"reparse_data"
TIMES = PREFIX + b"times"

RESTORABLE = (ACL, ATTRIB, CRTIME)
"""What a copy on another NTFS can be given, and is nowhere else."""

BIG_ENDIAN = b"_be"
"""At the end of a name: the same numbers, the highest byte first."""

ROOT = 5
EXTEND = 11
"""The directory of the volume's own files that did not fit in the first 16."""
OBJECT_IDS = "$ObjId".encode("utf-16-le")

DIRECTORY = 0x10
NORMAL = 0x80

_NAMES = FILE_NAME_KEY.picker("name_length", "namespace").unpack_from


def attribute_bits(attributes: Sequence[Attribute], *, is_directory: bool, wof: bool) -> int:
    """Return a file's attributes as Windows has them (FILE_ATTRIBUTE_...). Raises Corrupt.

    A file that WOF compressed is shown decompressed, so it is neither a reparse point nor sparse: with
    these bits, which a restore would set again, a copy would be broken.
    """
    bits = decode_standard_of(attributes)[4]
    bits = bits | DIRECTORY if is_directory else bits & ~DIRECTORY
    if wof:
        bits &= ~(REPARSE | SPARSE)
    return bits or NORMAL


def packed_bits(bits: int, *, big_endian: bool) -> bytes:
    """Return attributes as ntfs_attrib and ntfs_attrib_be have them."""
    return struct.pack(">I" if big_endian else "<I", bits & 0xFFFFFFFF)


def packed_times(attributes: Sequence[Attribute], *, big_endian: bool) -> bytes:
    """Return FILETIMEs of creation, last write, last access and last change of the record. Raises Corrupt."""
    created, modified, changed, accessed, _ = decode_standard_of(attributes)
    order = ">4q" if big_endian else "<4q"
    return struct.pack(order, created, modified, accessed, changed)


def dos_name(attributes: Sequence[Attribute]) -> bytes | None:
    """Return a file's short name, None if it has none. Raises Corrupt."""
    for attribute in select(attributes, FILE_NAME):
        value = attribute.value
        if len(value) < FILE_NAME_KEY.size:
            raise Corrupt(Damage.SIZE_OF_FILE_NAME, actual=len(value))
        length, namespace = _NAMES(value)
        if namespace in (DOS, WIN32_AND_DOS):
            units = value[FILE_NAME_KEY.size : FILE_NAME_KEY.size + 2 * length]
            if len(units) != 2 * length:
                raise Corrupt(Damage.SIZE_OF_FILE_NAME, actual=len(value))
            return to_wtf8(units)
    return None


async def reparse_data(reader: Reader, boot: Boot, attributes: Sequence[Attribute]) -> bytes | None:
    """Return a file's reparse point with its head, None if it has none. Raises Corrupt."""
    found = select(attributes, REPARSE_POINT)
    if not found or not decode_standard_of(attributes)[4] & REPARSE:
        return None
    return await Stream(found, boot).read_all(reader, reparse.MAX_SIZE)


def is_wof(point: bytes | None) -> bool:
    """Tell whether a reparse point is that of a file compressed with WOF."""
    return point is not None and point[:4] == WOF.to_bytes(4, "little")


async def ea_data(reader: Reader, boot: Boot, attributes: Sequence[Attribute]) -> bytes | None:
    """Return a file's OS/2 attributes as they are stored, None if it has none. Raises Corrupt."""
    found = select(attributes, EA)
    return await Stream(found, boot).read_all(reader, ea.MAX_SIZE) if found else None


class SystemXattrs:
    """Answers for these attributes of the files of a volume."""

    def __init__(self, reader: Reader, boot: Boot, mft: Mft, security: SecurityDescriptors) -> None:
        self._reader = reader
        self._boot = boot
        self._mft = mft
        self._security = security
        self._object_ids: Sequence[Attribute] | None = None

    async def value(self, name: bytes, record: Record) -> bytes | None:
        """Return the attribute of this name of a file, None if it has none. Raises Corrupt."""
        attributes = await self._mft.attributes(record)
        big = name.endswith(BIG_ENDIAN)
        plain = name.removesuffix(BIG_ENDIAN)
        if plain == ATTRIB:
            wof = is_wof(await reparse_data(self._reader, self._boot, attributes))
            bits = attribute_bits(attributes, is_directory=record.is_directory, wof=wof)
            return packed_bits(bits, big_endian=big)
        if plain == TIMES:
            return packed_times(attributes, big_endian=big)
        if plain == CRTIME:
            return packed_times(attributes, big_endian=big)[:8]
        if name == ACL:
            return await self._security.of(attributes)
        if name == REPARSE_DATA:
            point = await reparse_data(self._reader, self._boot, attributes)
            return None if is_wof(point) else point
        if name == DOS_NAME:
            # The root's only name, ".", is both kinds of names.
            return None if record.ino == ROOT else dos_name(attributes)
        if name == OBJECT_ID:
            return await self._object_id(attributes)
        if name == EAS:
            return await ea_data(self._reader, self._boot, attributes)
        return None

    async def _object_id(self, attributes: Sequence[Attribute]) -> bytes | None:
        value = await object_id(attributes)
        if value is None or len(value) == WHOLE_SIZE:
            return value
        if self._object_ids is None:
            self._object_ids = await self._find_object_ids()
        if not self._object_ids:
            return value
        return await with_birth(value, self._reader, self._boot, self._object_ids)

    async def _find_object_ids(self) -> Sequence[Attribute]:
        """Return the attributes of $Extend/$ObjId; none if there is no such file."""
        attributes = await self._mft.attributes(await self._mft.record(EXTEND))
        for entry in await Directory(self._reader, self._boot, attributes).entries():
            if entry.name == OBJECT_IDS:
                record = await self._mft.record(entry.reference & INO_MASK)
                return await self._mft.attributes(record)
        return []
