"""What a virus scanner looks like to vmount."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


class Verdict(NamedTuple):
    """What a scanner says of a file. It was scanned if there is no `problem`."""

    signature: str | None
    """The name of what was found; None: nothing."""
    problem: str | None = None
    """Why it was not scanned, or not whole."""


CLEAN = Verdict(None)

LIMIT_EXCEEDED = "Heuristics.Limits.Exceeded"
"""ClamAV's name for a file that it has not scanned to its end, where it is asked to tell
(AlertExceedsMax): it is no finding."""
OLD_DEFAULT, NEW_DEFAULT = 25 << 20, 100 << 20
"""Bytes that ClamAV scans of a file unless told otherwise (MaxFileSize, StreamMaxLength): until version
0.104, and since 0.105."""
MOST = (2 << 30) - 1
"""Bytes of a file that ClamAV can scan, whatever its settings say."""


def clamav_verdict(engine: str, text: str) -> Verdict:
    """Read what ClamAV says of a file: "OK", "Eicar-Signature FOUND", "... ERROR", or why it left it out."""
    if text == "OK":
        return CLEAN
    if text.endswith(" FOUND"):
        name = text.removesuffix(" FOUND")
        if name.startswith(LIMIT_EXCEEDED):
            limit = name.removeprefix(LIMIT_EXCEEDED).lstrip(".") or "a limit"
            return Verdict(None, f"{engine}: scanned in part: it exceeds {limit}")
        return Verdict(name)
    return Verdict(None, f"{engine}: {text.removesuffix(' ERROR').rstrip('. ')}")


def default_largest(version: str) -> int:
    """Return what ClamAV scans of a file by default, by what it says of its version ("ClamAV 1.0.7/...")."""
    matched = re.search(r"ClamAV (\d+)\.(\d+)", version)
    is_old = matched is not None and (int(matched[1]), int(matched[2])) < (0, 105)
    return OLD_DEFAULT if is_old else NEW_DEFAULT


class Engine(Protocol):
    """A virus scanner. Its methods are called from several threads at once."""

    @property
    def connections(self) -> int:
        """How many files it may be given at a time."""
        ...

    @property
    def largest(self) -> int | None:
        """Bytes: what is larger is not scanned whole; None if there is no such limit."""
        ...

    @property
    def is_limit_known(self) -> bool:
        """Whether `largest` is its setting, and no guess."""
        ...

    @property
    def advice(self) -> str:
        """What to do about files that are too large for it."""
        ...

    def version(self) -> str:
        """Return the versions of the program and of its signatures. Raises VmountError."""
        ...

    def scan(self, pieces: Iterable[bytes]) -> Verdict:
        """Scan a file that comes in pieces. What reading a piece raises passes through.

        All of them are taken, even if the verdict is clear before. Raises VmountError if the scanner cannot
        be reached any more.
        """
        ...

    def scan_open(self, descriptor: int) -> Verdict:
        """Scan an open file of this machine. Raises as `scan` does."""
        ...
