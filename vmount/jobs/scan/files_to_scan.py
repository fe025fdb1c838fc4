"""What is to be scanned, in the order in which it lies on the disks.

Strategy: files in the order of their names are all over a disk; in the order of their first bytes they
make long runs, of which a distant disk gives the next piece while the last one is scanned. A content that
is there under several names (hard links, or files that share all their clusters) is read once.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vmount.api.globs import compile_glob
from vmount.jobs.scan.report import Seen
from vmount.jobs.unread import NotRead
from vmount.parsers.model import VOLUME_SHIFT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from vmount.api import FileRef
    from vmount.jobs.file_source import FileSource

LOCATED_TOGETHER = 256
"""Files that are opened at the same time to see where they lie."""


@dataclass(frozen=True)
class Selection:
    """Which files are left out at the user's wish."""

    exclude: Sequence[str] = ()
    """Patterns of names; with a slash, of paths on the volume. What is below a directory goes with it."""

    def leaves_out(self, path: str, *, ignore_case: bool) -> bool:
        """Say whether a file of the mount is left out."""
        parts = path.split("/")
        inside = parts[2:] if parts[0] in {"volumes", "drives"} else parts[1:]
        for pattern in self.exclude:
            matched = compile_glob(pattern.strip("/"), ignore_case=ignore_case).fullmatch
            if "/" in pattern:
                subjects = ["/".join(inside[: end + 1]) for end in range(len(inside))]
            else:
                subjects = inside
            if any(matched(subject) for subject in subjects):
                return True
        return False


@dataclass
class Content:
    """A content to be scanned, and the names that it is there under."""

    file: FileRef
    others: list[FileRef] = field(default_factory=list)

    @property
    def files(self) -> list[FileRef]:
        """All that have it."""
        return [self.file, *self.others]


@dataclass
class FilesToScan:
    """What was found below the paths."""

    contents: list[Content] = field(default_factory=list)
    """In the order in which they are to be read."""
    unchanged: list[FileRef] = field(default_factory=list)
    """What an earlier scan has found clean, and is as it was."""
    excluded: int = 0
    """Files that were left out at the user's wish."""

    @property
    def size(self) -> int:
        """Bytes to be scanned."""
        return sum(content.file.attrs.size for content in self.contents)


def find_contents(
    disks: FileSource,
    paths: Sequence[str],
    clean: Mapping[str, Seen],
    on_progress: Callable[[int], None],
    not_read: NotRead,
    selection: Selection | None = None,
) -> FilesToScan:
    """Find the files at or below the paths. `on_progress` is given their number so far.

    What cannot be listed, and a path that is not there, go to `not_read`.
    """
    files = FilesToScan()
    by_number: dict[tuple[int, str], Content] = {}
    carriers: dict[int, FileRef] = {}
    for file in _selected(disks, paths, not_read, selection or Selection(), files):
        if not stat.S_ISREG(file.attrs.mode):
            carriers[file.number] = file
            continue
        known = by_number.get((file.number, file.stream))
        if known is not None:
            if all(file.path != other.path for other in known.files):
                known.others.append(file)
            continue
        by_number[file.number, file.stream] = Content(file)
        on_progress(len(by_number))
    fresh = []
    for content in by_number.values():
        if all(clean.get(file.path) == seen_of(file) for file in content.files):
            files.unchanged += content.files
        else:
            fresh.append(content)
    files.contents = _in_disk_order(disks, fresh, list(carriers.values()), not_read)
    return files


def _selected(
    disks: FileSource,
    paths: Sequence[str],
    not_read: NotRead,
    selection: Selection,
    files: FilesToScan,
) -> Iterator[FileRef]:
    """Yield what is at or below the paths, but for what is left out."""
    for text in paths:
        try:
            found = (
                file
                for path in disks.expand(text)
                for file in disks.below(path, not_read.add_error)
                # The block files beside the volumes hold all of it once more.
                if disks.is_on_volume(file)
            )
            for file in found:
                if selection.exclude and selection.leaves_out(
                    file.path, ignore_case=disks.ignores_case(file)
                ):
                    files.excluded += stat.S_ISREG(file.attrs.mode)
                    continue
                yield file
        except OSError as error:
            not_read.add_absent(disks, text, error)


def seen_of(file: FileRef) -> Seen:
    """Return what tells whether a file has changed since."""
    attrs = file.attrs
    number = file.number & ((1 << VOLUME_SHIFT) - 1)
    return Seen(number, attrs.size, attrs.mtime, attrs.ctime)


def _in_disk_order(
    disks: FileSource, contents: list[Content], carriers: Sequence[FileRef], not_read: NotRead
) -> list[Content]:
    """Sort by place, and put together what lies at the same places. The streams of the contents are added,
    and those of `carriers`, which have no content of their own."""
    by_place: dict[object, Content] = {}
    keyed: list[tuple[tuple[int, int, int], Content]] = []
    files = [*carriers, *(content.file for content in contents)]
    known = {(content.file.number, content.file.stream): content for content in contents}
    for start in range(0, len(files), LOCATED_TOGETHER):
        some = files[start : start + LOCATED_TOGETHER]
        batch = [known[key] for file in some if (key := (file.number, file.stream)) in known]
        batch += [
            Content(stream)
            for stream in disks.streams(some, not_read.add_error)
            if (stream.number, stream.stream) not in known
        ]
        places = disks.places([content.file for content in batch])
        for content, spans in zip(batch, places, strict=True):
            file = content.file
            volume = file.number >> VOLUME_SHIFT
            # Files with holes may have the same pieces at other offsets.
            if spans and sum(span.length for span in spans) == file.attrs.size:
                first = by_place.setdefault((volume, file.attrs.size, spans), content)
                if first is not content:
                    first.others += content.files
                    continue
            place = spans[0].offset if spans else 0
            keyed.append(((volume, place, file.number), content))
    keyed.sort(key=lambda item: item[0])
    return [content for _, content in keyed]


def in_batches(contents: Sequence[Content], most: int, size: int) -> Iterator[Sequence[Content]]:
    """Cut a list into batches of at most `most` contents, and `size` bytes or a single content."""
    batch: list[Content] = []
    total = 0
    for content in contents:
        length = content.file.attrs.size
        if batch and (len(batch) >= most or total + length > size):
            yield batch
            batch, total = [], 0
        batch.append(content)
        total += length
    if batch:
        yield batch
