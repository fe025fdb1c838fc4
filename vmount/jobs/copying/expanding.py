r"""What a path or pattern of the user names on the disks.

Paths are those of a mount. A path of a Windows guest (C:\Users\ann) is taken as that of its drive. Names
are matched as the guest's system would: on NTFS and FAT without regard to case.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import TYPE_CHECKING

from vmount.jobs.find import CASELESS
from vmount.jobs.globs import compile_glob, is_pattern

if TYPE_CHECKING:
    from vmount.jobs.copying.source import FileSource

_WINDOWS = re.compile(r"([A-Za-z]):[\\/](.*)", re.DOTALL)


def expand(disks: FileSource, text: str) -> list[str]:
    """Return the paths that a text names. Raises FileNotFoundError if it names nothing."""
    matched = _WINDOWS.fullmatch(text)
    if matched is not None:
        text = f"drives/{matched[1].upper()}/{matched[2].replace(chr(92), '/')}"
    found = _exact(disks, text)
    if found is not None:
        return [found]
    paths = [""]
    parts = [part for part in text.split("/") if part]
    for number, part in enumerate(parts):
        caseless = _is_caseless(disks, parts[:number])
        paths = [below for path in paths for below in _members(disks, path, part, caseless)]
        if not paths:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), text)
    return paths


def _exact(disks: FileSource, path: str) -> str | None:
    try:
        disks.stat(path, follow=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return path


def _is_caseless(disks: FileSource, above: list[str]) -> bool:
    """Say whether names in a directory, given by the parts of its path, match without regard to case."""
    parts = above[1:] if above[:1] == ["volumes"] else above
    if above[:1] == ["drives"]:
        return len(above) > 1
    return (
        any(v.name == parts[0] and v.fstype in CASELESS for v in disks.volumes) if parts else False
    )


def _members(disks: FileSource, folder: str, pattern: str, caseless: bool) -> list[str]:
    """Return what in a directory a part of a path stands for, in the order of the names."""
    here = f"{folder}/" if folder else ""
    if not is_pattern(pattern) and not caseless:
        found = _exact(disks, here + pattern)
        return [] if found is None else [found]
    try:
        if not stat.S_ISDIR(disks.stat(folder or "/").mode):
            return []
        names = [entry.name for entry in disks.listdir(folder or "/")]
    except OSError:
        return []
    if pattern in names:
        return [here + pattern]
    if not folder:
        # The volumes of a set are at hand without their folder's name.
        names += [volume.name for volume in disks.volumes]
    wanted = compile_glob(pattern, ignore_case=caseless)
    return [here + name for name in sorted(set(names)) if wanted.fullmatch(name)]
