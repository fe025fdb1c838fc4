"""Writing one file: beside its place first, and there only when it is whole.

Strategy: the bytes go into a part file in the same directory, whose name tells the file and the version of
it that they are of. An interrupted copy leaves it, and a later one that resumes goes on at its end. Only
what may hold something is read and written, so holes stay holes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmount.jobs.copying.target import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vmount.jobs.copying.target import Place
    from vmount.jobs.file_source import OpenFile
    from vmount.parsers.model import Attrs

PIECE = 1 << 20
"""Bytes copied at a time, and of the smallest hole that is kept where a source does not tell its holes."""
ZEROS = bytes(PIECE)
SUFFIX = ".vmount-part"
MOST_TRIES = 16
"""To make a part file where something else makes one of its name each time."""


@dataclass(frozen=True)
class ContentOptions:
    """How a content is written."""

    resume: bool
    verify: bool


class VerifyError(OSError):
    """What was read back is not what was written."""


def write_content(
    reader: OpenFile,
    place: Place,
    attrs: Attrs,
    options: ContentOptions,
    on_bytes: Callable[[int], None],
    finish: Callable[[int], None],
) -> Identity:
    """Write a file to its place. Raises OSError; what is at the place is then as it was.

    `on_bytes` is given the numbers of bytes as they are written. When all of them are, `finish` is given the
    descriptor, to set what else belongs to the file.
    """
    folder = place.folder()
    part = part_of(place.name, attrs)
    try:
        descriptor = _open_part(part, folder, resume=options.resume)
    except OSError as error:
        error.filename = str(place)  # a part file's name tells nobody anything
        raise
    try:
        try:
            end, digest = _write(descriptor, reader, options, on_bytes)
            if end != attrs.size or options.resume:
                os.ftruncate(descriptor, attrs.size)
            if digest is not None:
                _verify(descriptor, reader, digest, place)
            finish(descriptor)
            identity = Identity.of(os.fstat(descriptor))
        finally:
            os.close(descriptor)
        try:
            os.replace(part, place.name, src_dir_fd=folder, dst_dir_fd=folder)
        except IsADirectoryError as error:
            raise IsADirectoryError(
                errno.EISDIR, "a directory of that name exists", str(place)
            ) from error
        except OSError as error:
            error.filename = str(place)
            raise
    except OSError:
        if not options.resume:
            with suppress(FileNotFoundError):
                os.unlink(part, dir_fd=folder)
        raise
    return identity


def _open_part(part: str, folder: int, *, resume: bool) -> int:
    """Open a part file. Raises OSError.

    One that is there is gone on with only if it is this user's and has no other name: whoever may write to
    the directory may have put it there.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    if resume:
        with suppress(FileNotFoundError, PermissionError):
            status = os.stat(part, dir_fd=folder, follow_symlinks=False)
            if _is_ours(status):
                descriptor = os.open(part, flags, dir_fd=folder)
                if Identity.of(os.fstat(descriptor)) == Identity.of(status):
                    return descriptor
                os.close(descriptor)
    for _ in range(MOST_TRIES):
        try:
            return os.open(part, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
        except FileExistsError:
            with suppress(FileNotFoundError):
                os.unlink(part, dir_fd=folder)
    raise FileExistsError(errno.EEXIST, "another program is creating it")


def _is_ours(status: os.stat_result) -> bool:
    is_alone = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
    return is_alone and status.st_uid == os.geteuid()


def _write(
    descriptor: int,
    reader: OpenFile,
    options: ContentOptions,
    on_bytes: Callable[[int], None],
) -> tuple[int, bytes | None]:
    """Write what is not there yet. Return where it ends, and the digest of the whole if it is to be
    verified."""
    begun = os.fstat(descriptor).st_size // PIECE * PIECE if options.resume else 0
    digest = hashlib.sha256() if options.verify else None
    end = 0
    for offset, length in _pieces(reader):
        is_written = offset + length <= begun
        if is_written and digest is None:
            continue
        reader.seek(offset)
        piece = _exactly(reader, length)
        if digest is not None:
            digest.update(piece)
        if is_written:
            continue
        # A source that does not tell its holes has them here.
        if not ZEROS.startswith(piece):
            _write_at(descriptor, piece, offset)
            end = offset + length
        on_bytes(length)
    return end, None if digest is None else digest.digest()


def _write_at(descriptor: int, piece: bytes, offset: int) -> None:
    written = 0
    while written < len(piece):
        written += os.pwrite(descriptor, piece[written:] if written else piece, offset + written)


def part_of(name: str, attrs: Attrs) -> str:
    """Return the name of the part file for a version of a file, in the same directory."""
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    version = f"{attrs.size:x}-{attrs.mtime & (1 << 64) - 1:x}"
    return f".{digest}-{version}{SUFFIX}"


def find_whole(place: Place, attrs: Attrs) -> Identity | None:
    """Return which file a whole copy of this version of a file is, None if it is not at its place.

    It is whole if it has its time, which is set last.
    """
    with suppress(OSError):
        status = place.lstat()
        same_kind = stat.S_IFMT(status.st_mode) == stat.S_IFMT(attrs.mode)
        if same_kind and (status.st_size, status.st_mtime_ns) == (attrs.size, attrs.mtime):
            return Identity.of(status)
    return None


def holds(place: Place, reader: OpenFile, attrs: Attrs) -> bool:
    """Say whether the file at a place, as it is on the target's disk, holds a file's bytes. Raises OSError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(place.name, flags, dir_fd=place.folder())
    try:
        status = os.fstat(descriptor)
        _forget(descriptor)
        end = 0
        for offset, length in _pieces(reader):
            reader.seek(offset)
            if not _has_zeros(descriptor, end, offset) or os.pread(
                descriptor, length, offset
            ) != _exactly(reader, length):
                return False
            end = offset + length
        return _has_zeros(descriptor, end, attrs.size)
    finally:
        with suppress(OSError):  # somebody else's file: reading it has set its time of access
            os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.close(descriptor)


def _has_zeros(descriptor: int, start: int, end: int) -> bool:
    for offset in range(start, end, PIECE):
        length = min(PIECE, end - offset)
        if os.pread(descriptor, length, offset) != ZEROS[:length]:
            return False
    return True


def _forget(descriptor: int) -> None:
    """Let what is read next come from the disk."""
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _pieces(reader: OpenFile) -> Iterator[tuple[int, int]]:
    for start, length in reader.spans():
        for offset in range(start, start + length, PIECE):
            yield offset, min(PIECE, start + length - offset)


def _exactly(reader: OpenFile, length: int) -> bytes:
    piece = reader.read(length) or b""
    while len(piece) < length:
        more = reader.read(length - len(piece))
        if not more:
            raise OSError(errno.EIO, "the file is shorter than its recorded size")
        piece += more
    return piece


def _verify(descriptor: int, reader: OpenFile, expected: bytes, place: Place) -> None:
    """Compare what is on the target's disk with what was read."""
    _forget(descriptor)
    digest = hashlib.sha256()
    for offset, length in _pieces(reader):
        digest.update(os.pread(descriptor, length, offset))
    if digest.digest() != expected:
        raise VerifyError(errno.EIO, "the copy differs from what was read", str(place))
