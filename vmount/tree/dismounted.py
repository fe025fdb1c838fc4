"""The placeholder for the files of a dismounted volume."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from vmount.parsers.model import FilesystemInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vmount.parsers.model import Attrs, DirEntry, FileData, Ino, XAttr
    from vmount.parsers.reader import Buffer, Span


class ClosedFile:
    """An open file that nothing can be read from any more."""

    def __init__(self, size: int) -> None:
        self.size = size

    def try_read(self, _offset: int, _length: int) -> Buffer | None:
        """Return None: `read` tells."""
        return None

    async def read(self, _offset: int, _length: int) -> Buffer:
        """Raise ESTALE."""
        raise _stale()

    def spans(self) -> Sequence[Span]:
        """Return nothing."""
        return []

    def where(self, _offset: int, _length: int, /) -> Sequence[Span]:
        """Return nothing."""
        return []


class Dismounted:
    """A file system whose every method raises ESTALE."""

    info = FilesystemInfo("", "", "", 0, 0, 4096)

    def __init__(self, root: Ino) -> None:
        self.root = root

    async def attrs(self, ino: Ino) -> Attrs:
        """Raise ESTALE."""
        raise _stale()

    async def lookup(self, parent: Ino, name: bytes) -> Attrs | None:
        """Raise ESTALE."""
        raise _stale()

    async def listdir(self, ino: Ino) -> Sequence[DirEntry]:
        """Raise ESTALE."""
        raise _stale()

    async def readlink(self, ino: Ino) -> bytes:
        """Raise ESTALE."""
        raise _stale()

    async def xattrs(self, ino: Ino) -> Mapping[bytes, XAttr]:
        """Raise ESTALE."""
        raise _stale()

    async def data(self, ino: Ino, stream: bytes = b"") -> FileData:
        """Raise ESTALE."""
        raise _stale()


def _stale() -> OSError:
    return OSError(errno.ESTALE, "the volume was dismounted")
