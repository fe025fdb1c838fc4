"""An open virtual disk, whatever it came from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from vmount.parsers.model import Filesystem
from vmount.parsers.reader import BlockSource


class Distant(Protocol):
    """What reads a distant disk."""

    def describe(self) -> dict[str, Any]:
        """Return what a user may want to know of the connection. Holds no secret; fits JSON."""
        ...

    def stats(self) -> dict[str, Any]:
        """Return counters of cache and transport; fits JSON."""
        ...


@dataclass(frozen=True)
class Refusal:
    """A transport that was tried and not used."""

    name: str
    reason: str


@dataclass(frozen=True)
class ChainLink:
    """A file of a disk's snapshot chain."""

    name: str
    format: str
    """createType of a VMDK, or "raw"."""


@dataclass(frozen=True)
class OpenedDisk:
    """A disk as a transport has opened it."""

    format: str
    data: BlockSource
    aclose: Callable[[], Awaitable[None]]
    """Lets go of it. A second call does nothing."""
    chain: tuple[ChainLink, ...] = ()
    """Youngest first."""
    distant: Distant | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Disk:
    """A virtual disk. A disk with a `problem` is listed and cannot be read: its `data` is None."""

    name: str
    """As it is shown: "scsi0-0", "disk1". Unique in its set."""
    source: str
    """What the user gave, or the file that a machine's configuration names."""
    format: str
    data: BlockSource | None
    chain: tuple[ChainLink, ...] = ()
    """Youngest first."""
    transport: str = "file"
    remote: Distant | None = None
    """What reads it, if it is distant."""
    refused: tuple[Refusal, ...] = ()
    problem: str | None = None
    warnings: tuple[str, ...] = ()
    filesystem: Filesystem | None = None
    """What is on it, if it is no disk but a datastore that is browsed."""

    @property
    def size(self) -> int:
        """Bytes in the disk; 0 if it cannot be read."""
        return 0 if self.data is None else self.data.size


def disk_of(
    name: str,
    source: str,
    transport: str,
    opened: OpenedDisk,
    refused: tuple[Refusal, ...] = (),
) -> Disk:
    """Return a disk that a transport has opened."""
    return Disk(
        name,
        source,
        opened.format,
        opened.data,
        opened.chain,
        transport,
        opened.distant,
        refused,
        warnings=opened.warnings,
    )


def unique_name(wanted: str, taken: set[str]) -> str:
    """Return `wanted`, or with ~2, ~3 ... added if it is taken; the result is added to `taken`."""
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}~{number}"
    taken.add(name)
    return name


def path_component(text: str) -> str:
    """Percent-encode what a file name cannot hold, "%" itself, and names that mean something else."""
    quoted = "".join(
        f"%{ord(char):02X}" if char in "/%" or ord(char) < 32 or ord(char) == 127 else char
        for char in text
    )
    return quoted.replace(".", "%2E") if quoted in {".", ".."} else quoted or "%00"
