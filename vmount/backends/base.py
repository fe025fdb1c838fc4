"""The interface of backends.

A backend is one open remote disk. It owns its sockets, threads and deadlines; whoever reads through
it gets the bytes that were asked for or an error, within a bounded time.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from vmount.parsers.reader import Buffer


class Extent(NamedTuple):
    """What a source says of a range of its bytes."""

    offset: int
    length: int
    zero: bool
    """The source says that the range reads as zeros. A hint: it must not change what is read."""


@dataclass(frozen=True)
class BackendStats:
    """What a backend has done so far."""

    requests: int
    """Answered with data."""
    bytes_received: int
    """Payload of those answers."""
    in_flight: int
    """Sent and not answered yet, the cancelled ones included."""
    retries: int
    """Requests sent again, after an error or a lost connection."""
    reconnects: int
    latency: float
    """Mean of the seconds from request to answer; 0 if there was none."""


class Backend(Protocol):
    """One open remote disk."""

    @property
    def size(self) -> int:
        """Bytes that can be read."""
        ...

    @property
    def max_read(self) -> int:
        """Bytes that one request may ask for. A longer read becomes several, at the same time."""
        ...

    async def read(self, offset: int, length: int) -> Buffer:
        """Return exactly `length` bytes.

        Raises OutOfBounds where they do not all exist, OSError (in most cases BackendError) where
        they cannot be had; never later than the backend's own deadline.
        """
        ...

    async def allocated(self, offset: int, length: int) -> Sequence[Extent]:
        """Return extents that cover the range exactly, in order; neighbours differ in `zero`.

        A hint. A source that cannot tell calls everything data. Raises as `read` does.
        """
        ...

    def describe(self) -> Mapping[str, object]:
        """Return what a user may want to know of the connection. Holds no secret; fits JSON."""
        ...

    def stats(self) -> BackendStats:
        """Return the counters as they are now."""
        ...

    async def aclose(self) -> None:
        """Say goodbye and let go of everything. May be called again; reads then fail."""
        ...


class BackendError(OSError):
    """The bytes cannot be had. The message is one line that names the source and a remedy."""

    def __init__(self, message: str, *, code: int = errno.EIO) -> None:
        super().__init__(code, message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class BackendTimeout(BackendError):
    """A deadline has passed."""


class BackendRefused(BackendError):
    """The other end was reached and does not give what was asked for, or does not speak the protocol."""


class SourceChanged(BackendError):
    """After a reconnection the other end has another disk. Old and new bytes are never mixed."""


class BackendClosed(BackendError):
    """A read through a backend that has been closed."""
