"""Asking ahead: what will be read next is fetched before it is asked for.

Strategy: three guesses, each from something that was just seen. A file read in order will be read on: its
runs are followed with a window that doubles (`ReadAhead`). Who opens files of a directory one after the
other will open the rest: their data is fetched in listing order (`WalkAhead.opened`). Who lists the
directories of a directory one after the other will list the rest: they are listed in the background
(`WalkAhead.listed`). Each starts small, grows while it proves right and is bounded in bytes or number.

Used with remote disks only; for local files the kernel does this.
"""

from __future__ import annotations

import logging
import stat
from collections import OrderedDict
from typing import TYPE_CHECKING

import trio

from parsers.errors import ParseError
from vmount.filemap import FileMap, open_file
from vmount.tree import INO_MASK, VOLUME_SHIFT, Listing, Tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parsers.model import FileData
    from parsers.reader import BlockSource, Buffer, Span

log = logging.getLogger(__name__)

FIRST_WINDOW = 512 << 10
"""Bytes fetched ahead of a reader who has read in order once."""
LARGEST_WINDOW = 16 << 20
"""Bytes: at 5 ms a request and 1 GB/s, three requests' time of data."""

FIRST_FILES = 256 << 10
LARGEST_FILES = 8 << 20
"""Bytes of next files that are asked for and not opened yet."""
HEAD_OF_FILE = 512 << 10
"""Bytes fetched of a next file; a longer one is then read ahead like any other."""

DIRECTORIES_AT_ONCE = 16
"""Listings made ahead."""
DIRECTORIES_KEPT = 256
"""Directories remembered, to know what comes next in them."""


class ReadAhead:
    """A FileMap that fetches ahead of whoever reads it in order."""

    def __init__(self, content: FileMap, source: BlockSource) -> None:
        self.size = content.size
        self._content = content
        self._source = source
        self._next = 0
        self._asked = 0
        self._window = 0

    def try_read(self, offset: int, length: int) -> Buffer | None:
        """Return the bytes if they are at hand."""
        self._look_ahead(offset, length)
        return self._content.try_read(offset, length)

    async def read(self, offset: int, length: int) -> Buffer:
        """Return the bytes."""
        return await self._content.read(offset, length)

    def spans(self) -> Sequence[Span]:
        """Return the parts that may hold something else than zeros."""
        return self._content.spans()

    def where(self, offset: int, length: int, /) -> Sequence[Span]:
        """Return where a range lies on the volume."""
        return self._content.where(offset, length)

    def _look_ahead(self, offset: int, length: int) -> None:
        end = offset + length
        # The kernel asks for neighbouring ranges at once, and they may come in any order.
        if abs(offset - self._next) > LARGEST_WINDOW // 8:
            self._window, self._asked = 0, end
        elif end > self._next:
            self._window = min(max(FIRST_WINDOW, self._window * 2), LARGEST_WINDOW)
        self._next = max(end, self._next) if self._window else end
        target = min(end + self._window, self.size)
        # Not for every few bytes: half a window is worth a request.
        if self._window and target - max(self._asked, end) >= min(
            self._window // 2, self.size - end
        ):
            start = max(self._asked, end)
            if target > start:
                self._source.prefetch(self._content.where(start, target - start))
                self._asked = target


class _Directory:
    """A listed directory, and how far in it we have asked ahead."""

    __slots__ = ("asked", "cursor", "files", "folder_cursor", "folders", "opened", "window")

    def __init__(self, listing: Listing) -> None:
        self.files: list[tuple[int, int]] = []
        self.folders: list[int] = []
        for _, ino, kind, attrs in listing.entries:
            if kind == stat.S_IFREG and attrs is not None and attrs.size:
                self.files.append((listing.base | ino, min(attrs.size, HEAD_OF_FILE)))
            elif kind == stat.S_IFDIR:
                self.folders.append(listing.base | ino)
        self.cursor = 0
        self.folder_cursor = 0
        self.opened = 0
        self.window = 0
        self.asked: dict[int, int] = {}


