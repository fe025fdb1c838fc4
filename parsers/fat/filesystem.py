"""Walking a FAT volume.

Strategy: a file's number is the place of its short entry, divided by the size of an entry: all that there
is to know of the file is there, and attributes and data need no more than the number. The directories read last are
kept, for a look-up has to read all of its directory. The FAT is looked at when a file is opened.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from vmount.parsers.fat.boot import ENTRY_SIZE
from vmount.parsers.fat.cache import directory_cache
from vmount.parsers.fat.directory import Directory, decode_directory
from vmount.parsers.fat.entry import ShortEntry, decode_short, entry_attrs
from vmount.parsers.model import Attrs, DirEntry, FileData, FilesystemInfo, Inline, Runs
from vmount.parsers.wtf8 import from_wtf8, to_wtf8

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vmount.parsers.fat.volume import Volume
    from vmount.parsers.model import Ino, XAttr

ROOT = 1
"""The root directory has no entry. The place of this number is in the boot sector."""

_new = tuple.__new__


class FatFilesystem:
    """An open FAT volume; see `parsers.model.Filesystem` and `open_fat`.

    Names are found in any case, and by their short form, which `listdir` gives only where there is no long one.
    """

    root = ROOT

    def __init__(
        self, volume: Volume, info: FilesystemInfo, *, code_page: str, utc_offset: int
    ) -> None:
        self._volume = volume
        self._code_page = code_page
        self._utc_offset = utc_offset
        self._directories = directory_cache(Directory)
        self.info = info

    @property
    def kind(self) -> str:
        """ "FAT12", "FAT16" or "FAT32"."""
        return self._volume.boot.kind.name

    async def attrs(self, ino: Ino) -> Attrs:
        """Return a file's attributes. The root directory has no times."""
        entry = await self._entry(ino)
        if entry is None:
            return Attrs(ino, stat.S_IFDIR | 0o755, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        return self._attrs(entry, ino)

    async def lookup(self, parent: Ino, name: bytes) -> Attrs | None:
        """Return the attributes of the file of this name in a directory, None if there is none."""
        directory = await self._directory(parent)
        text = from_wtf8(name)
        found = None if text is None else directory.find(text)
        return None if found is None else self._attrs(found.entry, found.ino)

    async def listdir(self, ino: Ino) -> Sequence[DirEntry]:
        """Return a directory's entries with attributes, in the order of the disk."""
        listing: list[DirEntry] = []
        for name, _, number, entry in (await self._directory(ino)).files:
            attrs = self._attrs(entry, number)
            kind = stat.S_IFDIR if entry.is_directory else stat.S_IFREG
            listing.append(_new(DirEntry, (to_wtf8(name), number, kind, attrs)))
        return listing

    async def readlink(self, ino: Ino) -> bytes:
        """Raise OSError(EINVAL): FAT has no symbolic links."""
        await self._entry(ino)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    async def xattrs(self, ino: Ino) -> Mapping[bytes, XAttr]:
        """Return nothing: FAT has no extended attributes."""
        await self._entry(ino)
        return {}

    async def data(self, ino: Ino, stream: bytes = b"") -> FileData:
        """Return where the bytes of a file are.

        Raises Corrupt if its chain of clusters is damaged or ends before the file.
        """
        entry = await self._entry(ino)
        if stream:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if entry is None or entry.is_directory:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        runs = await self._volume.file_runs(entry)
        if not runs:
            return FileData(0, 0, Inline(b""))
        return FileData(entry.size, entry.size, Runs(runs))

    async def free_bytes(self) -> int:
        """Return how many bytes the FAT says are free. Reads all of it."""
        return await self._volume.table.count_free() * self._volume.boot.cluster_size

    async def _entry(self, ino: Ino) -> ShortEntry | None:
        """Return a file's entry; the root directory has none.

        Raises FileNotFoundError for a number that is no place of an entry in use.
        """
        if ino == ROOT:
            return None
        for directory in self._directories:
            known = directory.by_ino.get(ino)
            if known is not None:
                return known.entry
        boot = self._volume.boot
        place = ino * ENTRY_SIZE
        in_root = boot.root_offset <= place < boot.root_offset + boot.root_size
        if in_root or boot.data_offset <= place < boot.data_offset + boot.data_size:
            entry = decode_short(await self._volume.reader.read(place, ENTRY_SIZE))
            if entry.is_file:
                return entry
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    async def _directory(self, ino: Ino) -> Directory:
        directory = self._directories.get(ino)
        if directory is None:
            entry = await self._entry(ino)
            if entry is not None and not entry.is_directory:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            data, runs = await self._volume.read_directory(entry)
            directory = decode_directory(data, runs, self._code_page)
            self._directories.put(ino, directory)
        return directory

    def _attrs(self, entry: ShortEntry, ino: Ino) -> Attrs:
        return entry_attrs(entry, ino, self._volume.boot.cluster_size, self._utc_offset)
