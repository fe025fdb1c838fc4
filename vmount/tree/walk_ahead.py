"""Prefetching for a walk through directories: data of the next files, listings of the next directories.

Strategy: who opens files of a directory one after the other will open the rest, and who lists the
directories of a directory will list the rest. The order is learnt: programs go by the directory's own
order (tar, cp, find) or by name (rsync, a shell's glob), and what was visited tells which. Each guess that
proves right doubles what is fetched; a late or wrong one starts again.

Used with remote disks only; for local files the kernel does this.
"""

from __future__ import annotations

import logging
import stat
from functools import cached_property
from typing import TYPE_CHECKING

import trio

from vmount.blocks.file_map import FileMap, open_file
from vmount.parsers.errors import ParseError
from vmount.parsers.lru import Lru
from vmount.parsers.model import VOLUME_SHIFT, Runs
from vmount.tree.read_ahead import ReadAhead
from vmount.tree.tree import INO_MASK, Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vmount.parsers.model import DirEntry, FileData
    from vmount.parsers.reader import BlockSource, Span
    from vmount.tree.listing import Listing

log = logging.getLogger(__name__)

FIRST_WINDOW = 512 << 10
LARGEST_WINDOW = 16 << 20
"""Bytes of files that are asked for and not opened yet."""
HEAD_OF_FILE = 512 << 10
"""Bytes fetched of a next file; a longer one is then read ahead like any other."""

DIRECTORIES_AHEAD = 16
"""Listings made ahead."""
DIRECTORIES_KEPT = 256
"""Directories remembered, to know what comes next in them."""
FILES_TOGETHER = 32
"""Files asked for at once: their requests are put in order, and neighbours become one."""
MOST_FILES_AHEAD = 512
"""Files asked for and not opened yet, however small they are."""
LONGEST_STEP = 4
"""Places from one file to the next that is still a walk in order: some may be passed over."""
FILES_KEPT = 1024
"""Files whose place on the volume was looked up ahead, until they are opened."""
RUNS_OF_A_FILE = 64
"""Runs that such a file has at most, on average."""
MEMBERS_KEPT = 1 << 17
"""Names in all the directories that are remembered: some 70 MB. A larger directory is not walked ahead of."""
MOST_TASKS = 16
"""Tasks that fetch files ahead at the same time: over a dead server they would pile up."""


class Order:
    """The members of a directory of one kind, and the order in which they are visited."""

    __slots__ = ("_attempt", "_cursor", "_hits", "_last", "_orders", "_places", "visits")

    def __init__(self, listed: Sequence[tuple[bytes, int]]) -> None:
        by_name = sorted(listed)
        self._orders = ([number for _, number in listed], [number for _, number in by_name])
        self._places: tuple[dict[int, int], ...] | None = None
        self._hits = [0, 0]
        self._last = [-1, -1]
        self._attempt = 0
        self._cursor = 0
        self.visits = 0

    def visit(self, number: int) -> bool:
        """Note a visit; say whether it goes on from the last one, in either order.

        One who is not a member (a damaged directory may say so) is passed over.
        """
        if self._places is None:
            self._places = tuple(
                {item: n for n, item in enumerate(order)} for order in self._orders
            )
        if number not in self._places[0]:
            return False
        self.visits += 1
        before = self._hits[1] > self._hits[0]
        steps = []
        for which, places in enumerate(self._places):
            steps.append(places[number] - self._last[which])
            self._hits[which] += steps[which] == 1
            self._last[which] = places[number]
        now = self._hits[1] > self._hits[0]
        is_continued = [0 < step <= LONGEST_STEP for step in steps]
        asked = self._cursor if now == before and is_continued[now] else 0
        self._cursor = max(self._last[now] + 1, asked)
        return any(is_continued)

    def following(self, attempt: int) -> Iterator[int]:
        """Yield what will be visited next, each once an attempt."""
        which = self._hits[1] > self._hits[0]
        if attempt != self._attempt:
            self._attempt = attempt
            self._cursor = self._last[which] + 1
        while self._cursor < len(self._orders[which]):
            self._cursor += 1
            yield self._orders[which][self._cursor - 1]

    @property
    def ahead(self) -> int:
        """How many members `following` has yielded beyond the last visit."""
        return self._cursor - self._last[self._hits[1] > self._hits[0]] - 1

    def next(self, number: int) -> int | None:
        """Return who comes after a member; None if it is the last."""
        if self._places is None or number not in self._places[0]:
            return None
        which = self._hits[1] > self._hits[0]
        place = self._places[which][number] + 1
        return self._orders[which][place] if place < len(self._orders[which]) else None

    @property
    def is_finished(self) -> bool:
        """Say whether all have been visited."""
        return self.visits >= len(self._orders[0])


