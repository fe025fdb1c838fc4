"""Copying trees out of a set of disks.

Strategy: directories are listed, and the files in them opened, several at a time: over a distant disk
that is what takes the time. What fails is reported and the rest is copied. Times and modes are set when the
content is there, those of directories last, because writing into a directory changes its time.

The disk may be made to mislead: names that are there twice, a link where a directory comes next, a
directory inside itself. No link of the disk is ever followed on this machine.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from vmount.errors import VmountError, explain
from vmount.jobs.copying.content import ContentOptions, is_there, write_content
from vmount.jobs.copying.keeping import Keeper
from vmount.jobs.copying.options import CopyOptions
from vmount.jobs.copying.report import CopyReport

if TYPE_CHECKING:
    from vmount.api import FileRef
    from vmount.jobs.copying.source import ContentReader, FileSource

BATCH_FILES = 128
"""Files that are opened, and asked for, together."""
BATCH_SIZE = 32 << 20
"""Bytes of them."""

BATCHES_AHEAD = 2
"""That are asked for while one is written."""

NO_MORE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""Errors of the target after which nothing else will succeed either."""


class _Batch(NamedTuple):
    """Files that are being opened."""

    wanted: list[tuple[FileRef, Path]]
    regular: list[FileRef]
    readers: Callable[[], Sequence[ContentReader | OSError]]
    """Waits for the regular ones."""
    xattrs: Callable[[], Sequence[Mapping[str, bytes | OSError]]]


