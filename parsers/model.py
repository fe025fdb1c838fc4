"""The words that file-system walkers share with whoever serves their files.

Sizes, offsets and lengths are in bytes. Times are nanoseconds since 1970-01-01T00:00:00Z and may be
negative. Names and link targets are bytes, as the guest has them; NTFS's UTF-16 is given as UTF-8 with
lone surrogates encoded like any other code point (WTF-8), so that every name round-trips.

The records made once a directory entry are NamedTuples and not dataclasses: a frozen dataclass of this
size takes several times as long to make.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from vmount.parsers.errors import Corrupt, ParseError
from vmount.parsers.reader import Buffer, Span
from vmount.parsers.runs import Run as Run
from vmount.parsers.runs import RunList

Ino: TypeAlias = int
"""A file's number in its file system: below 2**48."""


class Attrs(NamedTuple):
    """What `stat` tells of a file."""

    ino: Ino
    mode: int
    """Type and permission bits, as st_mode. A file system without permissions gives 0o755 for
    directories and symbolic links' 0o777, 0o644 for the others."""
    nlink: int
    uid: int
    gid: int
    size: int
    allocated: int
    """Bytes taken on the disk."""
    rdev: int
    """Device number of a device file as Linux's makedev gives it, else 0."""
    atime: int
    mtime: int
    ctime: int
    btime: int
    """Time of creation; 0 if the file system has none."""


MAX_INO = (1 << 48) - 1
MAX_SIZE = (1 << 63) - 1
"""Bytes: the kernel's loff_t is signed."""
MAX_DEVICE = (1 << 32) - 1
"""Of a device number in FUSE's attributes (struct fuse_attr, include/uapi/linux/fuse.h)."""


def checked_attrs(values: tuple[int, ...], where: int | None = None) -> Attrs:
    """Return Attrs of values in its order. Raises Corrupt for one that the kernel's types do not hold.

    `where` is the place of the file's record, for the error. Checked is what a damaged record can make
    too large: mode, links and owners have at most 32 bits on every disk, and the times fit 64 bits of
    seconds.
    """
    ino, size, allocated, rdev = values[0], values[5], values[6], values[7]
    if size <= MAX_SIZE and allocated <= MAX_SIZE and ino <= MAX_INO and rdev <= MAX_DEVICE:
        attrs: Attrs = tuple.__new__(Attrs, values)
        return attrs
    for kind, value, most in (
        ("number of a file", ino, MAX_INO),
        ("size of a file", size, MAX_SIZE),
        ("space that a file takes", allocated, MAX_SIZE),
    ):
        if value > most:
            raise Corrupt(kind, where, expected=f"at most {most:#x}", actual=value)
    raise Corrupt("device number", where, expected=f"at most {MAX_DEVICE:#x}", actual=rdev)


class DirEntry(NamedTuple):
    """A name in a directory. "." and ".." are not given."""

    name: bytes
    ino: Ino
    kind: int
    """The type bits of st_mode (stat.S_IFDIR ...); 0 if not known."""
    attrs: Attrs | None
    """None if the file's own record cannot be read: the name is there, using it will fail."""


class Chunk(NamedTuple):
    """The stored form of one chunk of a packed file."""

    runs: tuple[Run, ...]
    """Where its stored bytes are; Run.offset counts from the start of the stored form."""
    decode: Callable[[Buffer, int], bytes] | None
    """Takes the stored bytes and the length of the decoded chunk, returns exactly that many bytes or
    raises Corrupt. None: stored as it is."""


class ChunkTable(Protocol):
    """Where the chunks of a packed file are."""

    @property
    def unit(self) -> int:
        """Bytes in each decoded chunk; the last one of a file may be shorter."""
        ...

    @property
    def cost(self) -> int:
        """Bytes of memory that the table takes, roughly."""
        ...

    async def chunk(self, index: int) -> Chunk:
        """Return the chunk that decodes to the bytes from index * unit on."""
        ...

    def where(self, offset: int, length: int) -> Sequence[Span]:
        """Return about where a range of the file is stored, without reading: for prefetch."""
        ...


@dataclass(frozen=True, slots=True)
class Inline:
    """A file's bytes, kept in its record."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs in the order of the file, without gaps or overlaps, covering the file to `FileData.valid`
    at least."""

    runs: RunList


@dataclass(frozen=True, slots=True)
class Packed:
    """A file stored compressed."""

    chunks: ChunkTable


DATA_COST = 200
"""Bytes that a FileData takes without its layout."""


@dataclass(frozen=True, slots=True)
class FileData:
    """Where a file's bytes are: all that the data path knows of a file."""

    size: int
    valid: int
    """Bytes from here to `size` read as zeros, whatever the disk holds; at most `size`."""
    layout: Inline | Runs | Packed

    @property
    def cost(self) -> int:
        """Bytes of memory that this takes, roughly."""
        match self.layout:
            case Inline(data):
                return DATA_COST + len(data)
            case Runs(runs):
                return DATA_COST + runs.cost
            case Packed(chunks):
                return DATA_COST + chunks.cost


class XAttr(NamedTuple):
    """An extended attribute: the value itself, or where it is if it is large."""

    value: bytes | FileData | ParseError
    """What is wrong with it if it alone cannot be read."""


@dataclass(frozen=True, slots=True)
class FilesystemInfo:
    """What a file system says of itself."""

    fstype: str
    """As `mount -t` has it: "ntfs", "ext4" ..."""
    label: str
    uuid: str
    """As blkid prints it."""
    size: int
    free: int
    """Bytes; 0 if it is not known without reading a bitmap."""
    block_size: int
    """Bytes in a cluster or block."""
    case_sensitive: bool = True
    warnings: tuple[str, ...] = field(default=())
    """One sentence each: "the volume is dirty: the last changes may be missing"."""


class Filesystem(Protocol):
    """An open file system.

    Every method raises Corrupt for what is damaged, Unsupported for what cannot be decoded and OSError
    where the disk cannot be read. FileNotFoundError, NotADirectoryError and OSError(EINVAL)
    are raised as the system calls of the same purpose do.
    """

    @property
    def info(self) -> FilesystemInfo:
        """What the file system says of itself."""
        ...

    @property
    def root(self) -> Ino:
        """The root directory."""
        ...

    async def attrs(self, ino: Ino) -> Attrs:
        """Return a file's attributes."""
        ...

    async def lookup(self, parent: Ino, name: bytes) -> Attrs | None:
        """Return the attributes of the file of this name in a directory, None if there is none."""
        ...

    async def listdir(self, ino: Ino) -> Sequence[DirEntry]:
        """Return a directory's entries in an order that does not change."""
        ...

    async def readlink(self, ino: Ino) -> bytes:
        """Return the target of a symbolic link."""
        ...

    async def xattrs(self, ino: Ino) -> Mapping[bytes, XAttr]:
        """Return a file's extended attributes by name ("user.comment")."""
        ...

    async def data(self, ino: Ino, stream: bytes = b"") -> FileData:
        """Return where the bytes of a file, or of a named stream of it, are."""
        ...
