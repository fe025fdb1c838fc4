"""From disks to volumes.

Strategy: disks give devices (partitions, or the whole disk); devices that are members of a volume
manager's set make further devices, which may be members again (LVM on RAID); each device that is left
over is a volume, and what is on it is found out by its content.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from vmount.blocks.memory import PROCESS
from vmount.blocks.slices import Slice
from vmount.errors import explain
from vmount.parsers.detect import Candidate, Detected, FilesystemOptions, detect
from vmount.parsers.errors import NotRecognised, ParseError
from vmount.parsers.partition.table import read_partition_table
from vmount.parsers.signatures import identify
from vmount.volumes.device import Device, Extent

if TYPE_CHECKING:
    from vmount.disks.disk import Disk
    from vmount.parsers.model import Filesystem
    from vmount.parsers.partition.table import Partition, PartitionTable
    from vmount.parsers.reader import BlockSource
    from vmount.parsers.signatures import Signature
    from vmount.runtime import Runtime
    from vmount.volumes.base import Assembly

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger(__name__)

UNKNOWN_HEAD = 64 << 10
"""Bytes at the beginning of a disk that tell one that is empty from one that is not recognised."""
RAID_MEMBER = "linux_raid_member"
PHYSICAL_VOLUME = "LVM2_member"
STORAGE_SPACES = "storage_spaces"
LDM_TYPES = frozenset(
    {
        "0x42",
        "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3",
        "af9b60a0-1431-4f62-bc68-3311714a69ad",
    }
)
"""Partition types of dynamic disks: MBR, and GPT's metadata and data."""

NO_FILES = frozenset(
    {
        # GPT: BIOS boot, PowerPC PReP boot, Microsoft reserved, LDM metadata
        "21686148-6449-6e6f-744e-656564454649",
        "9e1a2d38-c612-4316-aa26-8b49521e5a8b",
        "e3c9e316-0b5c-4db8-817d-f92df00215ae",
        "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3",
        # MBR: PowerPC PReP boot
        "0x41",
    }
)
"""Types of partitions that hold no file system."""


@dataclass(frozen=True)
class Volume:
    """A device and what is on it.

    One whose bytes can be had but not its files has `data` and no `filesystem`; `problem` says why.
    """

    device: Device
    filesystem: Filesystem | None
    fstype: str | None
    """As blkid names it; None if it was not recognised."""
    label: str
    uuid: str
    problem: str | None = None
    has_files: bool = True
    """False: it holds none, so nothing is missed where it has no `filesystem`."""

    @property
    def name(self) -> str:
        """As it is shown; unique in its set."""
        return self.device.name

    @property
    def kind(self) -> str:
        """ "whole", "partition", "ldm", "lvm" or "md"."""
        return self.device.kind

    @property
    def size(self) -> int:
        """Bytes."""
        return self.device.size

    @property
    def extents(self) -> tuple[Extent, ...]:
        """Where it lies on the disks."""
        return self.device.extents

    @property
    def data(self) -> BlockSource | None:
        """Its bytes; None if there is no way to them."""
        return self.device.source

    @property
    def partition(self) -> Partition | None:
        """The entry of the partition table, if it is a partition."""
        return self.device.partition

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
    devices: tuple[Device, ...]
    warnings: tuple[str, ...] = ()
    problem: str | None = None
    """Why partitions are missing: the partition table cannot be read, or not to its end."""


@dataclass(frozen=True)
class Found:
    """All that is on a set of disks."""

    contents: tuple[DiskContent, ...]
    volumes: tuple[Volume, ...]
    """Disk by disk; then those made of several pieces."""
    warnings: tuple[str, ...]


@dataclass
class _Search:
    """The devices found so far, and what each is recognised as."""

    runtime: Runtime
    devices: list[Device] = field(default_factory=list)
    signatures: dict[str, Signature | None] = field(default_factory=dict)
    members: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)
    """By name of a disk: why volumes on it cannot be told."""
    known: dict[str, Filesystem] = field(default_factory=dict)
    """By name of a device: what is on it, where that was known before."""

    async def add(self, devices: Sequence[Device]) -> None:
        """Add devices, each with what it is recognised as."""
        found = await _gather(self.runtime, devices, self._identify)
        self.devices += devices
        self.signatures |= {
            device.name: signature for device, signature in zip(devices, found, strict=True)
        }

    async def _identify(self, device: Device) -> Signature | None:
        try:
            return None if device.source is None else await identify(device.source)
        except (ParseError, OSError) as error:
            text = explain(error) if isinstance(error, OSError) else str(error)
            self.warnings.append(f"{device.name}: {text}")
            return None

    def take(self, assembly: Assembly) -> list[Device]:
        """Note what a volume manager said; return the devices that it made."""
        self.members |= assembly.members
        self.warnings += assembly.warnings
        self.lost |= assembly.lost
        return assembly.devices

    @property
    def sources(self) -> list[BlockSource]:
        """The bytes of all devices that can be read."""
        return [device.source for device in self.devices if device.source is not None]

    def recognised_as(self, name: str) -> list[Device]:
        """Return the devices that have a signature."""
        return [device for device in self.devices if self._name_of(device) == name]

    def _name_of(self, device: Device) -> str | None:
        signature = self.signatures[device.name]
        return None if signature is None else signature.name