class Copier:
    """Copies files and trees. `on_progress` is called after each piece and each file."""

    def __init__(
        self,
        disks: FileSource,
        on_progress: Callable[[CopyReport, str], None],
        options: CopyOptions | None = None,
    ) -> None:
        self.report = CopyReport()
        self._disks = disks
        self._on_progress = on_progress
        self._options = options or CopyOptions()
        self._keeper = Keeper(self._options.owner, self.report)
        # Where the first of a file's hard links was copied to, and the inode that it got there.
        self._copied: dict[int, tuple[Path, int]] = {}
        self._links: set[Path] = set()

    def copy(self, path: str, target: Path) -> None:
        """Copy a file or a tree to `target`, which is the new name itself. Raises as `copy_all` does."""
        self.copy_all([(path, target)])

    def copy_all(self, wanted: Sequence[tuple[str, Path]]) -> None:
        """Copy files and trees, each to its new name.

        Raises VmountError when the target takes nothing more.
        """
        directories: list[tuple[Path, FileRef]] = []
        files = self._files_of(wanted, directories)
        # While one is written, the next ones are on their way.
        coming: deque[_Batch] = deque()
        while True:
            while len(coming) <= BATCHES_AHEAD and (batch := self._begin(files)) is not None:
                coming.append(batch)
            if not coming:
                break
            self._finish(coming.popleft())
        self._keep_directories(directories[::-1])

    def _files_of(
        self, wanted: Sequence[tuple[str, Path]], directories: list[tuple[Path, FileRef]]
    ) -> Iterator[tuple[FileRef, Path]]:
        """Yield what is no directory, with its place; make the directories."""
        for path, target in wanted:
            try:
                yield from self._files_below(path, target, directories)
            except OSError as error:
                self._fail(path, error)

    def _files_below(
        self, path: str, target: Path, directories: list[tuple[Path, FileRef]]
    ) -> Iterator[tuple[FileRef, Path]]:
        failed: set[str] = set()
        names: set[str] = set()
        folder = ""
        top = len(path.rstrip("/"))
        for file in self._options.selection.below(self._disks, path, self._fail_to_read):
            place = Path(f"{target}{file.path[top:]}") if len(file.path) > top else target
            is_directory = stat.S_ISDIR(file.attrs.mode)
            parent, _, name = file.path.rpartition("/")
            if parent in failed:
                if is_directory:
                    failed.add(file.path)
                continue
            if parent != folder:
                folder, names = parent, set()
            if name in names:
                self._fail(file.path, OSError(errno.EUCLEAN, "the name is there twice"))
                continue
            names.add(name)
            if not is_directory:
                yield file, place
            elif self._try(file.path, partial(self._make_directory, place, target)):
                directories.append((place, file))
            else:
                failed.add(file.path)

    def _keep_directories(self, directories: Sequence[tuple[Path, FileRef]]) -> None:
        for start in range(0, len(directories), BATCH_FILES):
            some = directories[start : start + BATCH_FILES]
            xattrs = self._disks.xattrs_of(
                [file for _, file in some], whole=self._options.owner.guest
            )
            for (place, file), values in zip(some, xattrs, strict=True):
                self._try(file.path, partial(self._keeper.keep, place, file.attrs, values))

    def _make_directory(self, place: Path, target: Path) -> None:
        if place.is_symlink() and (place != target or place in self._links):
            # Only a link that the user gave as the target may lead somewhere else.
            place.unlink()
        place.mkdir(exist_ok=True)

    def _begin(self, files: Iterator[tuple[FileRef, Path]]) -> _Batch | None:
        """Take the next files and ask for them; None if there are no more."""
        taken: list[tuple[FileRef, Path]] = []
        size = 0
        for file, place in files:
            taken.append((file, place))
            size += file.attrs.size
            if len(taken) >= BATCH_FILES or size >= BATCH_SIZE:
                break
        if not taken:
            return None
        wanted = [(file, place) for file, place in taken if not self._is_there(file, place)]
        regular = [file for file, _ in wanted if stat.S_ISREG(file.attrs.mode)]
        disks, whole = self._disks, self._options.owner.guest
        return _Batch(
            wanted,
            regular,
            disks.soon(lambda: disks.open_files(regular)),
            disks.soon(lambda: disks.xattrs_of([file for file, _ in wanted], whole=whole)),
        )

    def _finish(self, batch: _Batch) -> None:
        readers = dict(zip(batch.regular, batch.readers(), strict=True))
        try:
            for (file, place), xattrs in zip(batch.wanted, batch.xattrs(), strict=True):
                reader = readers.get(file)
                if isinstance(reader, OSError):
                    self._fail(file.path, reader)
                elif self._try(file.path, partial(self._copy_one, file, place, reader, xattrs)):
                    self.report.files += 1
                    self._on_progress(self.report, file.path)
        finally:
            for reader in readers.values():
                if not isinstance(reader, OSError):
                    reader.close()

    def _copy_one(
        self,
        file: FileRef,
        place: Path,
        reader: ContentReader | None,
        xattrs: Mapping[str, bytes | OSError],
    ) -> None:
        attrs = file.attrs
        if reader is None or (attrs.nlink > 1 and self._copy_of(file.number) is not None):
            self._place(file, place)
            self._keeper.keep(place, attrs, xattrs)
            return
        write_content(
            reader,
            place,
            attrs,
            ContentOptions(self._options.resume, self._options.verify),
            lambda count: self._tell(count, file.path),
            lambda written: self._keeper.keep_of_written(written, place, attrs, xattrs),
        )
        self.report.verified += self._options.verify
        self._remember(file, place)

    def _is_there(self, file: FileRef, place: Path) -> bool:
        if not self._options.resume:
            return False
        if stat.S_ISLNK(file.attrs.mode):
            if not self._is_link_there(file, place):
                return False
            self._links.add(place)
        elif not is_there(place, file.attrs):
            return False
        self.report.already_there += 1
        self._remember(file, place)
        return True

    def _is_link_there(self, file: FileRef, place: Path) -> bool:
        """Say whether a whole copy of a symbolic link is at its place: its time is set last."""
        try:
            if place.lstat().st_mtime_ns != file.attrs.mtime:
                return False
            return str(place.readlink()) == self._disks.readlink(file.path)
        except OSError:
            return False

    def _place(self, file: FileRef, place: Path) -> None:
        """Make what has no content of its own: a link, a hard link to a copy, a special file."""
        attrs = file.attrs
        make_room = partial(place.unlink, missing_ok=True)
        if stat.S_ISLNK(attrs.mode):
            destination = self._disks.readlink(file.path)
            make_room()
            place.symlink_to(destination)
            self._links.add(place)
            return
        first = self._copy_of(file.number) if attrs.nlink > 1 else None
        make_room()
        if first is not None:
            place.hardlink_to(first)
            return
        if stat.S_ISFIFO(attrs.mode):
            os.mkfifo(place)
        else:
            os.mknod(place, stat.S_IFMT(attrs.mode) | 0o600, attrs.rdev)
        self._remember(file, place)

    def _remember(self, file: FileRef, place: Path) -> None:
        """Note where a file is, for its other hard links."""
        if file.attrs.nlink > 1:
            self._copied[file.number] = place, place.lstat().st_ino

    def _copy_of(self, number: int) -> Path | None:
        """Return where a file is already, unless something else has taken its place since."""
        place, inode = self._copied.get(number, (None, 0))
        if place is None or place.is_symlink() or not place.exists():
            return None
        return place if place.lstat().st_ino == inode else None

    def _tell(self, count: int, path: str) -> None:
        self.report.bytes += count
        self._on_progress(self.report, path)

    def _try(self, path: str, action: Callable[[], None]) -> bool:
        """Do something for a file; say whether it succeeded. Raises VmountError if nothing more will."""
        try:
            action()
        except OSError as error:
            if error.errno in NO_MORE:
                raise self._no_more(error) from error
            self._fail(path, error)
            return False
        return True

    def _no_more(self, error: OSError) -> VmountError:
        """Return the error for a target that takes nothing more."""
        if error.errno == errno.EROFS:
            return VmountError(explain(error))
        files = "1 file was" if self.report.files == 1 else f"{self.report.files} files were"
        return VmountError(
            f"{explain(error)}; {files} copied",
            remedy="free some space, and run the same command with --resume",
        )

    def _fail_to_read(self, error: OSError) -> None:
        self._fail(str(error.filename or ""), error)

    def _fail(self, source: str, error: OSError) -> None:
        text = explain(error)
        self.report.problems.append(text if source in text else f"{source}: {text}")


def name_of(path: str) -> str:
    """Return the name that a path is copied under into a directory; "" if it has none."""
    name = PurePosixPath(path).name
    return "" if name == ".." else name
