"""How a disk opens the files that its descriptors name: the interface of file openers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from vmount.parsers.reader import BlockSource

_FOLDER = re.compile(r".*/|\[[^\]]*\] ?|", re.DOTALL)
"""What comes before a file's own name; a datastore path may have no more than "[datastore] "."""
_ABSOLUTE = re.compile(r"/|[A-Za-z]:[\\/]|\\\\")


@dataclass(frozen=True)
class OpenedFile:
    """A file that can be read."""

    name: str
    """Its full name: for errors, to notice a chain that comes back to itself, and as the next `near`."""
    source: BlockSource


class FileOpener(Protocol):
    """Opens the files of a virtual disk."""

    async def open(self, name: str, near: str | None) -> OpenedFile:
        """Open a file named in a descriptor.

        `name` is as it stands there, `near` the full name of the file that names it, None for the
        file that the user names. `candidates` lists where to look. What the name may reach is for the
        opener to decide: a descriptor from elsewhere can name any file of this machine.
        Raises OSError naming the file.
        """
        ...


def candidates(name: str, near: str | None) -> tuple[str, ...]:
    """List the places to look for `name`, best first.

    First the name as it stands, relative to the folder of `near`; then with Windows separators turned;
    then its base name beside `near`; last, for an absolute name, in the folder of the same name beside
    the folder of `near` (a base disk and its linked clone, moved together).
    """
    if near is None:
        return (name,)
    matched = _FOLDER.match(near)
    folder = "" if matched is None else matched[0]
    turned = name.replace("\\", "/")
    absolute = _ABSOLUTE.match(name) is not None
    found = [name if absolute else folder + name]
    if not absolute:
        found.append(folder + turned)
    *folders, base = [part for part in turned.split("/") if part] or [name]
    found.append(folder + base)
    if absolute and folders:
        found.append(f"{folder}../{folders[-1]}/{base}")
    return tuple(dict.fromkeys(found))
