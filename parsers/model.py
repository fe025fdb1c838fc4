"""The types that file-system walkers share with the code that serves their files.

Sizes, offsets and lengths are in bytes. Times are nanoseconds since 1970-01-01T00:00:00Z and may be
negative. Names and link targets are bytes, as the guest has them; NTFS's UTF-16 is given as UTF-8 with
lone surrogates encoded like any other code point (WTF-8), so that every name round-trips.

The records made once a directory entry are NamedTuples and not dataclasses: a frozen dataclass of this
size takes several times as long to make.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from vmount.parsers.errors import Corrupt, ParseError
from vmount.parsers.reader import Buffer, Span
from vmount.parsers.runs import Run as Run
from vmount.parsers.runs import RunList

Ino: TypeAlias = int
"""A file's number in its file system: below 2**48."""

VOLUME_SHIFT = 48
"""Above these bits of a file's number in a mount is the number of its volume."""

MOST_LINKS = 40
"""Symbolic links followed on one path: as many as Linux follows."""


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


@dataclass(frozen=True, slots=True)
class ReparseLink:
    r"""The target of a symbolic link or junction of Windows, taken apart for a mounter to retarget.

    Exactly one of these holds: `relative` (from the folder that the link is in), `drive` or `volume` or
    `remote` is set, or none is and the target starts at the root of the link's own volume (`\x`).
    """

    relative: bool
    parts: tuple[bytes, ...]
    r"""Names below that; ".." may be among them. For a remote target server and share come first."""
    drive: str | None = None
    """One upper-case letter."""
    volume: str | None = None
    """GUID of the volume in lower case, without braces."""
    remote: bool = False
    r"""On a server: `\\server\share\x`."""

    @property
    def path(self) -> bytes:
        """The target as text with "/" between names: `../x`, `C:/Users/x`, `Volume{...}/x`, `//server/x`."""
        path = b"/".join(self.parts)
        if self.relative:
            return path or b"."
        if self.drive:
            return f"{self.drive}:/".encode() + path
        if self.volume:
            return f"Volume{{{self.volume}}}/".encode() + path
        return (b"//" if self.remote else b"/") + path


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


# What only some file systems have. A caller asks `isinstance(filesystem, Streams)`, never for a format.


@runtime_checkable
class HiddenXattrs(Protocol):
    """A file system with extended attributes that `xattrs` does not list, and gives when asked by name."""

    @property
    def hidden_prefix(self) -> bytes:
        """What the names of all of them begin with."""
        ...

    @property
    def restorable(self) -> Sequence[bytes]:
        """The names of those that a copy on a file system of the same kind can be given."""
        ...

    async def hidden_xattr(self, ino: Ino, name: bytes) -> bytes | None:
        """Return the value of one of them, None if the file has none of this name."""
        ...


@runtime_checkable
class LinkTargets(Protocol):
    """A file system whose symbolic links may name a drive or a volume of their guest."""

    @property
    def root(self) -> Ino:
        """The root directory."""
        ...

    async def reparse_link(self, ino: Ino) -> ReparseLink | None:
        """Return the target of such a link, taken apart; None if the file is no such thing."""
        ...

    async def spelled(self, start: Ino, parts: Sequence[bytes]) -> list[bytes]:
        """Return the names of a path from the directory `start` in the case that they have there."""
        ...

    async def depth(self, ino: Ino) -> int:
        """Return how many directories a file is below the root: 0 for one that is in it."""
        ...


@runtime_checkable
class Streams(Protocol):
    """A file system whose files can have alternate streams; they are `user.` attributes in `xattrs`."""

    async def stream_sizes(self, ino: Ino) -> Sequence[tuple[bytes, int, int]]:
        """Return a file's streams: names, sizes and what they take on the disk, in bytes."""
        ...
