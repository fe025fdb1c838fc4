"""Files of a disk set, many at a time: over a distant disk that is what saves the time."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from vmount.api.file_reader import FileReader, SmallFile, as_os_errors
from vmount.api.lookup import FileRef
from vmount.errors import ListingError, errno_of, explain
from vmount.parsers.errors import ParseError

if TYPE_CHECKING:
    from vmount.api.lookup import Lookup
    from vmount.blocks.file_map import FileMap
    from vmount.parsers.reader import Span
    from vmount.tree.listing import Listing

T = TypeVar("T")

SMALL_FILE = 128 << 10
"""Bytes of a file that is fetched when it is opened with others."""
FIRST_READ = 1 << 20
"""Bytes of each of several files that are asked for when they are opened."""
LISTED_TOGETHER = 32
"""Directories that are asked for at the same time."""


class Files:
    """What finds, opens and describes many files of a tree at once."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    def files(
        self, path: str | bytes = "volumes", on_error: Callable[[OSError], None] | None = None
    ) -> Iterator[FileRef]:
        """Yield every regular file of the volumes at or below a path; as `below` does it."""
        for file in self.below(path, on_error):
            if stat.S_ISREG(file.attrs.mode) and self._lookup.tree.volume(file.number):
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
            first = self._lookup.at(path, follow=True)
        except OSError:
            if not dangling:
                raise
            # Raises again if there is no link either.
            first = self._lookup.at(path, follow=False)
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
            for here, listing in self._lookup.bridge.run(lambda: self._gather(calls)):  # noqa: B023
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
                    again = ListingError(
                        errno.ELOOP, "the same directory was already listed", file.path
                    )
                    if on_error is None:
                        raise again
                    on_error(again)
                pending += reversed(below)

    def soon(self, call: Callable[[], T]) -> Callable[[], T]:
        """Begin a call of a method of this set; return what waits for its value and returns it.

        On distant disks it goes on beside whatever is done until then.
        """
        return self._lookup.bridge.soon(call)

    def open_files(
        self, files: Sequence[FileRef], keep: object = None
    ) -> list[FileReader | SmallFile | OSError]:
        """Open files at the same time, and ask for their first bytes; an OSError for what cannot be opened.

        `keep` lives as long as the files.
        """
        opened = self._lookup.bridge.run(lambda: self._open_all(files))
        return [
            content
            if isinstance(content, (OSError, SmallFile))
            else FileReader(content, file.path, self._lookup.bridge, keep)
            for file, content in zip(files, opened, strict=True)
        ]

    def places(self, files: Sequence[FileRef]) -> list[tuple[Span, ...]]:
        """Return where the bytes of each file lie on its volume; nothing where that is not known."""
        calls = [partial(self._place_of, file) for file in files]
        return self._lookup.bridge.run(lambda: self._gather(calls))

    async def _place_of(self, file: FileRef) -> tuple[Span, ...]:
        try:
            content = await self._lookup.tree.open(file.number, os.fsencode(file.stream))
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
        return self._lookup.bridge.run(lambda: self._gather(calls))

    async def _all_xattrs(self, file: FileRef, whole: bool) -> dict[str, bytes | OSError]:
        if file.stream:
            return {}
        number = file.number
        try:
            found = await self._lookup.tree.xattrs(number)
        except ParseError as error:
            return {"attributes": OSError(errno_of(error), str(error))}
        except OSError as error:
            return {"attributes": error}
        values: dict[str, bytes | OSError] = {}
        unlisted = self._lookup.unlisted_xattrs(number) if whole else ()
        for name in (*found, *unlisted):
            try:
                value = found.get(name) or await self._lookup.tree.xattr(number, name)
                if value is not None:
                    values[os.fsdecode(name)] = await self._lookup.tree.xattr_value(number, value)
            except ParseError as error:
                values[os.fsdecode(name)] = OSError(errno_of(error), str(error))
            except OSError as error:
                values[os.fsdecode(name)] = error
        return values

    def is_on_volume(self, file: FileRef) -> bool:
        """Say whether a file is one of a volume's, and not one of the mount's own."""
        return self._lookup.tree.volume(file.number) is not None

    def streams(
        self, files: Sequence[FileRef], on_error: Callable[[OSError], None] | None = None
    ) -> list[FileRef]:
        """Return the alternate streams of files on NTFS.

        Where they cannot be read, an OSError that names the file is given to `on_error`; without that it is
        raised.
        """
        calls = [
            partial(self._streams_of, file)
            for file in files
            if not file.stream and self._lookup.has_streams(file.number)
        ]
        found: list[FileRef] = []
        for streams in self._lookup.bridge.run(lambda: self._gather(calls)) if calls else []:
            if not isinstance(streams, OSError):
                found += streams
            elif on_error is None:
                raise streams
            else:
                on_error(streams)
        return found

    def ignores_case(self, file: FileRef) -> bool:
        """Say whether the guest matches the names on a file's volume without regard to case."""
        return self._lookup.ignores_case(file.number)

    async def _streams_of(self, file: FileRef) -> list[FileRef] | OSError:
        try:
            return await self._lookup.streams_of(file)
        except (OSError, ParseError) as error:
            reason = explain(error) if isinstance(error, OSError) else str(error)
            return OSError(errno.EIO, f"its alternate streams cannot be read: {reason}", file.path)

    async def _gather(self, calls: Sequence[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        return await self._lookup.bridge.runtime.gather(calls)

    async def _list_one(self, path: str, number: int) -> tuple[str, Listing | OSError]:
        try:
            with as_os_errors(path):
                return path, await self._lookup.tree.listdir(number)
        except OSError as error:
            return path, ListingError.of(error)

    async def _open_all(self, files: Sequence[FileRef]) -> Sequence[FileMap | SmallFile | OSError]:
        opened = await self._gather([partial(self._open_one, file) for file in files])
        if self._lookup.bridge.runtime.nursery is None:
            return opened
        # From a distant disk the small ones are fetched here: a read of each costs two hops of threads.
        # All have been asked for, so it is no matter that they are waited for one after the other.
        return [
            await _small(content, file.path) for file, content in zip(files, opened, strict=True)
        ]

    async def _open_one(self, file: FileRef) -> FileMap | OSError:
        try:
            with as_os_errors(file.path):
                content = await self._lookup.open(file.number, os.fsencode(file.stream))
        except OSError as error:
            return error
        volume = self._lookup.tree.volume(file.number)
        if volume is not None:
            volume.data.prefetch(content.where(0, min(content.size, FIRST_READ)))
        return content


async def _small(content: FileMap | OSError, path: str) -> FileMap | SmallFile | OSError:
    """Return the content in memory if it is small and has no holes, else as it is."""
    if isinstance(content, OSError) or content.size > SMALL_FILE:
        return content
    if sum(span.length for span in content.spans()) != content.size:
        return content
    try:
        with as_os_errors(path):
            return SmallFile(await content.read(0, content.size), path)
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
