"""What files are copied out of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from vmount.api import Entry, FileRef
    from vmount.parsers.model import Attrs
    from vmount.parsers.reader import Span
    from vmount.volumes.unread import Unread

T = TypeVar("T")


class ContentReader(Protocol):
    """An open file that tells its holes."""

    def spans(self) -> Sequence[Span]:
        """Return the parts that may hold something else than zeros, in order."""
        ...

    def seek(self, offset: int, /) -> int:
        """Go to an offset in bytes."""
        ...

    def read(self, length: int, /) -> bytes | None:
        """Return the next bytes; none at the end. Raises OSError."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class FileSource(Protocol):
    """A disk set (vmount.api) or a folder; methods as those of vmount.api.DiskSet."""

    def expand(self, text: str) -> Sequence[str]:
        """Return the paths that a user's text names."""
        ...

    def ignores_case(self, file: FileRef) -> bool:
        """Say whether the guest matches names where a file is without regard to case."""
        ...

    @property
    def unread(self) -> Sequence[Unread]:
        """The disks and volumes that cannot be read."""
        ...

    def stat(self, path: str, *, follow: bool = True) -> Attrs:
        """Return a file's attributes."""
        ...

    def listdir(self, path: str) -> Sequence[Entry]:
        """Return what a directory holds."""
        ...

    def readlink(self, path: str) -> str:
        """Return the target of a symbolic link."""
        ...

    def below(
        self,
        path: str,
        on_error: Callable[[OSError], None],
        wanted: Callable[[FileRef], bool] | None = None,
        *,
        dangling: bool = False,
    ) -> Iterator[FileRef]:
        """Yield what is at a path, and all below it, but for what is not wanted and all below that.

        `dangling`: a path that is a link which leads to nothing stands for the link.
        """
        ...

    def open_files(self, files: Sequence[FileRef]) -> Sequence[ContentReader | OSError]:
        """Open files at the same time."""
        ...

    def xattrs_of(
        self, files: Sequence[FileRef], *, whole: bool = False
    ) -> Sequence[Mapping[str, bytes | OSError]]:
        """Return the extended attributes of files; `whole`: with those of NTFS that are not listed."""
        ...

    def soon(self, call: Callable[[], T]) -> Callable[[], T]:
        """Begin a call; return what waits for its value."""
        ...
