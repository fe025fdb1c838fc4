"""Copying trees out of a set of disks.

Strategy: directories are listed, and the files in them opened, several at a time: over a distant disk
that is what takes the time. What fails is reported and the rest is copied. Times and modes are set when the
content is there, those of directories last, because writing into a directory changes its time.

The disk may be made to mislead: names that are there twice, a link where a directory comes next, a
directory inside itself. And who may write to the target may exchange what is in it while the copy runs. No link of the
disk or of the target is ever followed on this machine: places are those of vmount.jobs.copying.target.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from vmount.errors import VmountError, explain
from vmount.jobs.copying.content import ContentOptions, find_whole, holds, write_content
from vmount.jobs.copying.keeping import Keeper
from vmount.jobs.copying.options import CopyOptions
from vmount.jobs.copying.report import CopyReport
from vmount.jobs.copying.target import Identity, Place, TargetTree

if TYPE_CHECKING:
    from pathlib import Path

    from vmount.api import FileRef
    from vmount.jobs.file_source import FileSource, OpenFile

BATCH_FILES = 128
"""Files that are opened, and asked for, together."""
BATCH_SIZE = 32 << 20
"""Bytes of them."""

BATCHES_AHEAD = 2
"""That are asked for while one is written."""

NO_MORE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""Errors of the target after which nothing else will succeed either."""

SPECIAL = frozenset({stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK})
"""Kinds of files without content."""


class _Batch(NamedTuple):
    """Files that are being opened."""

    wanted: list[tuple[FileRef, Place]]
    regular: list[FileRef]
    readers: Callable[[], Sequence[OpenFile | OSError]]
    """Waits for the regular ones."""
    xattrs: Callable[[], Sequence[Mapping[str, bytes | OSError]]]


