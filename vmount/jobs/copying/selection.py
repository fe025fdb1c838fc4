"""Which of the files below a path are copied: all, or what --include and --exclude leave."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmount.api.globs import compile_glob
from vmount.api.spelling import inside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vmount.api import FileRef
    from vmount.jobs.file_source import FileSource


@dataclass(frozen=True)
class Selection:
    """Patterns of names; with a slash, of paths on the volume. Without patterns everything is selected.

    Names match as the guest's system matches them.
    """

    include: Sequence[str] = ()
    """Of the files that are wanted. A directory comes with the files in it that are, or not at all."""
    exclude: Sequence[str] = ()
    """Of what is left out: a directory with all that is below it."""

    def below(
        self, disks: FileSource, path: str, on_error: Callable[[OSError], None]
    ) -> Iterator[FileRef]:
        """Yield what is selected at or below a path, a directory before what is in it. Raises OSError."""
        if not self.include and not self.exclude:
            yield from disks.below(path, on_error, dangling=True)
            return
        waiting: dict[str, FileRef] = {}

        def is_wanted(file: FileRef) -> bool:
            return not self._matches(disks, file, self.exclude)

        for file in disks.below(path, on_error, is_wanted, dangling=True):
            if not self.include:
                yield file
            elif stat.S_ISDIR(file.attrs.mode):
                waiting[file.path] = file
            elif self._matches(disks, file, self.include):
                yield from _above(file.path, waiting)
                yield file

    def _matches(self, disks: FileSource, file: FileRef, patterns: Sequence[str]) -> bool:
        if not patterns:
            return False
        ignore_case = disks.ignores_case(file)
        on_volume = inside(file.path)
        name = on_volume.rpartition("/")[2]
        return any(
            compile_glob(pattern.strip("/"), ignore_case=ignore_case).fullmatch(
                on_volume if "/" in pattern.rstrip("/") else name
            )
            for pattern in patterns
        )


def _above(path: str, waiting: dict[str, FileRef]) -> Iterator[FileRef]:
    """Yield the directories above a file that have not been yielded, the highest first."""
    above = []
    while path:
        path = path.rpartition("/")[0]
        found = waiting.pop(path, None)
        if found is not None:
            above.append(found)
    return reversed(above)
