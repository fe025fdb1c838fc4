"""Finding files by name, size, date and kind, without mounting."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from vmount.api.globs import compile_glob
from vmount.api.spelling import inside
from vmount.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vmount.api import FileRef
    from vmount.jobs.file_source import FileSource

KINDS = {
    "f": stat.S_IFREG,
    "d": stat.S_IFDIR,
    "l": stat.S_IFLNK,
    "b": stat.S_IFBLK,
    "c": stat.S_IFCHR,
    "p": stat.S_IFIFO,
    "s": stat.S_IFSOCK,
}
"""Kinds of files by the letters that find(1) has for them."""
STREAMS_TOGETHER = 128
"""Files whose alternate streams are asked for at the same time."""
_AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class Filter:
    """What files are wanted."""

    pattern: str = "*"
    """Of the name; with a slash in it, of the path on the volume."""
    kinds: frozenset[int] = frozenset()
    """Types (S_IFMT) that will do; none: all."""
    at_least: int | None = None
    """Bytes."""
    at_most: int | None = None
    newer: int | None = None
    """Nanoseconds since 1970: modified then or later."""
    older: int | None = None
    """Modified before then."""
    ignore_case: bool | None = None
    """None: as the guest's system does."""
    streams: bool = False
    """Alternate streams of NTFS, and nothing else; the name of one is file:stream."""

    def find(
        self, disks: FileSource, path: str, on_error: Callable[[OSError], None]
    ) -> Iterator[FileRef]:
        """Yield what is wanted at or below a path. Raises OSError if that is not there."""
        for file in self._met(disks, path, on_error):
            attrs = file.attrs
            if self.kinds and stat.S_IFMT(attrs.mode) not in self.kinds:
                continue
            if (
                not (self.at_least or 0)
                <= attrs.size
                <= (attrs.size if self.at_most is None else self.at_most)
            ):
                continue
            if self.newer is not None and attrs.mtime < self.newer:
                continue
            if self.older is not None and attrs.mtime >= self.older:
                continue
            ignore = self.ignore_case
            if ignore is None:
                ignore = disks.ignores_case(file)
            on_volume = inside(file.path)
            subject = on_volume if "/" in self.pattern else on_volume.rpartition("/")[2]
            matched = compile_glob(self.pattern.lstrip("/"), ignore_case=ignore)
            if on_volume and matched.fullmatch(subject):
                yield file

    def _met(
        self, disks: FileSource, path: str, on_error: Callable[[OSError], None]
    ) -> Iterator[FileRef]:
        """Yield what is at or below a path; if `streams` are wanted, the streams of all that."""
        if not self.streams:
            yield from disks.below(path, on_error)
            return
        batch: list[FileRef] = []
        for file in disks.below(path, on_error):
            if file.stream:
                yield file
                continue
            batch.append(file)
            if len(batch) == STREAMS_TOGETHER:
                yield from disks.streams(batch, on_error)
                batch.clear()
        yield from disks.streams(batch, on_error)


def parse_time(text: str, now: datetime) -> int:
    """Read a date ("2026-11-01", "2026-11-01 12:30", UTC) or an age ("7d", "36h") in nanoseconds.

    Raises UsageError.
    """
    matched = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip().lower())
    try:
        if matched is not None:
            when = now - timedelta(seconds=int(matched[1]) * _AGES[matched[2]])
        else:
            when = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError) as error:
        raise UsageError(f"invalid date or age {text!r} (examples: 2026-11-01, 7d)") from error
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return round(when.timestamp()) * 10**9
