"""Block devices on the way to volumes: what a guest's kernel would find in /dev."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmount.parsers.partition.table import Partition
    from vmount.parsers.reader import BlockSource


@dataclass(frozen=True)
class Extent:
    """Where a piece of a volume is. Bytes."""

    disk: str
    offset: int
    length: int


@dataclass(frozen=True)
class Device:
    """A disk, a partition, or what a volume manager makes of several."""

    name: str
    """As the volume on it is shown."""
    kind: str
    """ "whole", "partition", "ldm", "lvm" or "md"."""
    size: int
    """Bytes."""
    extents: tuple[Extent, ...]
    """On the disks, in the order of the volume; those of mirrors and parity too."""
    source: BlockSource | None
    """None if there is no way to its bytes: `problem` says why."""
    partition: Partition | None = None
    problem: str | None = None
    """With a source: why not all of it can be read."""
    guid: str = ""
    """A dynamic volume's GUID, a logical volume's or an array's UUID."""
    logical: tuple[str, str] | None = None
    """A logical volume's group, and its name in it."""
