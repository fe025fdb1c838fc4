"""Files and block devices of this machine.

Strategy: nothing is cached here, the kernel does that. A read is first tried without waiting
(RWF_NOWAIT); only when the bytes are not in the page cache does it go to a thread, which costs about
70 us. Where a file system cannot read that way, every read takes the thread.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from vmount.parsers.reader import Buffer, Span, check_bounds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vmount.runtime import Runtime


class LocalFile:
    """A BlockSource over a regular file or a block device, opened read-only.

    Raises OSError naming the file.
    """

    def __init__(self, path: Path, runtime: Runtime) -> None:
        self.path = path
        self._runtime = runtime
        # Without waiting: opening a pipe would wait for a writer.
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            self.size = _size(self._fd, path)
        except BaseException:
            os.close(self._fd)
            raise
        self._nowait = os.RWF_NOWAIT

    def try_read(self, offset: int, length: int) -> Buffer | None:
        """Return the bytes if the page cache has all of them."""
        check_bounds(offset, length, self.size)
        buffer = bytearray(length)
        try:
            count = os.preadv(self._fd, (buffer,), offset, self._nowait)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise self._named(error) from error
            self._nowait = 0
            return None
        # Zero without RWF_NOWAIT in force would block; a short count means that the rest is not cached.
        return buffer if count == length else None

    async def read(self, offset: int, length: int) -> Buffer:
        """Return the bytes, in a thread if the page cache has not all of them."""
        data = self.try_read(offset, length) if self._nowait else None
        if data is None:
            check_bounds(offset, length, self.size)
            data = await self._runtime.run_blocking(lambda: self._pread(offset, length))
        return data

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Do nothing: the kernel reads ahead by itself."""

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _pread(self, offset: int, length: int) -> Buffer:
        buffer = bytearray(length)
        view, done = memoryview(buffer), 0
        while done < length:
            try:
                count = os.preadv(self._fd, (view[done:],), offset + done)
            except OSError as error:
                raise self._named(error) from error
            if count == 0:
                raise OSError(
                    errno.EIO,
                    f"ends at {offset + done:#x}: it has shrunk below {self.size} bytes",
                    str(self.path),
                )
            done += count
        return buffer

    def _named(self, error: OSError) -> OSError:
        return OSError(error.errno, error.strerror, str(self.path))


def _size(fd: int, path: Path) -> int:
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
        return os.lseek(fd, 0, os.SEEK_END)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "not a file or a block device", str(path))
