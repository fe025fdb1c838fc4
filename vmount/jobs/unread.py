"""What a job could not read, in one place for all jobs: scan, find, diff, cp, ls -R, cat.

A job never says more than it knows: disks that cannot be opened, volumes whose files cannot be read,
directories and files that fail, files that were left out because they are too large. Each is one line on
standard error and one object in the JSON; their number is in the summary, and the exit code is
`Exit.SOURCE`.

A job on a part of the disks answers for that part only: `paths` decide which disks and volumes count.
"""

from __future__ import annotations

import errno
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from vmount.api.globs import compile_glob, is_pattern
from vmount.errors import Exit, ListingError
from vmount.volumes.unread import DIRECTORY, DISK, FILE, VOLUME, Unread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from vmount.jobs.file_source import FileSource

TREES = frozenset({"volumes", "drives", "root"})
"""Directories of a mount in which a disk's files are shown."""
TOP = TREES | {"disks", "info.json", ".vmount"}

_NAMES = {
    DISK: ("disk", "disks"),
    VOLUME: ("volume", "volumes"),
    DIRECTORY: ("directory", "directories"),
    FILE: ("file", "files"),
}
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})


class HasUnread(Protocol):
    """A disk set (vmount.api), or a folder such as a mount."""

    @property
    def unread(self) -> Sequence[Unread]:
        """The disks and volumes that cannot be read."""
        ...


class NotRead:
    """Collects what one job could not read."""

    def __init__(self, what: str, tell: Callable[[str], None] | None = None) -> None:
        """`what` is the job's word for it: "not scanned". `tell` takes a line for each, at once."""
        self.items: list[Unread] = []
        self._known: set[Unread] = set()
        self._what = what
        self._tell = tell

    def add(self, item: Unread) -> None:
        """Note something that could not be read. What was noted before is not noted again."""
        if item in self._known:
            return
        self._known.add(item)
        self.items.append(item)
        if self._tell is not None:
            self._tell(f"{self._what}: {line_of(item)}")

    def add_parts(self, disks: HasUnread, paths: Iterable[str], of: str = "") -> None:
        """Note the disks and volumes that a job on these paths (or patterns) should have read.

        `of` names the source where there are several.
        """
        for item in unread_below(disks.unread, paths):
            self.add(item._replace(reason=f"{item.reason} (in {of})") if of else item)

    def add_error(self, error: OSError) -> None:
        """Note a file, or by a ListingError a directory: the error names it."""
        path = "" if error.filename is None else str(error.filename)
        kind = DIRECTORY if isinstance(error, ListingError) else FILE
        self.add(Unread(kind, path, error.strerror or str(error) or type(error).__name__))

    def add_directory(self, error: OSError) -> None:
        """Note a directory that cannot be listed: the error names it."""
        self.add_error(ListingError.of(error))

    def add_absent(self, disks: HasUnread, path: str, error: OSError) -> None:
        """Note a path of the user that is not there, unless the disk or volume that it is on was noted."""
        why = missed(disks.unread, path, error)
        if why is error or all(item.reason not in str(why.strerror) for item in self.items):
            self.add_error(why)

    def as_objects(self) -> list[dict[str, str]]:
        """Return them as something that fits JSON."""
        return [item.as_object() for item in self.items]

    def counted(self) -> str:
        """Return how many there are: "1 disk, 2 volumes"; an empty text for none."""
        return counted(self.items)

    @property
    def exit_code(self) -> Exit:
        """The exit code of a job that has nothing else to say."""
        return Exit.SOURCE if self.items else Exit.OK


def counted(items: Iterable[Unread]) -> str:
    """Return how many disks, volumes, directories and files there are; an empty text for none."""
    numbers = Counter(item.kind for item in items)
    return ", ".join(
        f"{numbers[kind]} {names[numbers[kind] > 1]}"
        for kind, names in _NAMES.items()
        if numbers[kind]
    )


def line_of(item: Unread) -> str:
    """Return a line for people."""
    return f"{item.path}: {item.reason}" if item.path else item.reason


def unread_below(unread: Sequence[Unread], paths: Iterable[str]) -> list[Unread]:
    """Return those of the disks and volumes that cannot be read which a job on paths should have read.

    A path may be a pattern, and leave out "volumes/". A disk that cannot be opened counts for every path
    that stands for several volumes, because nobody knows which ones are on it.
    """
    wanted = [_parts(path, unread) for path in paths]
    return [item for item in unread if any(_concerns(item, parts) for parts in wanted)]


def missed(unread: Sequence[Unread], path: str, error: OSError) -> OSError:
    """Return why a path is not there: the error itself, or one that names the disk or volume that it is on
    and why that cannot be read."""
    if error.errno not in _ABSENT:
        return error
    parts = _parts(path, unread)
    for item in unread:
        name = _name(item)
        if item.kind == DISK and parts[:1] == ["volumes"] and len(parts) > 1:
            is_on_it = parts[1] == name or parts[1].startswith(f"{name}-p")
        else:
            own = item.path.split("/")
            is_on_it = parts[: len(own)] == own
        if is_on_it:
            return OSError(errno.EIO, f"{item.kind} {name}: {item.reason}", path)
    return error


def paths_of(disks: FileSource, text: str) -> Sequence[str]:
    """Return the paths that a user's text names (`DiskSet.expand`).

    Raises OSError, which names the disk or volume that the path is on if that cannot be read.
    """
    try:
        return disks.expand(text)
    except OSError as error:
        raise missed(disks.unread, text, error) from error


def why_absent(disks: FileSource, path: str) -> OSError | None:
    """Return why a path may be missing from a set although it is on the machine's disks: it is, or may be,
    on a disk or volume that cannot be read. None: it is there, or is known not to be."""
    try:
        disks.stat(path, follow=False)
    except OSError as error:
        why = missed(disks.unread, path, error)
        if why is not error:
            return why
        parts = _parts(path, disks.unread)
        unknown = [_name(item) for item in disks.unread if item.kind == DISK]
        known = {volume.name for volume in disks.volumes}
        if unknown and parts[:1] == ["volumes"] and parts[1:2] and parts[1] not in known:
            reason = f"may be on {' or '.join(unknown)}, which cannot be read"
            return OSError(errno.EIO, reason, path)
    return None


def _name(item: Unread) -> str:
    name = item.path.rpartition("/")[2]
    return name.removesuffix(".raw") if item.kind == DISK else name


def _parts(path: str, unread: Sequence[Unread]) -> list[str]:
    """Return the names of a path from the top of a mount."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if parts and parts[0] not in TOP and not is_pattern(parts[0]):
        names = (_name(item) for item in unread)
        if any(parts[0] == name or parts[0].startswith(f"{name}-p") for name in names):
            return ["volumes", *parts]
    return parts


def _concerns(item: Unread, parts: Sequence[str]) -> bool:
    own = item.path.split("/")
    if list(parts) in (["root"], ["drives"]):
        return True  # of the guest's whole tree, or all its drives, it may be a part
    if item.kind == DISK and parts and (parts[0] in TREES or is_pattern(parts[0])):
        return len(parts) == 1 or is_pattern(parts[1])
    return all(
        name == part or (is_pattern(part) and compile_glob(part, ignore_case=False).fullmatch(name))
        for name, part in zip(own, parts, strict=False)
    )