class _Made(NamedTuple):
    """A directory of the target, to be given what belongs to it at the end."""

    place: Place
    identity: Identity
    file: FileRef


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
        # Where the first of a file's hard links was copied to, and which file it is there.
        self._copied: dict[int, tuple[Place, Identity]] = {}

    def copy(self, path: str, target: Path) -> None:
        """Copy a file or a tree to `target`, which is the new name itself. Raises as `copy_all` does."""
        self.copy_all([(path, target)])

    def copy_all(self, wanted: Sequence[tuple[str, Path]]) -> None:
        """Copy files and trees, each to its new name. Links in the path of the directory that a name is in
        are followed, once; none below that.

        Raises VmountError when the target takes nothing more.
        """
        with ExitStack() as stack:
            self._copy_all(wanted, stack)
            self._copied.clear()

    def _copy_all(self, wanted: Sequence[tuple[str, Path]], stack: ExitStack) -> None:
        directories: list[_Made] = []
        files = self._files_of(wanted, directories, stack)
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
        self, wanted: Sequence[tuple[str, Path]], directories: list[_Made], stack: ExitStack
    ) -> Iterator[tuple[FileRef, Place]]:
        """Yield what is no directory, with its place; make the directories."""
        trees: dict[Path, TargetTree] = {}
        for path, target in wanted:
            try:
                top, name = top_of(target)
                if top not in trees:
                    trees[top] = stack.enter_context(closing(TargetTree(top)))
                yield from self._files_below(path, Place(trees[top], name), directories)
            except OSError as error:
                self._fail(path, error)

    def _files_below(
        self, path: str, target: Place, directories: list[_Made]
    ) -> Iterator[tuple[FileRef, Place]]:
        failed: set[str] = set()
        names: set[str] = set()
        folder = ""
        top = len(path.rstrip("/"))
        for file in self._options.selection.below(self._disks, path, self._fail_to_read):
            place = target.below(file.path[top:]) if len(file.path) > top else target
            is_directory = stat.S_ISDIR(file.attrs.mode)
            parent, _, name = file.path.rpartition("/")
            if parent in failed:
                if is_directory:
                    failed.add(file.path)
                continue
            if parent != folder:
                folder, names = parent, set()
            if name in names:
                self._fail(
                    file.path, OSError(errno.EUCLEAN, "the directory contains this name twice")
                )
                continue
            names.add(name)
            if not is_directory:
                yield file, place
            elif not self._try(file.path, partial(self._make_directory, place, file, directories)):
                failed.add(file.path)

    def _make_directory(self, place: Place, file: FileRef, directories: list[_Made]) -> None:
        directories.append(_Made(place, place.make_directory(), file))

    def _keep_directories(self, directories: Sequence[_Made]) -> None:
        for start in range(0, len(directories), BATCH_FILES):
            some = directories[start : start + BATCH_FILES]
            xattrs = self._disks.xattrs_of(
                [made.file for made in some], whole=self._options.owner.guest
            )
            for (place, identity, file), values in zip(some, xattrs, strict=True):
                keep = partial(self._keeper.keep, place, identity, file.attrs, values)
                self._try(file.path, keep)

    def _begin(self, files: Iterator[tuple[FileRef, Place]]) -> _Batch | None:
        """Take the next files and ask for them; None if there are no more."""
        taken: list[tuple[FileRef, Place]] = []
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
                elif self._is_verified(file, place, reader):
                    self._on_progress(self.report, file.path)
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
        place: Place,
        reader: OpenFile | None,
        xattrs: Mapping[str, bytes | OSError],
    ) -> None:
        attrs = file.attrs
        if reader is None or (attrs.nlink > 1 and self._copy_of(file.number) is not None):
            self._keeper.keep(place, self._place(file, place), attrs, xattrs)
            return
        identity = write_content(
            reader,
            place,
            attrs,
            ContentOptions(self._options.resume, self._options.verify),
            lambda count: self._tell(count, file.path),
            lambda written: self._keeper.keep_of_written(written, place, attrs, xattrs),
        )
        self.report.verified += self._options.verify
        self._keeper.keep_late(place, identity, attrs, xattrs)
        self._remember(file, place, identity)

    def _is_there(self, file: FileRef, place: Place) -> bool:
        is_compared = self._options.verify and stat.S_ISREG(file.attrs.mode)
        if not self._options.resume or is_compared:
            return False
        identity = find_whole(place, file.attrs)
        if identity is None or (stat.S_ISLNK(file.attrs.mode) and not self._is_same(file, place)):
            return False
        self.report.already_there += 1
        self._remember(file, place, identity)
        return True

    def _is_verified(self, file: FileRef, place: Place, reader: OpenFile | None) -> bool:
        """Say whether a whole copy from before holds what its file holds."""
        if reader is None or not (self._options.resume and self._options.verify):
            return False
        identity = find_whole(place, file.attrs)
        with suppress(OSError):  # the copy that follows says what cannot be read
            if identity is not None and holds(place, reader, file.attrs):
                self.report.already_there += 1
                self.report.verified += 1
                self._remember(file, place, identity)
                return True
        return False

    def _is_same(self, file: FileRef, place: Place) -> bool:
        """Say whether a symbolic link leads where its copy does."""
        try:
            there = os.readlink(place.name, dir_fd=place.folder())
            return there == self._disks.readlink(file.path)
        except OSError:
            return False

    def _place(self, file: FileRef, place: Place) -> Identity | None:
        """Make what has no content of its own: a link, a hard link to a copy, a special file.

        Return which file it is if that is known: of a hard link.
        """
        attrs = file.attrs
        if stat.S_ISLNK(attrs.mode):
            destination = self._disks.readlink(file.path)
            place.make_room()
            os.symlink(destination, place.name, dir_fd=place.folder())
            return None
        first = self._copy_of(file.number) if attrs.nlink > 1 else None
        place.make_room()
        if first is not None:
            there, identity = first
            os.link(
                there.name,
                place.name,
                src_dir_fd=there.folder(),
                dst_dir_fd=place.folder(),
                follow_symlinks=False,
            )
            return identity
        kind = stat.S_IFMT(attrs.mode)
        if kind not in SPECIAL:
            raise OSError(errno.EUCLEAN, f"unknown type of file: mode {attrs.mode:o}")
        # Of a special file that is no device, the number says nothing, and may be anything.
        number = attrs.rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
        os.mknod(place.name, kind | 0o600, number, dir_fd=place.folder())
        if attrs.nlink > 1:
            self._remember(file, place, Identity.of(place.lstat()))
        return None

    def _remember(self, file: FileRef, place: Place, identity: Identity) -> None:
        """Note where a file is, for its other hard links."""
        if file.attrs.nlink > 1:
            self._copied[file.number] = place, identity

    def _copy_of(self, number: int) -> tuple[Place, Identity] | None:
        """Return where a file is already, unless another file has replaced it since."""
        known = self._copied.get(number)
        if known is None:
            return None
        with suppress(FileNotFoundError):
            if Identity.of(known[0].lstat()) == known[1]:
                return known
        return None

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


def top_of(target: Path) -> tuple[Path, str]:
    """Split a new name into the directory that a copy must stay below, and the name in it.

    The name is "" where the target has none of its own, as "/" and "..": it is then that directory.
    """
    return (target, "") if target.name in ("", "..") else (target.parent, target.name)


def name_of(path: str) -> str:
    """Return the name that a path is copied under into a directory; "" if it has none."""
    name = PurePosixPath(path).name
    return "" if name == ".." else name
