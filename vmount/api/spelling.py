r"""What a path, as a user writes it, names on the disks.

A path is the mount's own (`volumes/disk0-p1/etc`, `disk0-p1/etc`, `drives/C`, `root/etc`) or the guest's:
`C:\Users\ann`, `c:/users/ann` and `\Users\ann` of Windows, `/etc/fstab` of Linux. Names match as the guest's
system matches them: on NTFS and FAT without regard to case. `*`, `?` and `[...]` stand for names.
`file:stream` names an alternate stream of NTFS.

Where a path with a leading slash can be read in two ways, the first that exists counts:
1. the mount's own, if it begins with /volumes, /disks, /drives, /.vmount or /info.json;
2. the guest's: below root/ of a Linux guest, or on the one drive of a Windows guest that has it;
3. the mount's own: /root/etc is root/etc unless the guest has a /root/etc itself.
"""

from __future__ import annotations

import errno
import os
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Protocol

from vmount.api.globs import compile_glob, is_pattern

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vmount.parsers.model import Attrs

CASELESS = frozenset({"ntfs", "vfat", "exfat"})
"""File systems whose own systems do not tell cases apart."""
OWN = frozenset({"volumes", "disks", "drives", ".vmount", "info.json"})
"""Names at the top of a mount that come before the guest's, with a leading slash too."""
NAMES_COMPARED = 5000
"""Of a directory, when a name like the one that is missing is looked for."""
MOST_ADVICE = 3
"""Paths, or names, in one piece of advice."""
ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})

_WINDOWS = re.compile(r"(?:\\\\[?.]\\)?([A-Za-z]):(?:[\\/](.*))?", re.DOTALL)
_DATA = re.compile(r":\$data\Z", re.IGNORECASE)


class NamedEntry(Protocol):
    """An entry of a directory."""

    @property
    def name(self) -> str:
        """Its name."""
        ...


class Names(Protocol):
    """What is asked of the disks, or the folder, that a path is looked for in. Paths are the mount's own."""

    def tops(self) -> frozenset[str]:
        """Return the names at the top of the mount; none where the files are not laid out as a mount's."""
        ...

    def stat(self, path: str, *, follow: bool = True) -> Attrs:
        """Return a file's attributes. Raises OSError."""
        ...

    def listdir(self, path: str) -> Sequence[NamedEntry]:
        """Return what a directory holds. Raises OSError."""
        ...

    def is_caseless(self, path: str) -> bool:
        """Say whether the names in a directory match without regard to case. Raises OSError."""
        ...

    def stream_names(self, path: str) -> Sequence[str]:
        """Return the names of a file's alternate streams. Raises OSError."""
        ...


def expand(names: Names, text: str, *, patterns: bool = True) -> list[str]:
    """Return the mount's own paths that a user's text names, in the order of their names.

    `patterns`: `*`, `?` and `[...]` stand for other names, where there is no file of the very name.
    Raises FileNotFoundError with advice if the text names nothing, other OSErrors of what cannot be read.
    """
    finder = _Finder(names, patterns)
    if found := finder.first(text):
        return found
    if finder.met_file:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), text)
    reason = os.strerror(errno.ENOENT)
    advice = finder.advice(text)
    raise FileNotFoundError(errno.ENOENT, f"{reason}; {advice}" if advice else reason, text)


def locate(names: Names, text: str) -> str:
    """Return the mount's own path of what a user's text names; nothing in it is a pattern.

    Of names that differ in case only, the one that is spelled as the text comes first. Raises as `expand`.
    """
    return expand(names, text, patterns=False)[0]


def find(names: Names, text: str, *, patterns: bool = True) -> list[str]:
    """Return what `expand` returns, and nothing if the text names nothing. Raises OSError."""
    return _Finder(names, patterns).first(text)


def inside(path: str) -> str:
    """Return what of a mount's own path lies below its volume, drive or root/."""
    first, _, rest = path.lstrip("/").partition("/")
    return rest.partition("/")[2] if first in {"volumes", "drives"} else rest


