"""From disks to volumes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parsers.partition.table import read_partition_table

from parsers.detect import Detected, detect
from parsers.errors import NotRecognised, ParseError
from vmount.blocks import Slice
from vmount.errors import explain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parsers.partition.table import Partition, PartitionTable

    from parsers.model import Filesystem
    from parsers.reader import BlockSource
    from vmount.disks import Disk
    from vmount.runtime import Runtime

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extent:
    """Where a piece of a volume is. Bytes."""

    disk: str
    offset: int
    length: int


@dataclass(frozen=True)
class Volume:
    """A volume: a partition, or a disk without a partition table.

    A volume whose bytes can be had but not its files has `data` and no `filesystem`; `problem` says why.
    """

    name: str
    kind: str
    """ "whole" or "partition"."""
    extents: tuple[Extent, ...]
    data: BlockSource | None
    filesystem: Filesystem | None
    fstype: str | None
    label: str
    uuid: str
    partition: Partition | None = None
    problem: str | None = None

    @property
    def size(self) -> int:
        """Bytes in the volume."""
        return sum(extent.length for extent in self.extents)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What its file system has to say."""
        if self.filesystem is None:
            return ()
        return tuple(f"{self.name}: {text}" for text in self.filesystem.info.warnings)


@dataclass(frozen=True)
class DiskContent:
    """What was found on one disk."""

    disk: Disk
    table: PartitionTable | None
    volumes: tuple[Volume, ...]
    warnings: tuple[str, ...] = ()


async def find_volumes(disks: Sequence[Disk], runtime: Runtime) -> list[DiskContent]:
    """Find the volumes of all disks. What cannot be read is in the result with its problem."""
    return await runtime.gather([lambda disk=disk: _read_disk(disk, runtime) for disk in disks])  # type: ignore[misc]


async def _read_disk(disk: Disk, runtime: Runtime) -> DiskContent:
    source = disk.data
    if source is None:
        return DiskContent(disk, None, ())
    try:
        table = await read_partition_table(source)
    except NotRecognised:
        whole = await _open_volume(disk.name, "whole", Extent(disk.name, 0, source.size), source)
        return DiskContent(disk, None, (whole,))
    except ParseError as error:
        return DiskContent(disk, None, (), (f"{disk.name}: partition table: {error}",))
    except OSError as error:
        return DiskContent(disk, None, (), (f"{disk.name}: {explain(error)}",))
    volumes = await runtime.gather(
        [
            lambda partition=partition: _open_partition(disk, source, partition)  # type: ignore[misc]
            for partition in table.partitions
        ]
    )
    warnings = tuple(f"{disk.name}: {text}" for text in table.warnings)
    return DiskContent(disk, table, tuple(volumes), warnings)


async def _open_partition(disk: Disk, source: BlockSource, partition: Partition) -> Volume:
    name = f"{disk.name}-p{partition.number}"
    extent = Extent(disk.name, partition.offset, partition.length)
    if partition.problem is not None:
        return Volume(
            name, "partition", (extent,), None, None, None, "", "", partition, partition.problem
        )
    return await _open_volume(name, "partition", extent, source, partition)


async def _open_volume(
    name: str, kind: str, extent: Extent, source: BlockSource, partition: Partition | None = None
) -> Volume:
    data = source if kind == "whole" else Slice(source, extent.offset, extent.length)
    try:
        found = await detect(data)
    except ParseError as error:
        found = Detected(None, "", "", None, str(error))
    except OSError as error:
        found = Detected(None, "", "", None, explain(error))
    if found.problem is not None:
        log.warning("%s: %s", name, found.problem)
    return Volume(
        name,
        kind,
        (extent,),
        data,
        found.filesystem,
        found.fstype,
        found.label,
        found.uuid,
        partition,
        found.problem,
    )
