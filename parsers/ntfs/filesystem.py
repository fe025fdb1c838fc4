"""Walking an NTFS volume.

Strategy: a listing tells everything about its files, so it asks for all their MFT records at once
(mft.py); what it read is kept for the opens that follow. What needs more than a file's first record (an
attribute list, a reparse point that is not in the record) is the rare case and read one at a time.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import TYPE_CHECKING

from parsers.errors import Corrupt, NotRecognised, ParseError
from parsers.model import (
    DirEntry,
    FileData,
    FilesystemInfo,
    Inline,
    Run,
    Runs,
)
from parsers.ntfs.attribute import (
    DATA,
    I30,
    INDEX_ROOT,
    VOLUME_INFORMATION,
    VOLUME_NAME,
)
from parsers.ntfs.boot import BOOT_SECTOR, decode_boot
from parsers.ntfs.directory import Directory
from parsers.ntfs.file_attrs import file_attrs, may_be_special
from parsers.ntfs.file_name import DIRECTORY_BIT, DOS
from parsers.ntfs.mft import open_mft
from parsers.ntfs.names import UPCASE_SIZE, from_wtf8, to_wtf8
from parsers.ntfs.record import INO_MASK, matches
from parsers.ntfs.stream import Stream, decode_extents, select
from parsers.ntfs.volume import DIRTY, decode_volume_information

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from parsers.model import Attrs, Ino, XAttr
    from parsers.ntfs.attribute import Attribute
    from parsers.ntfs.boot import Boot
    from parsers.ntfs.index import IndexEntry
    from parsers.ntfs.mft import Mft
    from parsers.ntfs.record import Record
    from parsers.reader import BlockSource

VOLUME = 3
ROOT = 5
BITMAP_FILE = 6
UPCASE = 10
FIRST_USER = 16
"""Files below this number are the volume's own. Windows has used 24 since 2000, NT 4 did not."""

MAX_UPCASE = 2 * UPCASE_SIZE


class NtfsFilesystem:
    """An open NTFS volume; see `parsers.model.Filesystem` and `open_ntfs`."""

    root = ROOT

    def __init__(
        self,
        reader: BlockSource,
        boot: Boot,
        mft: Mft,
        upcase: Sequence[int] | None,
        info: FilesystemInfo,
        version: tuple[int, int],
        *,
        show_system: bool,
        ignore_case: bool,
    ) -> None:
        self._reader = reader
        self._boot = boot
        self._mft = mft
        self._upcase = upcase
        self._show_system = show_system
        self._ignore_case = ignore_case
        self.info = info
        self.version = version
        """Of the format: (3, 1) since Windows XP."""

    async def attrs(self, ino: Ino) -> Attrs:
        """Return a file's attributes."""
        return await self._attrs(await self._record(ino))

    async def lookup(self, parent: Ino, name: bytes) -> Attrs | None:
        """Return the attributes of the file of this name in a directory, None if there is none.

        A DOS name is found although `listdir` does not give it.
        """
        directory = await self._directory(parent)
        units = from_wtf8(name)
        if units is None:
            return None
        if self._upcase is None:
            entries = await directory.entries()
        else:
            entries = await directory.candidates(units, self._upcase)
        found = [entry for entry in entries if entry.name == units]
        if not found and self._ignore_case:
            found = entries if self._upcase is not None else []
        for entry in found:
            if self._is_shown(entry):
                if not _is_in(entry, parent):
                    raise Corrupt("name of another directory", actual=entry.parent)
                record = await self._record(entry.reference & INO_MASK)
                if not matches(record, entry.reference):
                    raise Corrupt("name of a file that is gone", actual=entry.reference)
                return await self._attrs(record)
        return None

    async def listdir(self, ino: Ino) -> Sequence[DirEntry]:
        """Return a directory's entries with attributes, in the order of its index on the disk.

        Names in the DOS namespace are not given. An entry whose MFT record is damaged or holds another
        file by now has no attributes.
        """
        directory = await self._directory(ino)
        shown = [
            entry
            for entry in await directory.entries()
            if entry.namespace != DOS and self._is_shown(entry)
        ]
        records = await self._mft.records([entry.reference & INO_MASK for entry in shown])
        return [await self._entry(entry, records, ino) for entry in shown]

    async def readlink(self, ino: Ino) -> bytes:
        """Return the target of a symbolic link."""
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    async def xattrs(self, ino: Ino) -> Mapping[bytes, XAttr]:
        """Return a file's named streams as `user.` attributes."""
        return {}

    async def data(self, ino: Ino, stream: bytes = b"") -> FileData:
        """Return where the bytes of a file, or of a named stream of it, are."""
        record = await self._record(ino)
        name = from_wtf8(stream)
        attributes = await self._mft.attributes(record)
        extents = select(attributes, DATA, name) if name is not None else []
        if not extents:
            if stream or record.is_directory:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            return FileData(0, 0, Inline(b""))
        return file_data(extents, self._boot)

    async def _record(self, ino: Ino) -> Record:
        """Return the first record of a file."""
        record = await self._mft.record(ino)
        if not record.in_use or record.base:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return record

    async def _directory(self, ino: Ino) -> Directory:
        record = await self._record(ino)
        if not record.is_directory:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return Directory(self._reader, self._boot, await self._mft.attributes(record))

    async def _attrs(self, record: Record) -> Attrs:
        return file_attrs(record, await self._mft.attributes(record))

    async def _entry(
        self, entry: IndexEntry, records: Mapping[int, Record | ParseError], parent: Ino
    ) -> DirEntry:
        ino = entry.reference & INO_MASK
        record = records[ino]
        name = to_wtf8(entry.name)
        if isinstance(record, ParseError) or not matches(record, entry.reference):
            attrs = None
        else:
            attrs = await self._attrs(record)
        kind = stat.S_IFMT(attrs.mode) if attrs else 0
        return DirEntry(name, ino, kind, attrs)

    def _is_shown(self, entry: IndexEntry) -> bool:
        ino = entry.reference & INO_MASK
        return ino != ROOT and (ino >= FIRST_USER or self._show_system)


def _is_in(entry: IndexEntry, parent: Ino) -> bool:
    return entry.parent & INO_MASK == parent


def file_data(extents: Sequence[Attribute], boot: Boot) -> FileData:
    first = extents[0]
    size, valid, _ = first.sizes
    if not first.nonresident:
        return FileData(size, size, Inline(first.value))
    return FileData(size, valid, Runs(tuple(decode_extents(extents, boot))))


async def open_ntfs(
    reader: BlockSource, *, show_system: bool = False, ignore_case: bool = False
) -> NtfsFilesystem:
    boot = decode_boot(await reader.read(0, BOOT_SECTOR.size))
    mft = await open_mft(reader, boot, boot.mft_offset)
    info = FilesystemInfo("ntfs", "", f"{boot.serial:016X}", boot.size, 0, boot.cluster_size)
    record = await mft.record(UPCASE)
    data = await Stream(select(record.attributes, DATA), boot).read_all(reader, MAX_UPCASE)
    return NtfsFilesystem(reader, boot, mft, struct.unpack(f"<{UPCASE_SIZE}H", data), info, (3, 1),
        show_system=show_system, ignore_case=ignore_case)
