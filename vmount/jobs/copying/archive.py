"""Writing files and trees as a tar archive, in the format of POSIX.1-2001 (pax).

Extended attributes are `SCHILY.xattr.` records and holes are sparse files of version 1.0, as GNU tar has them.
The size of a file stands before its bytes. So a file of up to `HELD` bytes is read before it is begun, and
one that cannot be read is left out; a larger one that breaks off ends the archive in its middle, which every
reader of it reports. Directories come last, each after its content: a program that extracts them one by one
sets their times when nothing more is written into them.
"""

from __future__ import annotations

import os
import stat
import tarfile
from typing import TYPE_CHECKING, Protocol

from vmount.errors import SourceError, VmountError, explain
from vmount.parsers.reader import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from vmount.api import FileRef
    from vmount.jobs.copying.options import Owner
    from vmount.jobs.copying.report import CopyReport
    from vmount.jobs.file_source import FileSource, OpenFile

HELD = 8 << 20
"""Bytes of a file that is read whole before it is begun."""
PIECE = 1 << 20
BATCH_FILES = 64
"""Files that are opened together."""
BATCH_SIZE = 32 << 20
"""Bytes of them."""
XATTR = "SCHILY.xattr."
BLOCK = tarfile.BLOCKSIZE
SHORT_NAME = 99
"""Bytes of a name that a plain header holds; its field has room for a slash more."""
LARGEST_OCTAL_DEVICE = 0o7777777
"""A major or minor number of a device that its field holds."""


KINDS = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
}
"""Types of members by types of files. There is none for a socket."""


class Sink(Protocol):
    """Where an archive goes."""

    def write(self, data: bytes, /) -> object:
        """Write all of it. Raises OSError."""
        ...


