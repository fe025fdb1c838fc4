"""A file on a disk, as Python's own file objects are."""

from __future__ import annotations

import errno
import io
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vmount.errors import errno_of
from vmount.parsers.errors import ParseError
from vmount.parsers.reader import Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vmount.api.bridge import Bridge
    from vmount.blocks.file_map import FileMap
    from vmount.parsers.reader import Buffer

READ_SIZE = 1 << 20
"""Bytes that a file reads ahead of its caller."""


class FileReader(io.BufferedReader):
    """A file on a disk, as a binary file object. Several threads may use it, as one of `open`."""

    def __init__(self, content: FileMap, path: str, bridge: Bridge, keep: object = None) -> None:
        """`keep` lives as long as the file: the disk set that it is read from."""
        super().__init__(_RawFile(content, path, bridge), READ_SIZE)
        self._content = content
        self._keep = keep

    def spans(self) -> Sequence[Span]:
        """Return the parts that may hold something else than zeros, in order."""
        return self._content.spans()


class SmallFile(io.BytesIO):
    """A file on a disk, all of whose bytes are in memory, as a binary file object."""

    mode = "rb"

    def __init__(self, data: Buffer, path: str) -> None:
        super().__init__(data)
        self.name = path

    def spans(self) -> Sequence[Span]:
        """Return the whole of it."""
        size = self.getbuffer().nbytes
        return [Span(0, size)] if size else []


class _RawFile(io.RawIOBase):
    mode = "rb"

    def __init__(self, content: FileMap, path: str, bridge: Bridge) -> None:
        super().__init__()
        self.name = path
        self._bridge = bridge
        self._content = content
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._content.size}[
            whence
        ]
        if base + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self.name)
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        with as_os_errors(self.name):
            data = self._bridge.run(lambda: self._read(self._position, len(view)))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    async def _read(self, offset: int, length: int) -> Buffer:
        data = self._content.try_read(offset, length)
        return await self._content.read(offset, length) if data is None else data


@contextmanager
def as_os_errors(path: str | bytes) -> Iterator[None]:
    """Let errors of the parsers come out as OSErrors that name the path."""
    try:
        yield
    except ParseError as error:
        raise OSError(errno_of(error), str(error), os.fsdecode(path)) from error
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, os.fsdecode(path)) from error
        raise
