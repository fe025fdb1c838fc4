"""Reading what arrays and mirrors keep beside their data: which copies are to be trusted."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from vmount.parsers.errors import ParseError, Unsupported
from vmount.parsers.layout import Field, Layout
from vmount.parsers.lvm.raid import SUPERBLOCK_SIZE, RaidSuperblock, decode_superblock
from vmount.parsers.lvm.segments import ArrayState, Resolver, segments_of
from vmount.parsers.reader import Span
from vmount.parsers.volume_map import Area, Concat, VolumeMap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmount.parsers.lvm.group import VolumeGroup
    from vmount.parsers.reader import Buffer, Reader

MAX_REGIONS = 1 << 23
"""Of a mirror: 1 MiB of bits. The kernel's log has no bound; LVM2 enlarges regions long before."""
LOG = Layout(
    "dm-mirror log header",
    Field("magic", "I", at=0x00, note="MiRr"),
    Field("version", "I", at=0x04, note="1, or 2 in LVM2's own"),
    Field("regions", "Q", at=0x08, note="nr_regions; the bits begin at 1024"),
    size=16,
    source="Linux drivers/md/dm-log.c struct log_header_disk",
)
_LOG = LOG.whole()
_LOG_MAGIC = 0x4D695272
_LOG_BITS = 1024
"""Bytes from the start of a mirror log to its bits."""


async def read_array_state(
    group: VolumeGroup, devices: dict[str, str], readers: Mapping[str, Reader]
) -> ArrayState:
    """Read the metadata of all arrays and mirrors of a group.

    An array whose superblock cannot be read is not judged by the others alone: it is refused.
    """
    sizes = {name: reader.size for name, reader in readers.items()}
    resolver = Resolver(group, devices, ArrayState(sizes))
    wanted = {
        name: place
        for _, segment in segments_of(group, *_ARRAYS)
        for name in _names(segment.section.values.get("raids"))[::2]
        if (place := _place(resolver, name)) is not None
    }
    for name, reader in readers.items():
        reader.prefetch(
            [Span(area.start, SUPERBLOCK_SIZE) for area in wanted.values() if area.device == name]
        )
    superblocks: dict[str, RaidSuperblock | ParseError | None] = {}
    for name, area in wanted.items():
        try:
            data = await readers[area.device].read(area.start, SUPERBLOCK_SIZE)
            superblocks[name] = decode_superblock(data)
        except ParseError as error:
            superblocks[name] = error
        except OSError as error:
            superblocks[name] = Unsupported(f"an array whose superblock cannot be read: {error}")
    logs = set()
    for _, segment in segments_of(group, "mirror"):
        log = segment.section.values.get("mirror_log")
        region = segment.section.values.get("region_size")
        if not isinstance(log, str) or not isinstance(region, int) or region <= 0:
            continue
        regions = -(-segment.extents * group.extent_size // (region * 512))
        place = _place(resolver, log)
        with suppress(OSError):  # the first copy is read then
            if place is not None and await _is_synced(readers[place.device], place, regions):
                logs.add(log)
    return ArrayState(sizes, superblocks, frozenset(logs))


_ARRAYS = (
    *("raid1", "raid10", "raid10_near", "raid4"),
    *("raid5", "raid5_n", "raid5_la", "raid5_ra", "raid5_ls", "raid5_rs"),
    *("raid6", "raid6_zr", "raid6_nr", "raid6_nc"),
    *("raid6_n_6", "raid6_la_6", "raid6_ra_6", "raid6_ls_6", "raid6_rs_6"),
)


def _names(value: object) -> list[str]:
    items = value if isinstance(value, list) else []
    return [item for item in items if isinstance(item, str)]


def _place(resolver: Resolver, name: str) -> Area | None:
    """Return the start of a small volume, if it can be read."""
    try:
        mapping: VolumeMap = resolver.mapping(name)
    except ParseError:
        return None
    while isinstance(mapping, Concat):
        mapping = mapping.parts[0]
    return mapping if isinstance(mapping, Area) else None


async def _is_synced(reader: Reader, area: Area, regions: int) -> bool:
    size = _LOG_BITS + -(-regions // 8)
    if regions > MAX_REGIONS or size > area.length:
        return False
    return is_log_synced(await reader.read(area.start, size), regions)


def is_log_synced(data: Buffer, regions: int) -> bool:
    """Say whether a mirror's disk log has all regions in sync.

    Source: Linux kernel, drivers/md/dm-log.c.
    """
    magic, version, count = _LOG.unpack_from(data)
    bits = int.from_bytes(data[_LOG_BITS:], "little")
    everything = (1 << regions) - 1
    return (
        magic == _LOG_MAGIC
        and version in (1, 2)
        and count == regions
        and bits & everything == everything
    )