async def find_volumes(
    disks: Sequence[Disk], runtime: Runtime, options: FilesystemOptions | None = None
) -> Found:
    """Find the volumes of all disks. What cannot be read is in the result with its problem.

    `options` says how file systems are to be shown.
    """
    contents = await _gather(runtime, disks, _read_disk)
    search = _Search(runtime)
    search.known = {disk.name: disk.filesystem for disk in disks if disk.filesystem is not None}
    taken = {device.name for content in contents for device in content.devices}
    made = []
    dynamic = [
        content.disk
        for content in contents
        if content.table is not None and _is_dynamic(content.table)
    ]
    # Each manager's modules are loaded when there is something for them: most machines have one, or none.
    if dynamic:
        from vmount.volumes.ldm import assemble_dynamic

        made = search.take(await assemble_dynamic(dynamic, taken))
    for content in contents:
        is_member = content.disk.name in search.members
        await search.add([] if is_member else content.devices)
    await search.add(made)
    if pieces := search.recognised_as(RAID_MEMBER):
        from vmount.volumes.md import assemble_arrays

        await search.add(search.take(await assemble_arrays(pieces, taken)))
    if pieces := search.recognised_as(PHYSICAL_VOLUME):
        from vmount.volumes.lvm import assemble_logical

        await search.add(search.take(await assemble_logical(pieces, taken)))

    shown = options or FilesystemOptions()

    async def open_volume(device: Device) -> Volume:
        return await _open_volume(device, search, shown)

    volumes = await _gather(runtime, search.devices, open_volume)
    for volume in volumes:
        if volume.kind == "whole" and await _is_unknown(volume):
            search.warnings.append(
                f"{volume.name}: has no partition table and no known file system; "
                "it may not be a disk image"
            )
    whole = (
        replace(content, problem=search.lost.get(content.disk.name, content.problem))
        for content in contents
    )
    return Found(tuple(whole), tuple(volumes), tuple(search.warnings))


async def _is_unknown(volume: Volume) -> bool:
    """Return whether a whole disk holds something, and nothing that is recognised. A new disk is empty."""
    source = volume.data
    if source is None or volume.fstype is not None or volume.device.problem is not None:
        return False
    try:
        return any(await source.read(0, min(UNKNOWN_HEAD, source.size)))
    except (ParseError, OSError):
        return False  # which is a problem of its own


def _is_dynamic(table: PartitionTable) -> bool:
    """Say whether a disk with this table is a dynamic disk of Windows."""
    return any(partition.type in LDM_TYPES for partition in table.partitions)


async def _read_disk(disk: Disk) -> DiskContent:
    source = disk.data
    if source is None:
        return DiskContent(disk, None, ())
    extent = Extent(disk.name, 0, source.size)
    whole = Device(disk.name, "whole", source.size, (extent,), source)
    if disk.filesystem is not None:
        return DiskContent(disk, None, (whole,))
    try:
        table = await read_partition_table(source)
    except NotRecognised:
        return DiskContent(disk, None, (whole,))
    except ParseError as error:
        problem = f"partition table: {error}"
        return DiskContent(disk, None, (), (f"{disk.name}: {problem}",), problem)
    except OSError as error:
        problem = f"partition table: {explain(error)}"
        return DiskContent(disk, None, (), (f"{disk.name}: {problem}",), problem)
    devices = tuple(_partition(disk, source, partition) for partition in table.partitions)
    warnings = tuple(f"{disk.name}: {text}" for text in table.warnings)
    return DiskContent(disk, table, devices, warnings, table.incomplete)


def _partition(disk: Disk, source: BlockSource, partition: Partition) -> Device:
    extent = Extent(disk.name, partition.offset, partition.length)
    data = None
    if partition.problem is None:
        data = Slice(source, partition.offset, partition.length)
    return Device(
        f"{disk.name}-p{partition.number}",
        "partition",
        partition.length,
        (extent,),
        data,
        partition,
        partition.problem,
    )


async def _open_volume(device: Device, search: _Search, options: FilesystemOptions) -> Volume:
    signature = search.signatures[device.name]
    found = Detected(None, "", "", None, device.problem)
    member_of = search.members.get(device.name)
    if member_of is not None and signature is not None:
        label, uuid = signature.label, signature.uuid
        found = Detected(signature.name, label, uuid, None, member_of, has_files=False)
    elif signature is not None and signature.name == STORAGE_SPACES:
        text = "a member of a Storage Spaces pool, which is not supported"
        found = Detected(signature.name, "", signature.uuid, None, text)
    elif device.name in search.known:
        filesystem = search.known[device.name]
        info = filesystem.info
        found = Detected(info.fstype, info.label, info.uuid, filesystem, None)
    elif device.source is not None:
        try:
            data = search.runtime.considerate(device.source, PROCESS.check_names)
            found = await detect(Candidate(data, options, search.sources), signature)
        except ParseError as error:
            found = Detected(None, "", "", None, str(error))
        except OSError as error:
            found = Detected(None, "", "", None, explain(error))
        if found.problem is not None:
            log.info("%s: %s", device.name, found.problem)
    return Volume(
        device,
        found.filesystem,
        found.fstype,
        found.label,
        found.uuid,
        device.problem or found.problem,
        found.has_files and not (found.fstype is None and _is_without_files(device)),
    )


def _is_without_files(device: Device) -> bool:
    return device.partition is not None and device.partition.type in NO_FILES


async def _gather(
    runtime: Runtime, items: Sequence[T], call: Callable[[T], Coroutine[Any, Any, R]]
) -> list[R]:
    return await runtime.gather([partial(call, item) for item in items])