class Archiver:
    """Writes files and trees into one archive. `on_progress` is called after each file."""

    def __init__(
        self,
        disks: FileSource,
        sink: Sink,
        owner: Owner,
        report: CopyReport,
        on_progress: Callable[[CopyReport, str], None],
    ) -> None:
        self.report = report
        self._disks = disks
        self._sink = sink
        self._owner = owner
        self._on_progress = on_progress
        self._written: dict[int, str] = {}

    def write_all(self, trees: Sequence[tuple[str, str, Iterator[FileRef]]]) -> None:
        """Write trees, each given by its path, the name of its top in the archive, and what is in it.

        Raises SourceError if a large file breaks off, VmountError if the archive cannot be written, and
        BrokenPipeError if its reader has gone; then it is not finished.
        """
        directories: list[tuple[FileRef, str]] = []
        for path, name, files in trees:
            top = len(path.rstrip("/"))
            for batch in self._batches(path, files):
                named = [(file, f"{name}{file.path[top:]}") for file in batch]
                directories += [pair for pair in named if stat.S_ISDIR(pair[0].attrs.mode)]
                self._write_batch([pair for pair in named if not stat.S_ISDIR(pair[0].attrs.mode)])
        directories.reverse()
        for start in range(0, len(directories), BATCH_FILES):
            self._write_batch(directories[start : start + BATCH_FILES])
        self._put(bytes(2 * BLOCK))

    def _batches(self, path: str, files: Iterator[FileRef]) -> Iterator[list[FileRef]]:
        batch: list[FileRef] = []
        size = 0
        try:
            for file in files:
                batch.append(file)
                size += file.attrs.size
                if len(batch) == BATCH_FILES or size >= BATCH_SIZE:
                    yield batch
                    batch, size = [], 0
        except OSError as error:
            self._fail(path, error)
        if batch:
            yield batch

    def _write_batch(self, batch: Sequence[tuple[FileRef, str]]) -> None:
        files = [file for file, _ in batch]
        regular = [file for file in files if stat.S_ISREG(file.attrs.mode)]
        opened = self._disks.open_files(regular)
        readers = dict(zip(regular, opened, strict=True))
        xattrs = self._disks.xattrs_of(files, whole=self._owner.guest)
        try:
            for (file, name), values in zip(batch, xattrs, strict=True):
                self._write(file, name, readers.get(file), values)
        finally:
            for reader in opened:
                if not isinstance(reader, OSError):
                    reader.close()

    def _write(
        self,
        file: FileRef,
        name: str,
        reader: OpenFile | OSError | None,
        xattrs: Mapping[str, bytes | OSError],
    ) -> None:
        try:
            info, extra = self._member(file, name), self._xattrs(file, xattrs)
            if isinstance(reader, OSError):
                raise reader
            if info is None:
                self.report.miss("the socket", "archives cannot contain sockets", file.path)
                return
            if reader is None or info.type == tarfile.LNKTYPE:
                self._put(_header(info, extra))
            else:
                self._write_content(file, info, extra, reader)
        except OSError as error:
            self._fail(file.path, error)
            return
        if not stat.S_ISDIR(file.attrs.mode):
            self.report.files += 1
            if file.attrs.nlink > 1:
                self._written.setdefault(file.number, name)
        self._on_progress(self.report, file.path)

    def _member(self, file: FileRef, name: str) -> tarfile.TarInfo | None:
        """Return a member without its size; None for a socket."""
        attrs = file.attrs
        info = tarfile.TarInfo(name)
        info.mode = stat.S_IMODE(attrs.mode)
        info.uid = self._owner.uids.get(attrs.uid, attrs.uid)
        info.gid = self._owner.gids.get(attrs.gid, attrs.gid)
        info.mtime = attrs.mtime // 10**9
        kind = KINDS.get(stat.S_IFMT(attrs.mode))
        if kind is None:
            return None
        info.type = kind
        if attrs.nlink > 1 and kind != tarfile.DIRTYPE and file.number in self._written:
            info.type, info.linkname = tarfile.LNKTYPE, self._written[file.number]
        elif kind == tarfile.SYMTYPE:
            info.linkname = self._disks.readlink(file.path)
        elif kind in {tarfile.CHRTYPE, tarfile.BLKTYPE}:
            info.devmajor, info.devminor = _device(attrs.rdev)
        return info

    def _xattrs(self, file: FileRef, values: Mapping[str, bytes | OSError]) -> dict[bytes, bytes]:
        """Return the records of a member beside those of its header: its time, and attributes."""
        records: dict[bytes, bytes] = {}
        if file.attrs.mtime % 10**9 or file.attrs.mtime < 0:
            seconds, rest = divmod(abs(file.attrs.mtime), 10**9)
            sign = "-" if file.attrs.mtime < 0 else ""
            records[b"mtime"] = f"{sign}{seconds}.{rest:09}".encode()
        for name, value in values.items():
            if isinstance(value, OSError):
                self.report.lost.append(f"{file.path}: {name}: {explain(value)}")
            elif "=" in name:
                self.report.lost.append(f"{file.path}: {name}: archives cannot contain this name")
            else:
                records[_encoded(XATTR + name)] = value
        return records

    def _write_content(
        self,
        file: FileRef,
        info: tarfile.TarInfo,
        records: dict[bytes, bytes],
        reader: OpenFile,
    ) -> None:
        size = file.attrs.size
        spans = [span for span in reader.spans() if span.length]
        data = sum(span.length for span in spans)
        head = b""
        if data + BLOCK < size:
            head = _sparse_map(spans, size)
            records |= {
                b"GNU.sparse.major": b"1",
                b"GNU.sparse.minor": b"0",
                b"GNU.sparse.name": _encoded(info.name),
                b"GNU.sparse.realsize": str(size).encode(),
            }
            folder, slash, last = info.name.rpartition("/")
            info.name = f"{folder}{slash}GNUSparseFile.0/{last}"
        else:
            # A map would take more than the holes save.
            spans, data = [Span(0, size)] if size else [], size
        info.size = len(head) + data
        pieces = _pieces(reader, spans, file.path)
        if data <= HELD:
            pieces = iter([b"".join(pieces)])
        self._put(_header(info, records) + head)
        try:
            for piece in pieces:
                self._put(piece)
                self.report.bytes += len(piece)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise SourceError(
                f"{explain(error)}; the archive ends in the middle of this file",
                remedy="leave the file out with --exclude, or copy to a directory, which continues after errors",
            ) from error
        self._put(bytes(-info.size % BLOCK))

    def _put(self, data: bytes) -> None:
        try:
            self._sink.write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise VmountError(f"the archive cannot be written: {explain(error)}") from error

    def _fail(self, path: str, error: OSError) -> None:
        if isinstance(error, BrokenPipeError):
            raise error
        text = explain(error)
        self.report.problems.append(text if path in text else f"{path}: {text}")


