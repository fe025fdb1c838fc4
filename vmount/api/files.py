"""Files of a disk set, many at a time: over a distant disk that is what saves the time.

`DiskSet` (vmount.api) has these methods; they stand here because they are an idea of their own.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from vmount.api.file_reader import FileReader, SmallFile, as_os_errors
from vmount.api.spelling import CASELESS
from vmount.errors import errno_of, explain
from vmount.parsers.errors import ParseError
from vmount.parsers.lru import Lru
from vmount.parsers.model import Attrs, FileData
from vmount.parsers.ntfs import RESTORABLE
from vmount.tree.paths import resolve
from vmount.tree.read_ahead import ReadAhead

if TYPE_CHECKING:
    from vmount.api.bridge import Bridge
    from vmount.blocks.file_map import FileMap
    from vmount.parsers.reader import Span
    from vmount.tree.listing import Listing
    from vmount.tree.tree import Tree

T = TypeVar("T")

FOLDERS_KEPT = 4096
"""Directories whose paths are remembered."""


class FileRef(NamedTuple):
    """A file, or a directory, that was met below a directory."""

    path: str
    number: int
    """Tells it from all other files of the set; hard links have one number."""
    attrs: Attrs
    stream: str = ""
    """The name of an alternate stream, if it is one; its path is then "file:stream"."""


SMALL_FILE = 128 << 10
"""Bytes of a file that is fetched when it is opened with others."""
FIRST_READ = 1 << 20
"""Bytes of each of several files that are asked for when they are opened."""
STREAM_PREFIX = b"user."
"""Of the names of extended attributes that are alternate streams on NTFS."""
EXECUTABLE = 0o111
LISTED_TOGETHER = 32
"""Directories that are asked for at the same time."""


class FilesTogether:
    """What finds, opens and describes many files of a tree at once."""

    def __init__(self, tree: Tree, bridge: Bridge, top: bytes = b"") -> None:
        """`top` is where paths are looked for first: the root of a datastore that is browsed."""
        self._tree = tree
        self._top = top
        self._bridge = bridge
        self._folders: Lru[bytes, int] = Lru(FOLDERS_KEPT)

    def files(
        self, path: str | bytes = "volumes", on_error: Callable[[OSError], None] | None = None
    ) -> Iterator[FileRef]:
        """Yield every regular file of the volumes at or below a path; as `below` does it."""
        for file in self.below(path, on_error):
            if stat.S_ISREG(file.attrs.mode) and self._tree.volume(file.number):
                yield file

    def below(
        self,
        path: str | bytes = "volumes",
        on_error: Callable[[OSError], None] | None = None,
        wanted: Callable[[FileRef], bool] | None = None,
        *,
        dangling: bool = False,
    ) -> Iterator[FileRef]:
        """Yield what is at a path, and all below it; several directories are listed at a time.

        A path that is a link stands for what the link leads to; with `dangling`, for the link itself if it
        leads to nothing. What is not `wanted` is left out, a directory with all that is below it. What
        cannot be listed is passed over and its OSError given to `on_error`; without that it is raised.
        """
        try:
            first = self._at(path, follow=True)
        except OSError:
            if not dangling:
                raise
            # Raises again if there is no link either.
            first = self._at(path, follow=False)
        top, start = first.path.rstrip("/"), first.number
        if wanted is not None and not wanted(first):
            return
        yield first._replace(path=top)
        pending = [(top, start)] if stat.S_ISDIR(first.attrs.mode) else []
        entered = {start}
        while pending:
            batch = pending[-LISTED_TOGETHER:]
            del pending[-LISTED_TOGETHER:]
            calls = [partial(self._list_one, *folder) for folder in reversed(batch)]
            for here, listing in self._bridge.run(lambda: self._gather(calls)):  # noqa: B023
                below = []
                for file in _members(here, listing, on_error):
                    if wanted is not None and not wanted(file):
                        continue
                    yield file
                    if not stat.S_ISDIR(file.attrs.mode):
                        continue
                    if file.number not in entered:
                        entered.add(file.number)
                        below.append((file.path, file.number))
                        continue
                    again = OSError(errno.ELOOP, "a directory that was listed already", file.path)
                    if on_error is None:
                        raise again
                    on_error(again)
                pending += reversed(below)

    def soon(self, call: Callable[[], T]) -> Callable[[], T]:
        """Begin a call of a method of this set; return what waits for its value and returns it.

        On distant disks it goes on beside whatever is done until then.
        """
        return self._bridge.soon(call)

    def open_files(self, files: Sequence[FileRef]) -> list[FileReader | SmallFile | OSError]:
        """Open files at the same time, and ask for their first bytes; an OSError for what cannot be opened."""
        opened = self._bridge.run(lambda: self._open_all(files))
        return [
            content
            if isinstance(content, (OSError, SmallFile))
            else FileReader(content, file.path, self._bridge)
            for file, content in zip(files, opened, strict=True)
        ]

    def places(self, files: Sequence[FileRef]) -> list[tuple[Span, ...]]:
        """Return where the bytes of each file lie on its volume; nothing where that is not known."""
        calls = [partial(self._place_of, file) for file in files]
        return self._bridge.run(lambda: self._gather(calls))

    async def _place_of(self, file: FileRef) -> tuple[Span, ...]:
        try:
            content = await self._tree.open(file.number, os.fsencode(file.stream))
        except (OSError, ParseError):
            return ()
        return tuple(content.where(0, content.size))

    def xattrs_of(
        self, files: Sequence[FileRef], *, whole: bool = False
    ) -> list[dict[str, bytes | OSError]]:
        """Return the extended attributes of files; an OSError for a value that cannot be had.

        `whole`: with those that are not listed and that a restored file should have, as NTFS has.
        """
        calls = [partial(self._all_xattrs, file, whole) for file in files]
        return self._bridge.run(lambda: self._gather(calls))

    async def _all_xattrs(self, file: FileRef, whole: bool) -> dict[str, bytes | OSError]:
        if file.stream:
            return {}
        number = file.number
        try:
            found = await self._tree.xattrs(number)
        except ParseError as error:
            return {"attributes": OSError(errno_of(error), str(error))}
        except OSError as error:
            return {"attributes": error}
        values: dict[str, bytes | OSError] = {}
        unlisted = RESTORABLE if whole and self._is_ntfs(number) else ()
        for name in (*found, *unlisted):
            try:
                value = found.get(name) or await self._tree.xattr(number, name)
                if value is not None:
                    values[os.fsdecode(name)] = await self._tree.xattr_value(number, value)
            except ParseError as error:
                values[os.fsdecode(name)] = OSError(errno_of(error), str(error))
            except OSError as error:
                values[os.fsdecode(name)] = error
        return values

    def is_on_volume(self, file: FileRef) -> bool:
        """Say whether a file is one of a volume's, and not one of the mount's own."""
        return self._tree.volume(file.number) is not None

    def streams(
        self, files: Sequence[FileRef], on_error: Callable[[OSError], None] | None = None
    ) -> list[FileRef]:
        """Return the alternate streams of files on NTFS.

        Where they cannot be as_os_errors, an OSError that names the file is given to `on_error`; without that it is
        raised.
        """
        calls = [
            partial(self._streams_of, file)
            for file in files
            if not file.stream and self._is_ntfs(file.number)
        ]
        found: list[FileRef] = []
        for streams in self._bridge.run(lambda: self._gather(calls)) if calls else []:
            if not isinstance(streams, OSError):
                found += streams
            elif on_error is None:
                raise streams
            else:
                on_error(streams)
        return found

    def ignores_case(self, file: FileRef) -> bool:
        """Say whether the guest matches the names on a file's volume without regard to case."""
        volume = self._tree.volume(file.number)
        return volume is not None and volume.filesystem.info.fstype in CASELESS

    def _is_ntfs(self, number: int) -> bool:
        volume = self._tree.volume(number)
        return volume is not None and volume.filesystem.info.fstype == "ntfs"

    async def _streams_of(self, file: FileRef) -> list[FileRef] | OSError:
        try:
            return await self._all_streams(file)
        except (OSError, ParseError) as error:
            reason = explain(error) if isinstance(error, OSError) else str(error)
            return OSError(errno.EIO, f"its alternate streams cannot be read: {reason}", file.path)

    async def _all_streams(self, file: FileRef) -> list[FileRef]:
        """Return the alternate streams of a file on NTFS. Raises OSError, ParseError."""
        found = []
        for name, (value,) in (await self._tree.xattrs(file.number)).items():
            if name.startswith(STREAM_PREFIX):
                stream = os.fsdecode(name.removeprefix(STREAM_PREFIX))
                size = 0
                if isinstance(value, bytes):
                    size = len(value)
                elif isinstance(value, FileData):
                    size = value.size
                # Else opening it says what is wrong.
                attrs = stream_attrs(file.attrs, size)
                found.append(FileRef(f"{file.path}:{stream}", file.number, attrs, stream))
        return found

    async def _gather(self, calls: Sequence[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        return await self._bridge.runtime.gather(calls)

    async def _list_one(self, path: str, number: int) -> tuple[str, Listing | OSError]:
        try:
            with as_os_errors(path):
                return path, await self._tree.listdir(number)
        except OSError as error:
            return path, error

    async def _open_all(self, files: Sequence[FileRef]) -> Sequence[FileMap | SmallFile | OSError]:
        opened = await self._gather([partial(self._open_one, file) for file in files])
        if self._bridge.runtime.nursery is None:
            return opened
        # From a distant disk the small ones are fetched here: a read of each costs two hops of threads.
        # All have been asked for, so it is no matter that they are waited for one after the other.
        return [
            await _small(content, file.path) for file, content in zip(files, opened, strict=True)
        ]

    async def _open_one(self, file: FileRef) -> FileMap | OSError:
        try:
            with as_os_errors(file.path):
                content = await self._open(file.number, os.fsencode(file.stream))
        except OSError as error:
            return error
        volume = self._tree.volume(file.number)
        if volume is not None:
            volume.data.prefetch(content.where(0, min(content.size, FIRST_READ)))
        return content

    async def _open(self, number: int, stream: bytes = b"") -> FileMap:
        """Open a file; on a distant disk it is read ahead of whoever reads it in order."""
        content = await self._tree.open(number, stream)
        volume = self._tree.volume(number)
        if volume is None or self._bridge.runtime.nursery is None:
            return content
        return ReadAhead(content, volume.data)

    def _at(self, path: str | bytes, *, follow: bool) -> FileRef:
        """Return what is at a path, which may be that of an alternate stream. Raises OSError."""
        with as_os_errors(path):
            return self._bridge.run(lambda: self._find_ref(os.fsencode(path), follow=follow))

    async def _find_ref(self, path: bytes, *, follow: bool) -> FileRef:
        try:
            number, attrs = await self._find(path, follow=follow)
        except FileNotFoundError:
            found = await self._find_stream(path)
            if found is None:
                raise
            return found
        return FileRef(os.fsdecode(path), number, attrs)

    async def _find_stream(self, path: bytes) -> FileRef | None:
        """Return the alternate stream at a path. Neither names nor streams have colons in Windows; what
        another system wrote may have."""
        folder, slash, name = path.rpartition(b"/")
        for at in (at for at, byte in enumerate(name) if byte == ord(":")):
            file, stream = folder + slash + name[:at], os.fsdecode(name[at + 1 :])
            try:
                number, attrs = await self._find(file, follow=False)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if self._is_ntfs(number):
                for found in await self._all_streams(FileRef(os.fsdecode(file), number, attrs)):
                    if found.stream == stream:
                        return found
        return None

    def _resolve(self, path: str | bytes, *, follow: bool) -> tuple[int, Attrs]:
        with as_os_errors(path):
            return self._bridge.run(lambda: self._find(os.fsencode(path), follow=follow))

    async def _find(self, path: bytes, *, follow: bool) -> tuple[int, Attrs]:
        """Return the file at a path: by its directory, where that was just used, else from the root."""
        folder, _, name = path.rpartition(b"/")
        above = self._folders.get(folder)
        found = None
        if above is not None and name not in (b"", b".", b".."):
            found = await self._tree.lookup(above, name)
        if found is None or (follow and stat.S_ISLNK(found[1].mode)):
            found = await self._walk_to(path, follow=follow)
        if stat.S_ISDIR(found[1].mode):
            self._folders.put(path.rstrip(b"/"), found[0])
        return found

    async def _walk_to(self, path: bytes, *, follow: bool) -> tuple[int, Attrs]:
        if self._top:
            with suppress(FileNotFoundError):
                return await resolve(self._tree, self._top + b"/" + path, follow=follow)
        return await resolve(self._tree, path, follow=follow)


def stream_attrs(attrs: Attrs, size: int) -> Attrs:
    """Return the attributes of an alternate stream of so many bytes: a plain file, of its file's owner."""
    mode = stat.S_IFREG | (stat.S_IMODE(attrs.mode) & ~EXECUTABLE)
    return attrs._replace(mode=mode, nlink=1, size=size, allocated=size, rdev=0)


async def _small(content: FileMap | OSError, path: str) -> FileMap | SmallFile | OSError:
    """Return the content in memory if it is small and has no holes, else as it is."""
    if isinstance(content, OSError) or content.size > SMALL_FILE:
        return content
    if sum(span.length for span in content.spans()) != content.size:
        return content
    try:
        with as_os_errors(path):
            return SmallFile(await content.read(0, content.size))
    except OSError as error:
        return error


def _members(
    here: str, listing: Listing | OSError, on_error: Callable[[OSError], None] | None
) -> Iterator[FileRef]:
    """Yield what a listing holds; errors go to `on_error`, or up."""
    if isinstance(listing, OSError):
        if on_error is None:
            raise listing
        on_error(listing)
        return
    for entry in listing.entries:
        where = f"{here}/{os.fsdecode(entry.name)}"
        if entry.attrs is not None:
            yield FileRef(where, listing.base | entry.ino, entry.attrs)
            continue
        damaged = OSError(errno.EUCLEAN, "its record is damaged", where)
        if on_error is None:
            raise damaged
        on_error(damaged)
