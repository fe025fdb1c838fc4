"""Which datastore a device belongs to, told with two or three small reads.

A datastore's first device has the file system's header, with the UUID and the label that users know. Its
other devices know the volume only: what joins them is `Member.volume_uuid`.

Source: reverse engineered, vmfs-tools and dissect.vmfs (c_lvm.py and c_vmfs.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from vmount.parsers.errors import Corrupt
from vmount.parsers.reader import Reader
from vmount.parsers.vmfs.device import read_device, read_physical_extents
from vmount.parsers.vmfs.errors import Damage
from vmount.parsers.vmfs.fs_info import FS_INFO, FS_INFO_OFFSET, decode_fs_info


@dataclass(frozen=True)
class Member:
    """A device of a datastore."""

    device_uuid: str
    """The same wherever the device is seen: two paths to one LUN have one."""
    volume_uuid: str
    """The same on all devices of a datastore; not the UUID that users know."""
    device_count: int
    """Devices that the datastore has."""
    device_names: tuple[str, ...]
    """Of all devices, as ESXi knew them; empty unless this is the first one."""
    uuid: str
    """Of the file system, as in /vmfs/volumes; empty unless this is the first device."""
    label: str
    """Of the file system; empty unless this is the first device."""


async def read_member(reader: Reader) -> Member:
    """Tell which datastore a device belongs to.

    Raises NotRecognised if it is no VMFS, Unsupported for a version that is not known, Corrupt for damage.
    """
    device = await read_device(reader)
    uuid = label = ""
    if device.volume.first_entry == 0:
        for extent in await read_physical_extents(reader, device):
            if extent.logical == 0:
                if extent.length < FS_INFO_OFFSET + FS_INFO.size:
                    raise Corrupt(Damage.PHYSICAL_EXTENT_LENGTH, actual=extent.length)
                where = extent.physical + FS_INFO_OFFSET
                info = decode_fs_info(await reader.read(where, FS_INFO.size))
                uuid, label = info.uuid, info.label
    return Member(
        device_uuid=device.uuid,
        volume_uuid=device.volume.uuid,
        device_count=device.volume.device_count,
        device_names=device.names,
        uuid=uuid,
        label=label,
    )
