"""What a virus scanner looks like to vmount."""

from __future__ import annotations

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