class WalkAhead:
    """Guesses what a walk through the tree will come to next. Its tasks run in `nursery`."""

    def __init__(self, tree: Tree, nursery: trio.Nursery) -> None:
        self._tree = tree
        self._nursery = nursery
        self._directories: OrderedDict[int, _Directory] = OrderedDict()
        self._parents: dict[int, int] = {}
        self._listings: OrderedDict[int, Listing] = OrderedDict()
        self._listing: dict[int, trio.Event] = {}
        self._data: OrderedDict[int, FileData] = OrderedDict()

    async def listdir(self, number: int) -> Listing:
        """List a directory, or hand out the listing that was made ahead; ask for its neighbours."""
        if not number >> VOLUME_SHIFT:
            return await self._tree.listdir(number)
        running = self._listing.get(number)
        if running is not None:
            await running.wait()
        listing = self._listings.pop(number, None)
        if listing is None:
            listing = await self._tree.listdir(number)
        self._remember(number, listing)
        parent = self._directories.get(self._parents.get(number, 0))
        if parent is not None:
            self._list_next(parent, number)
        return listing

    async def open(self, number: int) -> FileMap:
        """Open a file; ask for the ones after it in its directory."""
        volume = self._tree.volume(number)
        if volume is None:
            return await self._tree.open(number)
        data = self._data.pop(number, None)
        if data is None:
            data = await volume.filesystem.data(number & INO_MASK)
        content = open_file(volume.data, data)
        directory = self._directories.get(self._parents.get(number, 0))
        if directory is not None:
            self._fetch_next(directory, number)
        return ReadAhead(content, volume.data)

    def _remember(self, number: int, listing: Listing) -> None:
        if number in self._directories:
            self._directories.move_to_end(number)
            return
        directory = _Directory(listing)
        self._directories[number] = directory
        for child, _ in directory.files:
            self._parents[child] = number
        for child in directory.folders:
            self._parents[child] = number
        if len(self._directories) > DIRECTORIES_KEPT:
            _, old = self._directories.popitem(last=False)
            for child, _ in old.files:
                self._parents.pop(child, None)
            for child in old.folders:
                self._parents.pop(child, None)

    # The next directories

    def _list_next(self, parent: _Directory, number: int) -> None:
        """Start to list the directories after `number`, if the one before it was listed too."""
        position = parent.folder_cursor
        if position < len(parent.folders) and parent.folders[position] == number:
            parent.folder_cursor += 1
        elif number in parent.folders:
            parent.folder_cursor = parent.folders.index(number) + 1
        ahead = min(DIRECTORIES_AT_ONCE, 2 * parent.folder_cursor)
        for child in parent.folders[parent.folder_cursor : parent.folder_cursor + ahead]:
            if len(self._listing) >= DIRECTORIES_AT_ONCE:
                break
            known = child in self._directories or child in self._listings
            if not known and child not in self._listing:
                self._listing[child] = trio.Event()
                self._nursery.start_soon(self._list, child)

    async def _list(self, number: int) -> None:
        try:
            listing = await self._tree.listdir(number)
        except (ParseError, OSError) as error:
            log.debug("listing ahead: %s", error)
        else:
            self._listings[number] = listing
            if len(self._listings) > 4 * DIRECTORIES_AT_ONCE:
                self._listings.popitem(last=False)
        finally:
            self._listing.pop(number).set()

    # The next files

    def _fetch_next(self, directory: _Directory, number: int) -> None:
        directory.opened += 1
        was_guessed = directory.asked.pop(number, None) is not None
        if directory.opened < 2:
            return
        if was_guessed or not directory.window:
            directory.window = min(max(FIRST_FILES, directory.window * 2), LARGEST_FILES)
        outstanding = sum(directory.asked.values())
        wanted = []
        while directory.cursor < len(directory.files) and outstanding < directory.window:
            child, size = directory.files[directory.cursor]
            directory.cursor += 1
            if child != number:
                directory.asked[child] = size
                outstanding += size
                wanted.append(child)
        if wanted:
            self._nursery.start_soon(self._fetch, wanted)

    async def _fetch(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            volume = self._tree.volume(number)
            assert volume is not None
            try:
                data = await volume.filesystem.data(number & INO_MASK)
                content = open_file(volume.data, data)
            except (ParseError, OSError) as error:
                log.debug("fetching ahead: %s", error)
                continue
            volume.data.prefetch(content.where(0, HEAD_OF_FILE))
            self._data[number] = data
            if len(self._data) > 1024:
                self._data.popitem(last=False)