class _Directory:
    """A listed directory. Its members are sorted when a walk enters it, which is rare."""

    def __init__(self, number: int, listing: Listing, parent: int | None) -> None:
        self.number = number
        self.parent = parent
        """A number, so that a remembered directory does not keep all those above it."""
        self._listing = listing

    @property
    def weight(self) -> int:
        """What it counts of MEMBERS_KEPT."""
        return _weight(self._listing)

    @property
    def members(self) -> list[int]:
        """All files and directories in it."""
        base = self._listing.base
        return [base | entry.ino for entry in self._listing.entries]

    @cached_property
    def sizes(self) -> dict[int, int]:
        """How many bytes of each file to fetch ahead; only of those that have some."""
        return {
            self._listing.base | entry.ino: min(entry.attrs.size, HEAD_OF_FILE)
            for entry in self._listing.entries
            if entry.kind == stat.S_IFREG and entry.attrs is not None and entry.attrs.size
        }

    @cached_property
    def files(self) -> Order:
        """The files that have a size."""
        return self._order(lambda _entry, number: number in self.sizes)

    @cached_property
    def folders(self) -> Order:
        """The directories."""
        return self._order(lambda entry, _number: entry.kind == stat.S_IFDIR)

    def _order(self, wanted: Callable[[DirEntry, int], bool]) -> Order:
        base = self._listing.base
        pairs = [(entry, base | entry.ino) for entry in self._listing.entries]
        return Order([(entry.name, number) for entry, number in pairs if wanted(entry, number)])


