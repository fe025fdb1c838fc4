"""What jobs read files from: a disk set (vmount.api.DiskSet), or a folder of this system.

cp, scan, find and diff are written against `FileSource` alone. Paths are those of a mount
("volumes/disk0-p1/etc"), or relative to the folder. Whatever cannot be read is an OSError that names its path;
what fails in the middle of many files goes to `on_error`, and the rest is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from vmount.api import Entry, FileRef
    from vmount.parsers.model import Attrs
    from vmount.parsers.reader import Span
    from vmount.volumes.find import Volume
    from vmount.volumes.unread import Unread

T = TypeVar("T")


class OpenFile(Protocol):
    """An open file that knows its holes. One that is an io.FileIO has a descriptor that may be passed on."""

    def spans(self) -> Sequence[Span]:
        """Return the parts that may hold something else than zeros, in order."""
        ...

    def seek(self, offset: int, /) -> int:
        """Go to an offset in bytes."""
        ...

    def read(self, length: int, /) -> bytes | None:
        """Return the next bytes, `length` at most; none at the end. Raises OSError."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class FileSource(Protocol):
    """Files to be copied, scanned, found or compared."""

    @property
    def unread(self) -> Sequence[Unread]:
        """The disks and volumes that cannot be read."""
        ...

    @property
    def volumes(self) -> Sequence[Volume]:
        """The volumes; none of a folder."""
        ...

    # One file

    def expand(self, text: str) -> Sequence[str]:
        """Return the paths that a user's text names. Raises OSError."""
        ...

    def stat(self, path: str, *, follow: bool = True) -> Attrs:
        """Return a file's attributes. Raises OSError."""
        ...

    def number(self, path: str) -> int:
        """Return the number of a file, as in its FileRef. Raises OSError."""
        ...

    def listdir(self, path: str) -> Sequence[Entry]:
        """Return the entries of a directory. Raises OSError."""
        ...

    def readlink(self, path: str) -> str:
        """Return the target of a symbolic link. Raises OSError."""
        ...

    def open(self, path: str) -> OpenFile:
        """Open a regular file; no link is at the path. Raises OSError."""
        ...

    def ignores_case(self, file: FileRef) -> bool:
        """Say whether the guest ignores case in the directory of a file."""
        ...

    def is_on_volume(self, file: FileRef) -> bool:
        """Say whether a file belongs to a volume; block files and info.json do not."""
        ...

    # Many files

    def below(
        self,
        path: str,
        on_error: Callable[[OSError], None],
        wanted: Callable[[FileRef], bool] | None = None,
        *,
        dangling: bool = False,
    ) -> Iterator[FileRef]:
        """Yield what is at a path, and all below it, but for what is not wanted and all below that.

        A directory comes before its entries; one that damage has put inside itself is listed once.
        `dangling`: a path that is a broken link stands for the link. Raises OSError if nothing is at the path.
        """
        ...

    def open_files(self, files: Sequence[FileRef]) -> Sequence[OpenFile | OSError]:
        """Open files at the same time, in their order; an OSError for one that cannot be opened."""
        ...

    def xattrs_of(
        self, files: Sequence[FileRef], *, whole: bool = False
    ) -> Sequence[Mapping[str, bytes | OSError]]:
        """Return the extended attributes of files; `whole`: with those of NTFS that are not listed."""
        ...

    def streams(
        self, files: Sequence[FileRef], on_error: Callable[[OSError], None]
    ) -> Sequence[FileRef]:
        """Return the alternate streams of files and directories."""
        ...

    def places(self, files: Sequence[FileRef]) -> Sequence[tuple[Span, ...]]:
        """Return where the bytes of each file are on its volume; nothing where that is not known."""
        ...

    def soon(self, call: Callable[[], T]) -> Callable[[], T]:
        """Begin a call of a method; return what waits for its value and returns it."""
        ...
