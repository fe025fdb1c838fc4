"""The LUNs of datastores among the block devices of this machine.

A device is known to be a LUN by what is on it: the header of VMFS's volume manager, on the device itself or on a
partition of it. LUNs that say the same of themselves and are not the same disk (a snapshot that a storage
array has made, a copy) cannot be told apart and are refused.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from vmount.backends.base import BackendError
from vmount.backends.block_device import DirectDevice, DirectOptions, open_direct
from vmount.blocks.slices import Slice
from vmount.cache import CachedDisk, CacheOptions
from vmount.datastores.lun_choice import LunChoice
from vmount.errors import explain
from vmount.parsers.errors import NotRecognised, ParseError
from vmount.parsers.partition.table import read_partition_table
from vmount.parsers.vmfs.discover import read_member

if TYPE_CHECKING:
    from vmount.backends.device_identity import BlockDevice
    from vmount.parsers.reader import BlockSource
    from vmount.parsers.vmfs.discover import Member

log = logging.getLogger(__name__)

METADATA = CacheOptions(capacity=32 << 20)
"""Of each LUN: what tells where files are. Their content is cached file by file."""
QUICK = DirectOptions(timeout=10)
"""For looking whether there are any."""


class Lun:
    """An open LUN."""

    def __init__(
        self,
        device: BlockDevice,
        transport: DirectDevice,
        cached: CachedDisk,
        source: BlockSource,
        start: int,
        member: Member,
    ) -> None:
        self.device = device
        self.transport = transport
        self.cached = cached
        """The device through a cache, for metadata."""
        self.source = source
        """The LUN: that, or a partition of it."""
        self.start = start
        """Bytes from the start of the device to that of the LUN: those before a partition."""
        self.member = member
        """Which datastore it belongs to."""

    async def aclose(self) -> None:
        """Close it."""
        await self.transport.aclose()


@dataclass(frozen=True)
class Rejected:
    """A device that cannot be read."""

    device: BlockDevice
    reason: str


async def find_luns(
    choice: LunChoice, nursery: trio.Nursery, options: DirectOptions
) -> tuple[list[Lun], list[Rejected]]:
    """Open the devices that are LUNs of datastores, and say why others that are given cannot be read.

    Raises UsageError for a choice that cannot be.
    """
    found: dict[int, Lun | Rejected] = {}

    async def look_at(index: int, device: BlockDevice) -> None:
        try:
            found[index] = await _open(device, nursery, options)
        except NotRecognised:
            if choice.given:
                found[index] = Rejected(device, f"{device.path}: has no VMFS")
        except (OSError, ParseError) as error:
            reason = explain(error) if isinstance(error, OSError) else str(error)
            log.info("%s: not read as a LUN: %s", device.path, reason)
            found[index] = Rejected(device, reason)

    candidates = await trio.to_thread.run_sync(choice.candidates)
    try:
        # At the same time: each LUN without a path takes a deadline.
        async with trio.open_nursery() as lookers:
            for index, device in enumerate(candidates):
                lookers.start_soon(look_at, index, device)
    except BaseException:
        await close_all([one for one in found.values() if isinstance(one, Lun)])
        raise
    in_order = [found[index] for index in sorted(found)]
    luns = [one for one in in_order if isinstance(one, Lun)]
    return luns, [one for one in in_order if isinstance(one, Rejected)]


async def why_no_lun(choice: LunChoice | None = None) -> str:
    """Return why no LUN of a datastore can be read here; "" if one can."""
    async with trio.open_nursery() as nursery:
        luns, rejected = await find_luns(choice or LunChoice(), nursery, QUICK)
        await close_all(luns)
        nursery.cancel_scope.cancel()
    reasons = "".join(f"; {one.reason}" for one in rejected)
    return "" if luns else f"no disk of this system is a LUN of a datastore{reasons}"


async def close_all(luns: Sequence[Lun]) -> None:
    """Close LUNs. Cancellations do not keep one open."""
    with trio.CancelScope(shield=True):
        for lun in luns:
            await lun.aclose()


def check_told_apart(luns: Sequence[Lun]) -> None:
    """Raise BackendError if two of the LUNs say the same of themselves."""
    seen: dict[str, Lun] = {}
    for lun in luns:
        other = seen.setdefault(lun.member.device_uuid, lun)
        if other is not lun:
            raise BackendError(
                f"{other.device.path} and {lun.device.path} are two disks with the same VMFS identity"
                f" ({lun.member.device_uuid}): a copy or a snapshot of the array; choose one by the option lun"
            )


async def _open(device: BlockDevice, nursery: trio.Nursery, options: DirectOptions) -> Lun:
    transport = await open_direct(device.path, options)
    try:
        cached = CachedDisk(transport, nursery, METADATA)
        try:
            return Lun(device, transport, cached, cached, 0, await read_member(cached))
        except NotRecognised:
            for partition in (await read_partition_table(cached)).partitions:
                if partition.problem is None:
                    part = Slice(cached, partition.offset, partition.length)
                    try:
                        member = await read_member(part)
                    except NotRecognised:
                        continue
                    return Lun(device, transport, cached, part, partition.offset, member)
            raise
    except BaseException:
        await transport.aclose()
        raise
