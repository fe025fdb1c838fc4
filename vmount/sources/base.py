"""What a kind of source is, and what it opens its disks with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmount.disks.disk import unique_name
from vmount.errors import SourceError

if TYPE_CHECKING:
    import trio

    from vmount.disks.disk import Disk
    from vmount.options import OpenOptions
    from vmount.runtime import Runtime
    from vmount.sources.virtual_machine import VmInfo
    from vmount.state import Journal


class NotASource(SourceError):
    """A text names no source of any kind; `open_sources` adds what kinds there are."""


class Opening:
    """What the sources of a disk set share while they are opened, and what is closed with the set."""

    def __init__(self, runtime: Runtime, journal: Journal | None, options: OpenOptions) -> None:
        self.runtime = runtime
        self.journal = journal
        """Where what must be undone is recorded; without one no VM can be read."""
        self.options = options
        self.stack = AsyncExitStack()
        """Closes what was opened."""
        self.names: set[str] = set()
        """Names of disks that are taken."""
        self.machines: list[VmInfo] = []
        """What is known of the VMs that are open."""

    @property
    def nursery(self) -> trio.Nursery:
        """The nursery for background tasks of distant disks."""
        nursery = self.runtime.nursery
        assert nursery is not None, "a distant disk needs an event loop"
        return nursery

    def next_name(self) -> str:
        """Return a name for a disk whose controller address is not known: "disk0", "disk1"."""
        return unique_name(f"disk{len(self.names)}", self.names)


@dataclass(frozen=True)
class SourceKind:
    """A kind of source: what `registry.recognise` finds, and how its disks are opened."""

    name: str
    """One word: "nbd", "vmx"."""
    form: str
    """How a user writes it, for help and errors: "an nbd:// address"."""
    matches: Callable[[str], bool]
    """Tells by the text, and by what exists on this system, whether it names such a source."""
    open: Callable[[str, Opening], Awaitable[list[Disk]]]
    """Opens all disks of a source. What it opens is closed by `Opening.stack`.

    Raises SourceError, UsageError; then nothing of this source stays open.
    """
    is_remote: bool = True
    """Whether its disks are read over an event loop, and not by the kernel's file systems."""
    needs_connection: bool = False
    """Whether it is looked for in a vCenter or ESXi host."""
