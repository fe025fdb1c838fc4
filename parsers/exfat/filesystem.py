"""Walking an exFAT volume.

Strategy: a file's number is the place of its set of entries, which says all that there is to know of the file.
The directories read last are kept, for a look-up has to read all of its directory. The FAT is looked at when a
file is opened whose clusters are not side by side.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, ParseError
from vmount.parsers.exfat.directory import Directory, decode_directory, place_of
from vmount.parsers.exfat.entry import FILE
from vmount.parsers.exfat.entry_set import FileEntry, decode_set, entry_attrs
from vmount.parsers.fat.cache import directory_cache
from vmount.parsers.fat.clusters import MAX_READ
from vmount.parsers.model import Attrs, DirEntry, FileData, FilesystemInfo, Inline, Runs
from vmount.parsers.wtf8 import from_wtf8, to_wtf8

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vmount.parsers.exfat.upcase import Upcase
    from vmount.parsers.exfat.volume import Volume
    from vmount.parsers.model import Ino, Run, XAttr

ROOT = 1
"""The root directory has no entry. The place of this number is in the boot sector."""

_new = tuple.__new__


class ExfatFilesystem:
    """An open exFAT volume; see `parsers.model.Filesystem` and `open_exfat`. Names are found in any case."""

    root = ROOT

    def __init__(
        self,
        volume: Volume,
        upcase: Upcase,
        bitmap: Sequence[Run],
        info: FilesystemInfo,
        *,
        root_size: int,
        utc_offset: int,
    ) -> None:
        self._volume = volume
        self._upcase = upcase
        self._bitmap = bitmap
        self._root_size = root_size
        self._utc_offset = utc_offset
        self._directories = directory_cache(Directory)
        self._largest: dict[Ino, Directory] = {}
        """The directory read last of those that are too large for the others' cache."""
        self.info = info

    async def attrs(self, ino: Ino) -> Attrs:
        """Return a file's attributes. The root directory has no times."""
        entry = await self._entry(ino)
        if entry is None:
            size = self._root_size
            return Attrs(ino, stat.S_IFDIR | 0o755, 1, 0, 0, size, size, 0, 0, 0, 0, 0)
        return self._attrs(entry, ino)

    async def lookup(self, parent: Ino, name: bytes) -> Attrs | None:
        """Return the attributes of the file of this name in a directory, None if there is none."""
        directory = await self._directory(parent)
        text = from_wtf8(name)
        found = None if text is None else directory.find(text)
        if found is None:
            return None
        if isinstance(found.entry, ParseError):
            raise found.entry
        return self._attrs(found.entry, found.ino)

    async def listdir(self, ino: Ino) -> Sequence[DirEntry]:
        """Return a directory's entries with attributes, in the order of the disk.

        One whose set of entries is damaged has no attributes.
        """
        listing: list[DirEntry] = []
        for name, number, entry in (await self._directory(ino)).files:
            try:
                if isinstance(entry, ParseError):
                    raise entry.with_traceback(None)
                attrs = self._attrs(entry, number)
            except ParseError:
                listing.append(DirEntry(to_wtf8(name), number, 0, None))
                continue
            kind = stat.S_IFDIR if entry.is_directory else stat.S_IFREG
            listing.append(_new(DirEntry, (to_wtf8(name), number, kind, attrs)))
        return listing

    async def readlink(self, ino: Ino) -> bytes:
        """Raise OSError(EINVAL): exFAT has no symbolic links."""
        await self._entry(ino)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    async def xattrs(self, ino: Ino) -> Mapping[bytes, XAttr]:
        """Return nothing: exFAT has no extended attributes."""
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
        if entry.size == 0:
            return FileData(0, 0, Inline(b""))
        runs = await self._volume.runs(
            entry.first_cluster, entry.size, contiguous=entry.is_contiguous
        )
        return FileData(entry.size, entry.valid, Runs(runs))

    async def free_bytes(self) -> int:
        """Return how many bytes the allocation bitmap says are free. Reads all of it.

        Raises Corrupt if there is no such bitmap.
        """
        clusters = self._volume.boot.clusters
        if sum(run.length for run in self._bitmap) * 8 < clusters:
            raise Corrupt("allocation bitmap missing or too short", expected=clusters)
        used = 0
        for offset, length, start in self._bitmap:
            assert start is not None
            for at in range(0, length, MAX_READ):
                piece = await self._volume.reader.read(start + at, min(MAX_READ, length - at))
                left = max(0, clusters - (offset + at) * 8)
                bits = int.from_bytes(piece, "little") & (1 << min(left, len(piece) * 8)) - 1
                used += bits.bit_count()
        return (clusters - used) * self._volume.boot.cluster_size

    async def _entry(self, ino: Ino) -> FileEntry | None:
        """Return a file's entry; the root directory has none.

        Raises FileNotFoundError for a number that is no place of a file entry, Corrupt or Unsupported for a set
        of entries that cannot be used.
        """
        if ino == ROOT:
            return None
        kept: list[Directory] = [*self._directories, *self._largest.values()]
        for directory in kept:
            known = directory.by_ino.get(ino)
            if known is not None:
                if isinstance(known.entry, ParseError):
                    raise known.entry
                return known.entry
        boot = self._volume.boot
        place, contiguous = place_of(ino)
        if boot.heap_offset <= place < boot.heap_offset + boot.clusters * boot.cluster_size:
            data = await self._volume.read_set(place, contiguous=contiguous)
            if data[0] == FILE:
                return decode_set(data)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    async def _directory(self, ino: Ino) -> Directory:
        directory = self._directories.get(ino) or self._largest.get(ino)
        if directory is None:
            entry = await self._entry(ino)
            if entry is not None and not entry.is_directory:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            data, runs = await self._volume.read_directory(entry)
            directory = decode_directory(
                data,
                runs,
                self._upcase,
                contiguous=entry is not None and entry.is_contiguous,
                is_root=entry is None,
            )
            self._directories.put(ino, directory)
            if ino not in self._directories:
                self._largest = {ino: directory}
        return directory

    def _attrs(self, entry: FileEntry, ino: Ino) -> Attrs:
        return entry_attrs(entry, ino, self._volume.boot.cluster_size, self._utc_offset)
