"""How a parser reads bytes.

Strategy: a walker awaits nothing but the `read` that it was given. Over bytes in memory such a
coroutine never suspends, so `run_sync` can drive it to its end without an event loop; over a network
the same code runs under whichever loop the reader belongs to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

from vmount.parsers.errors import OutOfBounds

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

T = TypeVar("T")

Buffer: TypeAlias = bytes | bytearray | memoryview


class Span(NamedTuple):
    """A range of bytes."""

    offset: int
    length: int


class Reader(Protocol):
    """All that a parser may ask for."""

    @property
    def size(self) -> int:
        """Bytes that can be read."""
        ...

    async def read(self, offset: int, length: int) -> Buffer:
        """Return exactly `length` bytes.

        Raises OutOfBounds where they do not all exist, OSError where they cannot be had.
        """
        ...

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Take the hint that these will be read soon. Never fails, never waits."""
        ...


class BlockSource(Reader, Protocol):
    """A disk, a volume, or a slice of one."""

    def try_read(self, offset: int, length: int) -> Buffer | None:
        """Return exactly `length` bytes if that takes no waiting, else None.

        Never blocks. Raises as `read` does.
        """
        ...


class BytesReader:
    """A BlockSource over bytes in memory."""

    def __init__(self, data: Buffer) -> None:
        self._data = memoryview(data)
        self.size = len(self._data)

    def try_read(self, offset: int, length: int) -> Buffer:
        """Return `length` bytes at `offset`."""
        check_bounds(offset, length, self.size)
        return self._data[offset : offset + length]

    async def read(self, offset: int, length: int) -> Buffer:
        """Return `length` bytes at `offset`."""
        return self.try_read(offset, length)

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Do nothing: the bytes are here."""


@runtime_checkable
class CountsNames(Protocol):
    """A reader that bounds how many names may be kept."""

    def check_names(self, names: int) -> None:
        """Raise OSError(ENOMEM) if there is no memory for so many names of one directory."""
        ...


async def let_others_run(reader: Reader, names: int = 0) -> None:
    """Say, in work that reads nothing for long, that this is a good moment for others: a read of no bytes.

    Where there is an event loop, the reader of a file system makes that a checkpoint now and then. `names` is
    how many names of a directory have been decoded so far. Raises OSError(ENOMEM) where that is too many for
    the memory that is left.
    """
    if names and isinstance(reader, CountsNames):
        reader.check_names(names)
    await reader.read(0, 0)


def check_bounds(offset: int, length: int, size: int) -> None:
    """Raise OutOfBounds unless [offset, offset + length) lies in [0, size)."""
    if offset < 0 or length < 0 or offset + length > size:
        raise OutOfBounds(offset, length, size)


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends and return its value.

    Raises RuntimeError if it does suspend: its reader needs an event loop.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    coroutine.close()
    raise RuntimeError("the coroutine suspended: this reader needs an event loop")
