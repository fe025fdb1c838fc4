"""Reading what the volume manager has on one device.

Source: reverse engineered, vmfs-tools and dissect.vmfs (lvm.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from vmount.parsers.errors import Corrupt, OutOfBounds
from vmount.parsers.reader import Reader
from vmount.parsers.vmfs.errors import Damage
from vmount.parsers.vmfs.lvm import (
    DEVICE_HEADER,
    DEVICE_HEADER_OFFSET,
    DEVICE_NAME,
    ENTRIES_PER_MAP,
    FURTHER_HEADER,
    MAP_TABLE_ENTRY,
    VOLUME_DESCRIPTOR,
    VOLUME_ENTRY,
    DeviceHeader,
    PhysicalExtent,
    VolumeDescriptor,
    decode_device_header,
    decode_device_names,
    decode_further_header,
    decode_map_table,
    decode_volume_descriptor,
)

_MAX_HEADERS = 64
"""Each adds up to 64 Ki physical extents, and a device has 1 Mi at most."""


@dataclass(frozen=True)
class Device:
    """A device that is a member of a VMFS volume."""

    header: DeviceHeader
    volume: VolumeDescriptor
    names: tuple[str, ...]
    """Of all the volume's devices, where this is the first of them; else empty."""

    @property
    def uuid(self) -> str:
        """The device's own UUID."""
        return self.header.uuid


async def read_device(reader: Reader) -> Device:
    """Read who a device is: its header and its volume. Two or three small reads.

    Raises NotRecognised if it is no member of a VMFS volume, Unsupported for a version that is not known
    or for several volumes on the device, Corrupt for damage.
    """
    header = decode_device_header(await _header(reader))
    if header.volume_count != 1:
        # ESXi has never made any other number.
        raise Corrupt(
            Damage.LVM_VOLUMES_ON_DEVICE,
            DEVICE_HEADER_OFFSET,
            expected=1,
            actual=header.volume_count,
        )
    where = header.volume_table
    volume = decode_volume_descriptor(await reader.read(where, VOLUME_ENTRY), where)
    names: tuple[str, ...] = ()
    if volume.first_entry == 0 and header.major_version >= 5:
        length = volume.device_count * DEVICE_NAME
        names = decode_device_names(await reader.read(header.device_names, length))
    return Device(header, volume, names)


async def read_physical_extents(reader: Reader, device: Device) -> list[PhysicalExtent]:
    """Return the pieces of the volume that are on a device."""
    header = device.header
    extents: list[PhysicalExtent] = []
    left = header.entry_count
    place, maps, following = DEVICE_HEADER_OFFSET, header.map_count, header.next_header
    for _ in range(_MAX_HEADERS):
        for index in range(maps):
            count = min(left, ENTRIES_PER_MAP)
            if count:
                where = header.map_table(place, index)
                extents += decode_map_table(await reader.read(where, count * MAP_TABLE_ENTRY))
                left -= count
        if not left:
            break
        if not following:
            raise Corrupt(Damage.LVM_PHYSICAL_EXTENTS_WITHOUT_MAP, place, actual=left)
        place = following
        maps, following = decode_further_header(
            await reader.read(place, FURTHER_HEADER.size), place
        )
    else:
        raise Corrupt(Damage.LVM_HEADERS_IN_LOOP, place)
    wanted = device.volume.volume_id
    return [extent for extent in extents if extent.volume_id == wanted]


async def _header(reader: Reader) -> bytes:
    try:
        return bytes(await reader.read(DEVICE_HEADER_OFFSET, DEVICE_HEADER.size))
    except OutOfBounds:
        return bytes(DEVICE_HEADER.size)


assert VOLUME_DESCRIPTOR.size <= VOLUME_ENTRY