def _weight(listing: Listing) -> int:
    return max(len(listing.entries), MEMBERS_KEPT // DIRECTORIES_KEPT)


def _runs_of(data: FileData) -> int:
    return max(len(data.layout.runs) if isinstance(data.layout, Runs) else 1, RUNS_OF_A_FILE)


class WalkAhead:
    """Lists directories and opens files, and guesses what a walk will come to next.

    Its tasks run in `nursery`. Guesses that fail are forgotten: the walk itself will meet the error.
    """

    def __init__(self, tree: Tree, nursery: trio.Nursery) -> None:
        self._tree = tree
        self._nursery = nursery
        self._directories: Lru[int, _Directory] = Lru(
            MEMBERS_KEPT, lambda directory: directory.weight, self._forget_members
        )
        self._where: dict[int, _Directory] = {}
        """By file or directory: the directory that it was seen in."""
        self._listings: Lru[int, Listing] = Lru(MEMBERS_KEPT // 4, _weight)
        """Made ahead and not asked for yet."""
        self._listing: dict[int, trio.Event] = {}
        self._data: Lru[int, FileData] = Lru(FILES_KEPT * RUNS_OF_A_FILE, _runs_of)
        self._tasks = 0
        self._window = 0
        self._asked: dict[int, int] = {}
        """Files asked for and not opened yet, with their bytes."""
        self._asked_bytes = 0
        self._attempt = 0
        """Counts the restarts of prefetching."""

    async def listdir(self, number: int) -> Listing:
        """List a directory, or hand out the listing that was made ahead; ask for its neighbours."""
        if not number >> VOLUME_SHIFT:
            return await self._tree.listdir(number)
        running = self._listing.get(number)
        if running is not None:
            await running.wait()
        listing = self._listings.pop(number)
        if listing is None:
            listing = await self._tree.listdir(number)
        self._remember(number, listing)
        parent = self._where.get(number)
        if parent is not None:
            self._list_next(parent, number)
        return listing

    async def open(self, number: int) -> FileMap:
        """Open a file; ask for the ones after it."""
        volume = self._tree.volume(number)
        if volume is None:
            content = await self._tree.open(number)
            source = self._tree.block_source(number)
            return content if source is None else ReadAhead(content, source)
        content = await self._tree.open(number, known=self._data.pop(number))
        directory = self._where.get(number)
        if directory is not None and number in directory.sizes:
            self._fetch_next(directory, number)
        return ReadAhead(content, volume.data)

    def _remember(self, number: int, listing: Listing) -> None:
        if self._directories.get(number) is not None:
            return
        above = self._where.get(number)
        directory = _Directory(number, listing, None if above is None else above.number)
        self._directories.put(number, directory)
        if number in self._directories:
            self._where.update(dict.fromkeys(directory.members, directory))

    def _forget_members(self, _number: int, old: _Directory) -> None:
        for child in old.members:
            if self._where.get(child) is old:
                del self._where[child]

    # The next directories

    def _list_next(self, parent: _Directory, number: int) -> None:
        """Start to list the directories after `number`: twice as many as were listed before."""
        folders = parent.folders
        folders.visit(number)
        most = min(DIRECTORIES_AHEAD, 2 * folders.visits)
        # Some at once: the bounds of requests in flight are the cache's.
        if folders.ahead > most // 2:
            return
        for child in folders.following(0):
            if child not in self._directories and child not in self._listing:
                self._listing[child] = trio.Event()
                self._nursery.start_soon(self._list, child)
            if folders.ahead >= most:
                return

    async def _list(self, number: int) -> None:
        try:
            listing = await self._tree.listdir(number)
        except (ParseError, OSError) as error:
            log.debug("prefetching listings: %s", error)
        else:
            self._remember(number, listing)
            self._listings.put(number, listing)
        finally:
            self._listing.pop(number).set()

    # The next files

    def _fetch_next(self, directory: _Directory, number: int) -> None:
        """Note that a file was opened; ask for the next ones, those of the next directories too."""
        goes_on = directory.files.visit(number)
        guessed = self._asked.pop(number, 0)
        if guessed:
            self._asked_bytes -= guessed
            self._window = min(self._window * 2, LARGEST_WINDOW)
        else:
            self._asked.clear()
            self._asked_bytes = 0
            self._attempt += 1
            # One file of a directory tells nothing, unless it follows a walk through the one before.
            is_walk = goes_on if directory.files.visits > 1 else self._follows_a_walk(directory)
            self._window = FIRST_WINDOW if is_walk else 0
        if self._tasks >= MOST_TASKS:
            return
        # A request for every file would be many small ones.
        if self._asked_bytes > self._window // 2 or len(self._asked) > MOST_FILES_AHEAD // 2:
            return
        wanted = []
        for child, size in self._coming(directory):
            self._asked[child] = size
            self._asked_bytes += size
            wanted.append(child)
            if self._asked_bytes >= self._window or len(self._asked) >= MOST_FILES_AHEAD:
                break
        if wanted:
            self._tasks += 1
            self._nursery.start_soon(self._fetch, wanted)

    def _coming(self, directory: _Directory) -> Iterator[tuple[int, int]]:
        """Yield the files to come and their bytes: of this directory, then of those after it."""
        current: _Directory | None = directory
        while current is not None and self._asked_bytes < self._window:
            for child in current.files.following(self._attempt):
                if child not in self._asked:
                    yield child, current.sizes[child]
            parent = self._above(current)
            after = parent.folders.next(current.number) if parent is not None else None
            current = self._directories.peek(after) if after is not None else None

    def _above(self, directory: _Directory) -> _Directory | None:
        return None if directory.parent is None else self._directories.peek(directory.parent)

    def _follows_a_walk(self, directory: _Directory) -> bool:
        parent = self._above(directory)
        return parent is not None and any(
            before.files.visits > 1 and before.files.is_finished
            for before in self._directories
            if before.parent == parent.number
            and parent.folders.next(before.number) == directory.number
        )

    async def _fetch(self, numbers: Sequence[int]) -> None:
        try:
            await self._look_up(numbers)
        finally:
            self._tasks -= 1

    async def _look_up(self, numbers: Sequence[int]) -> None:
        for first in range(0, len(numbers), FILES_TOGETHER):
            spans: dict[BlockSource, list[Span]] = {}
            for number in numbers[first : first + FILES_TOGETHER]:
                volume = self._tree.volume(number)
                assert volume is not None
                try:
                    data = self._data.get(number)
                    if data is None:
                        data = await volume.filesystem.data(number & INO_MASK)
                    content = open_file(volume.data, data)
                except (ParseError, OSError) as error:
                    log.debug("prefetching files: %s", error)
                    continue
                spans.setdefault(volume.data, []).extend(content.where(0, HEAD_OF_FILE))
                self._data.put(number, data)
            for source, wanted in spans.items():
                source.prefetch(wanted)