def _pieces(reader: OpenFile, spans: Sequence[Span], path: str) -> Iterator[bytes]:
    """Yield the bytes of the spans of a file. Raises OSError, also where the file ends before its recorded size."""
    for span in spans:
        reader.seek(span.offset)
        left = span.length
        while left:
            piece = reader.read(min(PIECE, left))
            if not piece:
                raise OSError(0, "ends before its recorded size", path)
            left -= len(piece)
            yield piece


def _sparse_map(spans: Sequence[Span], size: int) -> bytes:
    """Return the map that stands before the bytes of a sparse file: numbers, one a line, in whole blocks."""
    places = [(span.offset, span.length) for span in spans]
    if not places or sum(places[-1]) < size:
        places.append((size, 0))
    numbers = [len(places), *(number for place in places for number in place)]
    text = "".join(f"{number}\n" for number in numbers).encode()
    return text + bytes(-len(text) % BLOCK)


def _device(rdev: int) -> tuple[int, int]:
    major, minor = os.major(rdev), os.minor(rdev)
    if max(major, minor) > LARGEST_OCTAL_DEVICE:
        raise OSError(0, "archives cannot contain this device number")
    return major, minor


def _header(info: tarfile.TarInfo, records: Mapping[bytes, bytes]) -> bytes:
    """Return the header of a member, after an extended one with the records and what the header cannot hold.

    The standard library writes the plain header. It cannot write attributes that are no text, nor names that
    are no UTF-8 in a way that GNU tar reads without a warning.
    """
    extended = dict(records)
    plain = tarfile.TarInfo("")
    for attribute in ("mode", "type", "devmajor", "devminor"):
        setattr(plain, attribute, getattr(info, attribute))
    name = info.name + ("/" if info.type == tarfile.DIRTYPE else "")
    for field, record, text in (("name", b"path", name), ("linkname", b"linkpath", info.linkname)):
        encoded = _encoded(text)
        if len(encoded) > SHORT_NAME or not encoded.isascii():
            extended.setdefault(record, encoded)
        kept = encoded[:SHORT_NAME].decode("ascii", "replace")
        setattr(plain, field, kept.replace("\N{REPLACEMENT CHARACTER}", "_"))
    for field, value, digits in (
        ("uid", info.uid, 7),
        ("gid", info.gid, 7),
        ("size", info.size, 11),
        ("mtime", int(info.mtime), 11),
    ):
        if 0 <= value < 8**digits:
            setattr(plain, field, value)
        else:
            extended.setdefault(field.encode(), str(value).encode())
    head = plain.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    if not extended:
        return head
    body = b"".join(_record(key, value) for key, value in extended.items())
    leading = tarfile.TarInfo("././@PaxHeader")
    leading.type, leading.size = tarfile.XHDTYPE, len(body)
    start = leading.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    return start + body + bytes(-len(body) % BLOCK) + head


def _record(key: bytes, value: bytes) -> bytes:
    """Return a record of an extended header: its own length in bytes, the key, the value."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