class _Finder:
    def __init__(self, names: Names, patterns: bool) -> None:
        self._names = names
        self._patterns = patterns
        self._tops = names.tops()
        self.met_file = False
        """Whether a path went on behind a file that is no directory."""

    def first(self, text: str) -> list[str]:
        """Return the paths of the first reading of a text that names some; none if no reading does."""
        if not text.strip("/"):
            return ["/"] if text else [text]
        return next(filter(None, map(self.find, self.readings(text))), [])

    def readings(self, text: str) -> Iterator[str]:
        """Yield what a text may mean as a path of the mount, the first choice first."""
        matched = _WINDOWS.fullmatch(text)
        if matched is not None and self._tops:
            yield f"drives/{matched[1].upper()}/{(matched[2] or '').replace(chr(92), '/')}"
            return
        if text.startswith("/"):
            inner = text.lstrip("/")
            first = inner.partition("/")[0]
            if first in OWN & self._tops:
                yield inner
            if "root" in self._tops:
                yield f"root/{inner}"
            yield from self._on_drives(text, inner)
        elif text.startswith("\\"):
            yield from self._on_drives(text, text.lstrip("\\").replace("\\", "/"))
        yield text
        if "\\" in text:
            yield text.replace("\\", "/")

    def _on_drives(self, text: str, inner: str) -> Iterator[str]:
        """Yield the path on the drive that has it. Raises OSError if several have."""
        if "drives" not in self._tops or inner.partition("/")[0] in OWN:
            return
        letters = [entry.name for entry in self._names.listdir("drives")]
        having = [letter for letter in letters if self.find(f"drives/{letter}/{inner}")]
        if len(having) > 1:
            choice = " or ".join(f"{letter}:{text}" for letter in having)
            raise OSError(errno.ENOENT, f"is on several drives; name one of them: {choice}", text)
        yield from (f"drives/{letter}/{inner}" for letter in having)

    def find(self, path: str) -> list[str]:
        """Return the paths that a path of the mount names, patterns and cases considered."""
        parts = [part for part in path.split("/") if part]
        if self._tops and parts and parts[0] not in self._tops:
            volumes = self._matching(self._volumes(), parts[0], caseless=True)
            if len(volumes) == 1:
                parts = ["volumes", volumes[0], *parts[1:]]
            elif volumes:
                parts = ["volumes", *parts]
        exact = "/".join(parts)
        if self._exists(exact):
            return [exact]
        paths = [""]
        for number, part in enumerate(parts, 1):
            is_last = number == len(parts)
            paths = [below for here in paths for below in self._members(here, part, is_last)]
            if not paths:
                break
        return paths

    def _volumes(self) -> list[str]:
        """Return the names of the volumes that have files."""
        if "volumes" not in self._tops:
            return []
        names = [entry.name for entry in self._names.listdir("volumes")]
        return [name for name in names if f"{name}.raw" in names or not name.endswith(".raw")]

    def _exists(self, path: str) -> bool:
        try:
            self._names.stat(path, follow=False)
        except OSError as error:
            if error.errno in ABSENT:
                self.met_file |= error.errno == errno.ENOTDIR
                return False
            raise
        return True

    def _members(self, folder: str, part: str, is_last: bool) -> list[str]:
        """Return what in a directory a part of a path stands for, in the order of the names."""
        here = f"{folder}/" if folder else ""
        if part in {".", ".."}:
            return [here + part]
        caseless = self._is_caseless(folder)
        if not caseless and not (self._patterns and is_pattern(part)):
            found = [here + part] if self._exists(here + part) else []
        else:
            found = [here + name for name in self._matching(self._list(folder), part, caseless)]
        if not found and is_last and ":" in part:
            return self._streams(folder, part, caseless)
        return found

    def _streams(self, folder: str, part: str, caseless: bool) -> list[str]:
        """Return what `file:stream` stands for. `file::$DATA` is the file, as in Windows."""
        name, _, stream = part.partition(":")
        if not name or not stream:
            return []
        stream = _DATA.sub("", stream)
        if not stream:
            return self._members(folder, name, False)
        return [
            f"{file}:{found}"
            for file in self._members(folder, name, False)
            for found in self._matching(self._names.stream_names(file), stream, caseless)
        ]

    def _matching(self, names: Sequence[str], part: str, caseless: bool) -> list[str]:
        """Return the names that a part of a path stands for; the one that is it, if there is one."""
        if part in names:
            return [part]
        if self._patterns and is_pattern(part):
            wanted = compile_glob(part, ignore_case=caseless)
            return sorted({name for name in names if wanted.fullmatch(name)})
        folded = part.casefold()
        return sorted({name for name in names if caseless and name.casefold() == folded})

    def _is_caseless(self, folder: str) -> bool:
        if folder == "drives" and self._tops:
            return True
        try:
            return self._names.is_caseless(folder or "/")
        except OSError as error:
            if error.errno in ABSENT:
                return False
            raise

    def _list(self, folder: str) -> list[str]:
        """Return the names in a directory; none where there is no directory."""
        try:
            return [entry.name for entry in self._names.listdir(folder or "/")]
        except OSError as error:
            if error.errno in ABSENT:
                return []
            raise

    def advice(self, text: str) -> str:
        """Return what would work where a text names nothing; "" if nothing is like it."""
        try:
            return self._advice(text)
        except OSError:
            return ""  # The disk cannot be read there. That is not what was asked.

    def _advice(self, text: str) -> str:
        matched = _WINDOWS.fullmatch(text)
        if matched is not None and self._tops and not self._exists(f"drives/{matched[1].upper()}"):
            if "drives" not in self._tops:
                return f"the guest has no drives; {self._volumes_advice()}"
            letters = ", ".join(f"{name}:" for name in self._list("drives"))
            return f"the drives are {letters}"
        if elsewhere := self._elsewhere(text):
            return f"did you mean {' or '.join(elsewhere)}?"
        readings = list(self.readings(text))
        if streams := [name for reading in readings for name in self._other_streams(reading)]:
            return f"its streams are {', '.join(streams)}"
        nearest = [path for reading in readings for path in self._nearest(reading)]
        if nearest:
            spelled = [_spelled_as(text, path) for path in dict.fromkeys(nearest)]
            return f"did you mean {' or '.join(spelled)}?"
        first = text.strip("/\\").removeprefix("volumes/").partition("/")[0]
        if self._tops and self._exists(f"volumes/{first}.raw") and first not in self._volumes():
            return f"the files of volume {first} cannot be read"
        is_guests = matched is not None or (text.startswith("/") and "root" in self._tops)
        is_known = first in self._volumes() or first in self._tops
        return "" if not self._tops or is_guests or is_known else self._volumes_advice()

    def _volumes_advice(self) -> str:
        volumes = self._volumes()
        return f"the volumes are {', '.join(volumes)}" if volumes else ""

    def _elsewhere(self, text: str) -> list[str]:
        """Return where else in the mount a path exists: in the guest's tree, on a drive, on a volume."""
        inner = text.strip("/\\").replace("\\", "/")
        places = ["root"] if "root" in self._tops else []
        places += [f"drives/{name}" for name in self._list("drives")] if self._tops else []
        places += [] if places else [f"volumes/{name}" for name in self._volumes()]
        found = [path for place in places for path in self.find(f"{place}/{inner}")]
        return found[:MOST_ADVICE]

    def _other_streams(self, path: str) -> list[str]:
        """Return some streams of the file whose stream a path names."""
        file, colon, _ = path.rpartition(":")
        found = self.find(file) if colon and file.rpartition("/")[2] else []
        return list(self._names.stream_names(found[0]))[:MOST_ADVICE] if len(found) == 1 else []

    def _nearest(self, path: str) -> list[str]:
        """Return paths whose one part is like that at which a path ends to exist."""
        here, parts = "", [part for part in path.split("/") if part]
        if self._tops and parts and parts[0] not in self._tops and parts[0] in self._volumes():
            parts.insert(0, "volumes")
        for number, part in enumerate(parts):
            found = self._members(here, part, False)
            if len(found) == 1:
                here = found[0]
                continue
            names = self._list(here)
            if not here and self._tops:
                names = [*sorted(self._tops - {".vmount"}), *self._volumes()]
            by_key = {name.casefold(): name for name in names[:NAMES_COMPARED]}
            like = get_close_matches(part.casefold(), by_key, MOST_ADVICE)
            rest = parts[number + 1 :]
            return ["/".join(filter(None, [here, by_key[key], *rest])) for key in like]
        return []


def _spelled_as(text: str, path: str) -> str:
    """Return a path of the mount in the spelling of a text: as the guest has it, if the text does so."""
    if _WINDOWS.fullmatch(text) and path.startswith("drives/"):
        letter, _, rest = path.removeprefix("drives/").partition("/")
        return f"{letter}:\\" + rest.replace("/", "\\")
    if text.startswith("/") and path.startswith("root/"):
        return path.removeprefix("root")
    return path
