"""A block device of this machine read past the page cache: a LUN that other hosts write to.

Strategy: O_DIRECT, because what the page cache holds of a LUN may be from before another host's write. A
read is widened to the device's blocks and goes into memory of its own, which the cache then keeps as it
is: nothing is copied. Reads run in threads, several at a time; one that the device does not answer is
given up when its time is over, and its thread and descriptor are let go of when the kernel returns.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import logging
import mmap
import os
import stat
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import trio

from vmount.backends.base import (
    BackendClosed,
    BackendError,
    BackendStats,
    BackendTimeout,
    Extent,
)
from vmount.backends.requests import Counters, cut, run_together
from vmount.parsers.reader import Buffer, Span, check_bounds

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_READ = 1 << 20
"""Bytes a request: a disk gives its full throughput with these, several at a time."""
BLOCK = 4096
"""Bytes: start and length of a direct read are multiples of it, or of the device's own sector if that is
larger. It serves 512-byte and 4Kn devices, and files."""
FROM_HEAP = 64 << 10
"""Bytes that are taken from the heap: mapping memory for each small read costs a third of the throughput,
and a process may not have that many mappings."""

_INT = struct.Struct("i")
_BLKSSZGET = 0x1268
"""ioctl of <linux/fs.h>: the logical sector of a block device."""


@dataclass(frozen=True)
class DirectOptions:
    """How a device is read."""

    threads: int = 8
    """Reads of one device at a time."""
    timeout: float = 60.0
    """Seconds for a read. A LUN without a path may never answer."""


DEFAULTS = DirectOptions()


async def open_direct(path: Path, options: DirectOptions = DEFAULTS) -> DirectDevice:
    """Open a block device, or an image of one, read-only, and read its first block.

    Raises BackendError if it is not there, may not be read, is empty or does not answer.
    """
    limiter = trio.CapacityLimiter(options.threads)
    opened = _Descriptor(path)
    with ExitStack() as stack:
        stack.callback(opened.close)
        try:
            with trio.fail_after(options.timeout):
                await _in_thread(opened.open, limiter)
        except trio.TooSlowError as error:
            raise _no_answer(path, 0, options) from error
        except OSError as error:
            raise _refused(path, error) from error
        stack.pop_all()
    return DirectDevice(opened, limiter, options)


class DirectDevice:
    """A Backend; see open_direct."""

    def __init__(
        self,
        opened: _Descriptor,
        limiter: trio.CapacityLimiter,
        options: DirectOptions,
    ) -> None:
        self.path = opened.path
        self.size = opened.size
        self.max_read = max(MAX_READ, opened.block)
        self._opened = opened
        self._limiter = limiter
        self._options = options
        self._counters = Counters()

    async def read(self, offset: int, length: int) -> Buffer:
        """Return exactly `length` bytes. Raises OutOfBounds, BackendError."""
        check_bounds(offset, length, self.size)
        if self._opened.closed:
            raise BackendClosed(f"{self.path}: closed")
        if length == 0:
            await trio.lowlevel.checkpoint()
            return b""
        block = self._opened.block
        start = offset // block * block
        whole = -(-(offset + length - start) // block) * block
        view = _aligned_memory(whole)
        needed = min(whole, self.size - start)
        with trio.move_on_after(self._options.timeout) as scope:
            await self._fill(start, view, needed)
        if scope.cancelled_caught:
            raise _no_answer(self.path, offset, self._options)
        return view[offset - start : offset - start + length]

    async def allocated(self, offset: int, length: int) -> Sequence[Extent]:
        """Return the range as data: a device does not tell."""
        check_bounds(offset, length, self.size)
        await trio.lowlevel.checkpoint()
        return [Extent(offset, length, zero=False)] if length else []

    def describe(self) -> Mapping[str, object]:
        """Return what a user may want to know."""
        return {"device": str(self.path), "direct": self._opened.direct, "size": self.size}

    def stats(self) -> BackendStats:
        """Return the counters as they are now."""
        return self._counters.stats()

    async def aclose(self) -> None:
        """Close the device, once the reads that are under way have returned."""
        self._opened.close()
        await trio.lowlevel.checkpoint()

    async def _fill(self, start: int, view: memoryview, needed: int) -> None:
        """Read into `view`, cut into requests that are under way at the same time."""
        if len(view) <= self.max_read:
            await self._request(start, view, needed)
            return

        async def request(part: Span) -> None:
            await self._request(
                start + part.offset,
                view[part.offset : part.offset + part.length],
                min(part.length, needed - part.offset),
            )

        await run_together(cut(len(view), self.max_read), request, self._options.threads)

    async def _request(self, start: int, view: memoryview, needed: int) -> None:
        """Read at least `needed` bytes, all that the device has there, into `view`."""
        began = trio.current_time()
        self._counters.in_flight += 1
        try:
            await _in_thread(lambda: self._opened.fill(start, view, needed), self._limiter)
        except BackendError:
            raise
        except OSError as error:
            raise BackendError(
                f"{self.path}: {error.strerror} at {start:#x}; check that the device is still connected"
            ) from error
        finally:
            self._counters.in_flight -= 1
        self._counters.answered(began, needed)


class _Descriptor:
    """A device to be opened and read in threads. What it holds is let go of when the last of them has
    returned, given up or not: a number that is closed earlier could by then be another file's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.block = BLOCK
        """Bytes that reads are made of."""
        self.direct = True
        """Reads go past the page cache."""
        self.closed = False
        self._fd = -1
        self._users = 1
        self._lock = threading.Lock()

    def open(self) -> None:
        """Open the device and read from it once. Raises OSError."""
        with self._using():
            try:
                self._open(direct=True)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._open(direct=False)
                # What is in the page cache may be from before another host's write.
                os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
                log.warning(
                    "%s: does not support O_DIRECT; it is read through the page cache", self.path
                )

    def _open(self, *, direct: bool) -> None:
        fd = _open(self.path, direct=direct)
        try:
            self.size, self.block, self.direct = _size(fd, self.path), _block_size(fd), direct
            os.preadv(fd, (_aligned_memory(self.block),), 0)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def fill(self, start: int, view: memoryview, needed: int) -> None:
        """Read at least `needed` bytes at `start`, which is a multiple of the block, as `view`'s length is.

        Raises OSError, BackendError if the device has become shorter.
        """
        with self._using():
            done = 0
            while True:
                count = os.preadv(self._fd, (view[done:],), start + done)
                if done + count >= needed:
                    return
                if count < self.block:
                    raise BackendError(
                        f"{self.path}: ends at {start + done + count:#x}:"
                        f" it has become shorter than {self.size} bytes"
                    )
                # The next read has to begin at a block, so that a part of one is read again.
                done += count - count % self.block

    def close(self) -> None:
        """Take no more reads. A second call does nothing."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
        self._release()

    @contextmanager
    def _using(self) -> Iterator[None]:
        """Keep the device open meanwhile. Raises BackendClosed."""
        with self._lock:
            if self.closed:
                raise BackendClosed(f"{self.path}: closed")
            self._users += 1
        try:
            yield
        finally:
            self._release()

    def _release(self) -> None:
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last and self._fd >= 0:
            os.close(self._fd)


def _open(path: Path, *, direct: bool) -> int:
    # Without waiting: opening a pipe would wait for a writer.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    return os.open(path, flags | (os.O_DIRECT if direct else 0))


def _size(fd: int, path: Path) -> int:
    mode = os.fstat(fd).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise OSError(errno.ENOTBLK, "not a block device or a file", str(path))
    size = os.lseek(fd, 0, os.SEEK_END)
    if size == 0:
        raise OSError(
            errno.ENOMEDIUM, "is empty: the LUN is offline, or the drive has no medium", str(path)
        )
    return size


def _block_size(fd: int) -> int:
    if not stat.S_ISBLK(os.fstat(fd).st_mode):
        return BLOCK
    (sector,) = _INT.unpack(fcntl.ioctl(fd, _BLKSSZGET, bytes(_INT.size)))
    return max(BLOCK, int(sector))


def _aligned_memory(length: int) -> memoryview:
    """Return memory that begins at a page, as O_DIRECT wants it."""
    if length > FROM_HEAP:
        return memoryview(mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    memory = bytearray(length + mmap.PAGESIZE)
    start = -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % mmap.PAGESIZE
    return memoryview(memory)[start : start + length]


async def _in_thread(function: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
    return await trio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=limiter)


def _no_answer(path: Path, offset: int, options: DirectOptions) -> BackendTimeout:
    return BackendTimeout(
        f"{path}: no answer within {options.timeout:g} s at {offset:#x}; check its paths"
    )


def _refused(path: Path, error: OSError) -> BackendError:
    remedy = ""
    if error.errno == errno.EACCES:
        remedy = "; only root and the group that owns it (disk) can read it"
    reason = error.strerror or str(error)
    return BackendError(f"{path}: {reason}{remedy}", code=error.errno or errno.EIO)
