"""NTFS with alternate streams as files of their own: `report.txt:Zone.Identifier`, as Windows names them.

Strategy: a stream's inode number is that of its file with the stream's place among the file's streams, counted
from 1, in the upper 16 of the 48 bits. So it is worked out and never stored. A volume has fewer than 2**32
files, and a file whose number is larger, or a stream beyond the 65535th, is shown without.

Source: [MS-FSCC] 2.1.5.3 (stream names); the inode numbers are vmount's.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from vmount.parsers.errors import ParseError
from vmount.parsers.model import Attrs, DirEntry
from vmount.parsers.ntfs.file_attrs import FILE_MODE
from vmount.parsers.ntfs.filesystem import NtfsFilesystem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vmount.parsers.model import FileData, Ino, XAttr

STREAM_SHIFT = 32
FILE_MASK = (1 << STREAM_SHIFT) - 1
MOST_STREAMS = (1 << 16) - 1
COLON = ord(":")

_EXECUTABLE = 0o111


class StreamsFilesystem(NtfsFilesystem):
    """An open NTFS volume whose directories have a name for each stream too."""

    async def attrs(self, ino: Ino) -> Attrs:
        """Return the attributes of a file or stream."""
        if not ino >> STREAM_SHIFT:
            return await super().attrs(ino)
        owner = await super().attrs(ino & FILE_MASK)
        _, size, allocated = await self._stream(ino)
        return _stream_attrs(owner, ino, size, allocated)

    async def lookup(self, parent: Ino, name: bytes) -> Attrs | None:
        """Return the attributes of the file or stream of this name in a directory, None if there is none.

        A file whose own name has a colon, which Windows could not use, comes before a stream.
        """
        self._no_directory(parent)
        found = await super().lookup(parent, name)
        if found is not None:
            return found
        # Neither names nor streams have colons in Windows; what another system wrote may have.
        for at in (at for at, byte in enumerate(name) if byte == COLON):
            found = await self._lookup_stream(parent, name[:at], name[at + 1 :])
            if found is not None:
                return found
        return None

    async def listdir(self, ino: Ino) -> Sequence[DirEntry]:
        """Return a directory's entries, each followed by the streams that it has."""
        self._no_directory(ino)
        listing: list[DirEntry] = []
        for entry in await super().listdir(ino):
            listing.append(entry)
            if entry.attrs is None or entry.ino > FILE_MASK:
                continue
            try:
                streams = await self.stream_sizes(entry.ino)
            except (ParseError, OSError):
                # Asking for the file's attributes says what is wrong.
                continue
            for number, (name, size, allocated) in enumerate(streams[:MOST_STREAMS], 1):
                own = number << STREAM_SHIFT | entry.ino
                attrs = _stream_attrs(entry.attrs, own, size, allocated)
                listing.append(DirEntry(entry.name + b":" + name, own, stat.S_IFREG, attrs))
        return listing

    async def readlink(self, ino: Ino) -> bytes:
        """Return the target of a symbolic link."""
        if ino >> STREAM_SHIFT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return await super().readlink(ino)

    async def xattrs(self, ino: Ino) -> Mapping[bytes, XAttr]:
        """Return a file's streams as `user.` attributes; a stream has none."""
        return {} if ino >> STREAM_SHIFT else await super().xattrs(ino)

    async def hidden_xattr(self, ino: Ino, name: bytes) -> bytes | None:
        """Return an attribute of ntfs-3g's own; a stream has none."""
        return None if ino >> STREAM_SHIFT else await super().hidden_xattr(ino, name)

    async def data(self, ino: Ino, stream: bytes = b"") -> FileData:
        """Return where the bytes of a file or stream are."""
        if not ino >> STREAM_SHIFT:
            return await super().data(ino, stream)
        if stream:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        name, _, _ = await self._stream(ino)
        return await super().data(ino & FILE_MASK, name)

    async def _lookup_stream(self, parent: Ino, file: bytes, stream: bytes) -> Attrs | None:
        owner = await super().lookup(parent, file) if file and stream else None
        if owner is None:
            return None
        numbered = list(enumerate(await self.stream_sizes(owner.ino), 1))[:MOST_STREAMS]
        found = [row for row in numbered if row[1][0] == stream]
        if not found and not self.info.case_sensitive:
            key = self.folded(stream)
            found = [row for row in numbered if self.folded(row[1][0]) == key]
        if not found or owner.ino > FILE_MASK:
            return None
        number, (_, size, allocated) = found[0]
        return _stream_attrs(owner, number << STREAM_SHIFT | owner.ino, size, allocated)

    async def _stream(self, ino: Ino) -> tuple[bytes, int, int]:
        """Return name and sizes of the stream with a number. Raises FileNotFoundError."""
        streams = await self.stream_sizes(ino & FILE_MASK)
        number = ino >> STREAM_SHIFT
        if number > len(streams):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return streams[number - 1]

    def _no_directory(self, ino: Ino) -> None:
        if ino >> STREAM_SHIFT:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def _stream_attrs(owner: Attrs, ino: Ino, size: int, allocated: int) -> Attrs:
    """Return the attributes of a stream: those of its file, but it is always a plain file by itself."""
    mode = stat.S_IMODE(owner.mode)
    if not stat.S_ISREG(owner.mode):
        mode &= ~_EXECUTABLE
    if stat.S_ISLNK(owner.mode):
        mode = stat.S_IMODE(FILE_MODE)
    return owner._replace(
        ino=ino, mode=stat.S_IFREG | mode, nlink=1, size=size, allocated=allocated, rdev=0
    )
