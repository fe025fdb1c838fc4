"""Where a file's bytes are: from its descriptor's addresses to runs of the volume.

Strategy: pointer blocks are read level by level, in batches. Addresses that follow each other are taken
together without being decoded one by one: a disk of 2 TiB has two million of them.

Source: reverse engineered, vmfs-tools and dissect.vmfs (descriptor.py).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from vmount.parsers.batch import read_pieces
from vmount.parsers.errors import Corrupt
from vmount.parsers.reader import Reader
from vmount.parsers.runs import NO_RUNS, Run, RunBuilder, RunList
from vmount.parsers.vmfs.address import (
    KIND_MASK,
    VMFS5_STEP,
    VMFS6_STEP,
    Kind,
    decode_file_block,
    decode_resource_address,
)
from vmount.parsers.vmfs.descriptor import Addressing, Descriptor
from vmount.parsers.vmfs.errors import Damage
from vmount.parsers.vmfs.fs_info import FsInfo
from vmount.parsers.vmfs.resource_table import ResourceFile, ResourceTable

_SMALLEST_SLOT = 4 << 10
"""Bytes: VMFS has no sub-blocks smaller than 8 KiB; tinier ones would make a map of a disk endless."""
_BATCH = 256
"""Pointer blocks decoded at once: 1 MiB of VMFS-5's, 16 MiB of VMFS-6's."""


async def file_runs(
    reader: Reader, volume_size: int, info: FsInfo, table: ResourceTable, descriptor: Descriptor
) -> RunList:
    """Return the runs of a file, from its start to its length.

    Raises Unsupported for an address that is not known, Corrupt for one that leads outside the volume,
    and where pointer blocks are used twice.
    """
    size = descriptor.attrs.size
    descriptor.check_readable()
    if not size:
        return NO_RUNS
    if descriptor.addressing == Addressing.RESIDENT:
        return RunList.of((Run(0, size, descriptor.resident),))
    if descriptor.slot_size < _SMALLEST_SLOT:
        raise Corrupt(
            Damage.FILE_BLOCK_SIZE,
            descriptor.where,
            of=f"{descriptor.address:#x}",
            expected=f"at least {_SMALLEST_SLOT:#x}",
            actual=descriptor.slot_size,
        )
    runs = _Runs(info, volume_size, size, table, descriptor)
    slots = -(-size // descriptor.slot_size)
    if descriptor.levels == 0:
        if slots > len(descriptor.addresses):
            raise _too_long(descriptor, len(descriptor.addresses))
        await runs.add(descriptor.addresses[:slots])
        return runs.finish()

    pages = _Pages(reader, info, table)
    addresses: Sequence[int] = descriptor.addresses
    needed = -(-slots // pages.slots)
    if descriptor.levels == 2:
        upper = -(-needed // pages.slots)
        if upper > len(addresses):
            raise _too_long(descriptor, len(addresses) * pages.slots**2)
        # Holes of the upper level are not read but are as long as what they stand for.
        tops = await pages.read(addresses[:upper])
        addresses = [address for page in tops for address in page or [0] * pages.slots]
    elif needed > len(addresses):
        raise _too_long(descriptor, len(addresses) * pages.slots)
    for first in range(0, needed, _BATCH):
        batch = addresses[first : min(first + _BATCH, needed)]
        for page in await pages.read(batch):
            if page is None:
                runs.skip(pages.slots)
            else:
                await runs.add(page)
    return runs.finish()


class _Pages:
    """Reads pointer blocks, each of them once."""

    def __init__(self, reader: Reader, info: FsInfo, table: ResourceTable) -> None:
        self._reader = reader
        self._info = info
        self._table = table
        self._seen: set[int] = set()
        self.slots = 8192 if info.is_vmfs6 else 1024
        self._page = struct.Struct(f"<{self.slots}{'Q' if info.is_vmfs6 else 'I'}")

    async def read(self, addresses: Sequence[int]) -> list[tuple[int, ...] | None]:
        """Return the addresses in each pointer block; None for those that are not there."""
        places: list[int | None] = []
        for address in addresses:
            if not address:
                places.append(None)
                continue
            resource = decode_resource_address(address, self._info)
            file = await self._table.get(resource.kind)
            if file.resource_size < self._page.size:
                raise Corrupt(
                    Damage.POINTER_BLOCK_IN,
                    of=resource.kind.name.lower(),
                    expected=f"{self._page.size:#x} bytes",
                    actual=file.resource_size,
                )
            place = file.place(resource)
            if place in self._seen:
                raise Corrupt(Damage.POINTER_BLOCK_USED_TWICE, place)
            self._seen.add(place)
            places.append(place)
        wanted = [place for place in places if place is not None]
        pieces = await read_pieces(self._reader, wanted, self._page.size)
        return [None if place is None else self._page.unpack(pieces[place]) for place in places]


class _Runs:
    """Gathers runs in the order of the file."""

    def __init__(
        self,
        info: FsInfo,
        volume_size: int,
        size: int,
        table: ResourceTable,
        descriptor: Descriptor,
    ) -> None:
        self._info = info
        self._volume_size = volume_size
        self._size = size
        self._table = table
        self._descriptor = descriptor
        self._slot = descriptor.slot_size
        self._per_cluster = info.small_blocks_per_cluster
        self._sub_blocks: ResourceFile | None = None
        self._position = 0
        self._runs = RunBuilder()

    async def add(self, addresses: Sequence[int]) -> None:
        """Add what addresses stand for; those past the end of the file are not looked at."""
        slot = self._slot
        count = min(len(addresses), -(-(self._size - self._position) // slot))
        index = 0
        while index < count:
            address = addresses[index]
            if address == 0:
                following = _streak(addresses, index, count, 0)
                self.skip(following - index)
                index = following
                continue
            if address & KIND_MASK == Kind.SUB_BLOCK and self._sub_blocks is None:
                self._sub_blocks = await self._table.get(Kind.SUB_BLOCK)
            start, length, zeroed, stride, most = self._decode(address)
            if length < slot:
                raise Corrupt(Damage.BLOCK_SMALLER_THAN_PLACE, expected=slot, actual=length)
            if length > slot:
                # A large block stands in as many places as it has small ones: all the same address.
                inside = self._position % length
                following = _streak(
                    addresses, index, min(count, index + (length - inside) // slot), 0
                )
                start += inside
            elif stride:
                following = _streak(addresses, index, min(count, index + most), stride)
            else:
                following = index + 1
            self._put((following - index) * slot, None if zeroed else start)
            index = following

    def skip(self, slots: int) -> None:
        """Add a hole."""
        self._put(slots * self._slot, None)

    def finish(self) -> RunList:
        """Return the runs, cut at the end of the file."""
        if self._position < self._size:
            raise Corrupt(
                Damage.FILE_HAS_FEWER_BLOCKS_THAN_BYTES,
                self._descriptor.where,
                of=f"{self._descriptor.address:#x}",
                expected=self._size,
                actual=self._position,
            )
        return self._runs.finish()

    def _decode(self, address: int) -> tuple[int, int, bool, int, int]:
        """Return start, length, whether it is zeroed, the step to a following address and how many may."""
        if self._sub_blocks is not None and address & KIND_MASK == Kind.SUB_BLOCK:
            place = self._sub_blocks.place(decode_resource_address(address, self._info))
            return place, self._sub_blocks.resource_size, False, 0, 1
        start, length, zeroed = decode_file_block(
            address, self._info, self._descriptor.zero_granule
        )
        if not self._info.is_vmfs6:
            return start, length, zeroed, VMFS5_STEP, 1 << 26
        if address & KIND_MASK == Kind.LARGE_FILE_BLOCK:
            return start, length, zeroed, 0, 1
        most = self._per_cluster - (address >> 51)
        return start, length, zeroed, VMFS6_STEP, most

    def _put(self, length: int, start: int | None) -> None:
        length = min(length, self._size - self._position)
        if start is not None and start + length > self._volume_size:
            raise Corrupt(
                Damage.BLOCK_OUTSIDE_VOLUME, start, expected=f"below {self._volume_size:#x}"
            )
        if length > 0:
            self._runs.add(length, start)
            self._position += length


def _streak(addresses: Sequence[int], index: int, end: int, stride: int) -> int:
    """Return the index behind the addresses that go on from addresses[index] by `stride`."""
    expected = addresses[index] + stride
    index += 1
    while index < end and addresses[index] == expected:
        expected += stride
        index += 1
    return index


def _too_long(descriptor: Descriptor, slots: int) -> Corrupt:
    return Corrupt(
        Damage.FILE_IS_LONGER_THAN_ADDRESSES,
        descriptor.where,
        of=f"{descriptor.address:#x}",
        expected=f"at most {slots * descriptor.slot_size:#x}",
        actual=descriptor.attrs.size,
    )
