"""What VMFS's volume manager writes at 1 MiB of every device: decoders.

The device header names the device and tells how many volumes and physical extents (PE) it has. A volume
table follows, then the names of the volume's devices, then maps of PEs: a bitmap and a table of 8192
entries, as often as the device needs. Where eight maps do not do, further headers elsewhere have more.

LVM-6 aligns the header and the bitmaps to `alignment`, and has room for one volume instead of 512.

Source: reverse engineered, vmfs-tools and dissect.vmfs (c_lvm.py).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from vmount.parsers.errors import Corrupt, NotRecognised, Unsupported
from vmount.parsers.layout import Field, Layout
from vmount.parsers.reader import Buffer
from vmount.parsers.vmfs.errors import Damage
from vmount.parsers.vmfs.identity import uuid_text

DEVICE_HEADER_OFFSET = 1 << 20
MAGIC = 0xC001D00D
ENTRIES_PER_MAP = 8192
MAPS_PER_HEADER = 8
MAP_TABLE_ENTRY = 128
VOLUME_ENTRY = 512
DEVICE_NAME = 256

_VOLUME_AREA = 1024 * 512
"""Bytes of the volume table and what is reserved behind it, the device names being its end."""
_DEVICE_NAMES = 32
"""Devices that a volume can have: VMware's limit for a datastore's extents."""
_MAX_VOLUMES = 512
_MAX_ENTRIES = 1 << 20
"""PEs of a device: 256 TiB at the 256 MiB that LVM-5 makes them; a device ends at 64 TiB."""
_ALIGNMENTS = (512, 64 << 10)

DEVICE_HEADER = Layout(
    "VMFS LVM device header",
    Field("magic", "I", at=0x00, note="0xC001D00D"),
    Field("major_version", "I", at=0x04, note="5 or 6"),
    Field("minor_version", "I", at=0x08),
    Field("disk_id", "78s", at=0x0C, note="SCSI_DiskId: type, LUN, vendor, model, identifier"),
    Field("sector_size", "I", at=0x5A, note="diskBlockSize: bytes"),
    Field("size", "Q", at=0x5E, note="totalBytes"),
    Field("volume_count", "I", at=0x66, note="numVolumes"),
    Field("entry_count", "I", at=0x6A, note="numPEs: physical extents, in LVM-5"),
    Field("last_entry", "I", at=0x6E, note="lastPEIndex"),
    Field("generation", "Q", at=0x72),
    Field("data_offset", "Q", at=0x7A, note="bytes from the device's start to the first PE"),
    Field("uuid", "16s", at=0x82, note="devID (identity)"),
    Field("created", "Q", at=0x92, note="initTimeUS: microseconds since 1970, as the other times"),
    Field("modified", "Q", at=0x9A, note="modTimeUS"),
    Field("locked_by", "16s", at=0xA2),
    Field("locked", "Q", at=0xB2, note="lockedWhenUS"),
    Field("unknown", "I", at=0xBA, note="meaning unconfirmed"),
    Field("map_count", "I", at=0xBE, note="numPEMaps"),
    Field("next_header", "Q", at=0xC2, note="extDevMetadataOffset: bytes; 0: none"),
    Field(
        "alignment",
        "I",
        at=0xCA,
        note="mdAlignment: a guess that dissect.vmfs makes too; LVM-6 only",
    ),
    Field("unit_count", "I", at=0xCE, note="numPEs6: of LVM-6"),
    Field("flags", "I", at=0xD2, note="1: VMFS-L; the others are unconfirmed"),
    size=214,
    source="reverse engineered: vmfs-tools; dissect.vmfs c_lvm.py LVM_DevMetadata",
)

FURTHER_HEADER = Layout(
    "VMFS LVM further header",
    Field("magic", "I", at=0x00, note="0xC001D00D"),
    Field("map_count", "I", at=0x04, note="numPEMaps"),
    Field("data_offset", "Q", at=0x08),
    Field("next_header", "Q", at=0x10, note="nextOffset: bytes; 0: none"),
    size=24,
    source="reverse engineered: vmfs-tools; dissect.vmfs c_lvm.py LVM_ExtDevMetadata",
)

VOLUME_DESCRIPTOR = Layout(
    "VMFS LVM volume descriptor",
    Field("logical_size", "Q", at=0x00, note="bytes"),
    Field("generation", "Q", at=0x08),
    Field("state", "I", at=0x10, note="LVM_VolState"),
    Field("name", "64s", at=0x14, note="the UUID as text"),
    Field("uuid", "16s", at=0x54, note="lvID.uuid (identity)"),
    Field("snapshot_id", "I", at=0x64, note="lvID.snapID"),
    Field("created", "Q", at=0x68, note="creationTimeUS: microseconds since 1970"),
    Field("volume_id", "I", at=0x70, note="index of the volume on the device"),
    Field("entry_count", "I", at=0x74, note="numPEs"),
    Field("first_entry", "Q", at=0x78, note="firstPE: on this device"),
    Field("last_entry", "Q", at=0x80, note="lastPE"),
    Field("modified", "Q", at=0x88, note="modTimeUS"),
    Field("device_count", "I", at=0x90, note="numDevs"),
    Field("reserved", "124x", at=0x94),
    Field("consumed_entries", "I", at=0x110, note="consumedPEs: of all devices"),
    size=276,
    source="reverse engineered: vmfs-tools; dissect.vmfs c_lvm.py LVM_VolDescriptor",
)

MAP_ENTRY = Layout(
    "VMFS LVM physical extent",
    Field("used", "B", at=0x00, note="0: the entry is free"),
    Field("entry_id", "I", at=0x01, note="peID"),
    Field("volume_id", "I", at=0x05),
    Field("physical_offset", "Q", at=0x09, note="pOffset: bytes on the device"),
    Field("logical_offset", "Q", at=0x11, note="lOffset: bytes in the volume"),
    Field("length", "Q", at=0x19, note="bytes"),
    Field("version", "I", at=0x21),
    size=37,
    source=(
        "reverse engineered: vmfs-tools; "
        "dissect.vmfs c_lvm.py LVM_PETableEntry and LVM_PEDescriptor"
    ),
)
_MAP_ENTRY = MAP_ENTRY.picker("used", "volume_id", "physical_offset", "logical_offset", "length")


class VolumeState(enum.IntEnum):
    """What LVM holds of a volume."""

    INVALID = 0
    NORMAL = 1
    RESIGNATURE_PENDING = 2
    RESIGNATURE_DONE = 3


@dataclass(frozen=True)
class DeviceHeader:
    """What a device says of itself. Offsets and sizes in bytes."""

    major_version: int
    uuid: str
    size: int
    """Of the device when it was formatted or grown last."""
    volume_count: int
    entry_count: int
    map_count: int
    next_header: int
    """Offset of a further header; 0 if there is none."""
    alignment: int
    """Of the header and the bitmaps; LVM-5 has 512."""

    @property
    def volume_table(self) -> int:
        """Offset of the first volume descriptor in the device."""
        return DEVICE_HEADER_OFFSET + self.alignment

    @property
    def device_names(self) -> int:
        """Offset of the table of the volume's devices."""
        return self.volume_table + _VOLUME_AREA - _DEVICE_NAMES * DEVICE_NAME

    @property
    def bitmap_size(self) -> int:
        """Bytes of a bitmap, which stands before its table."""
        return max(self.alignment, ENTRIES_PER_MAP // 8)

    def map_table(self, header: int, index: int) -> int:
        """Return the offset of a map's table, `header` being the offset of the header it belongs to."""
        first = header + self.alignment + _VOLUME_AREA
        each = self.bitmap_size + ENTRIES_PER_MAP * MAP_TABLE_ENTRY
        return first + index * each + self.bitmap_size


@dataclass(frozen=True)
class VolumeDescriptor:
    """What a device says of a volume that has space on it."""

    uuid: str
    """The logical volume's, which is not the file system's."""
    snapshot_id: int
    size: int
    """Of the whole volume, in bytes."""
    state: VolumeState
    volume_id: int
    first_entry: int
    """Number in the volume of the first PE on this device; 0 on the device that began the volume."""
    last_entry: int
    device_count: int
    generation: int


class PhysicalExtent(NamedTuple):
    """A piece of a volume in one piece on a device. In bytes."""

    volume_id: int
    physical: int
    logical: int
    length: int


def decode_device_header(data: Buffer) -> DeviceHeader:
    """Decode a device header.

    Raises NotRecognised if this is none, Unsupported for another version, Corrupt for impossible values.
    """
    raw = DEVICE_HEADER.parse(data)
    if raw.magic != MAGIC:
        raise NotRecognised("not VMFS: no volume manager header at 1 MiB")
    if not 3 <= raw.major_version <= 6:
        raise Unsupported(f"VMFS volume manager version {raw.major_version}.{raw.minor_version}")
    aligned = raw.major_version == 6
    alignment = raw.alignment if aligned else 512
    if not _ALIGNMENTS[0] <= alignment <= _ALIGNMENTS[1] or alignment & (alignment - 1):
        raise Corrupt(Damage.LVM_ALIGNMENT, DEVICE_HEADER_OFFSET, actual=alignment)
    volumes = 1 if aligned else _MAX_VOLUMES
    if raw.volume_count > volumes:
        raise Corrupt(
            Damage.LVM_VOLUMES,
            DEVICE_HEADER_OFFSET,
            expected=f"at most {volumes}",
            actual=raw.volume_count,
        )
    if raw.entry_count > _MAX_ENTRIES:
        raise Corrupt(
            Damage.LVM_PHYSICAL_EXTENTS,
            DEVICE_HEADER_OFFSET,
            expected=f"at most {_MAX_ENTRIES:#x}",
            actual=raw.entry_count,
        )
    return DeviceHeader(
        major_version=raw.major_version,
        uuid=uuid_text(raw.uuid),
        size=raw.size,
        volume_count=raw.volume_count,
        entry_count=raw.entry_count,
        map_count=_map_count(raw.map_count, DEVICE_HEADER_OFFSET),
        next_header=raw.next_header,
        alignment=alignment,
    )


def decode_further_header(data: Buffer, where: int) -> tuple[int, int]:
    """Return how many maps a further header has, and the offset of the next one or 0."""
    raw = FURTHER_HEADER.parse(data)
    if raw.magic != MAGIC:
        raise Corrupt(Damage.LVM_FURTHER_HEADER, where, expected=MAGIC, actual=raw.magic)
    return _map_count(raw.map_count, where), raw.next_header


def decode_volume_descriptor(data: Buffer, where: int) -> VolumeDescriptor:
    """Decode an entry of the volume table."""
    raw = VOLUME_DESCRIPTOR.parse(data)
    try:
        state = VolumeState(raw.state)
    except ValueError:
        raise Unsupported(f"VMFS volume state {raw.state}") from None
    if not 1 <= raw.device_count <= _DEVICE_NAMES:
        raise Corrupt(Damage.LVM_DEVICES_OF_VOLUME, where, actual=raw.device_count)
    return VolumeDescriptor(
        uuid=uuid_text(raw.uuid),
        snapshot_id=raw.snapshot_id,
        size=raw.logical_size,
        state=state,
        volume_id=raw.volume_id,
        first_entry=raw.first_entry,
        last_entry=raw.last_entry,
        device_count=raw.device_count,
        generation=raw.generation,
    )


def decode_device_names(data: Buffer) -> tuple[str, ...]:
    """Return the names of a volume's devices, in the order of their PEs ("naa.60003ff4...:1")."""
    raw = bytes(data)
    return tuple(
        raw[start : start + DEVICE_NAME].partition(b"\0")[0].decode("utf-8", "replace")
        for start in range(0, len(raw), DEVICE_NAME)
    )


def decode_map_table(data: Buffer) -> list[PhysicalExtent]:
    """Return the entries of a map's table that are in use."""
    extents = []
    for start in range(0, len(data), MAP_TABLE_ENTRY):
        used, *fields = _MAP_ENTRY.unpack_from(data, start)
        if used:
            extents.append(PhysicalExtent(*fields))
    return extents


def _map_count(stored: int, where: int) -> int:
    """LVM-6 has 0 where there is one map."""
    if stored > MAPS_PER_HEADER:
        raise Corrupt(Damage.LVM_MAPS, where, expected=f"at most {MAPS_PER_HEADER}", actual=stored)
    return stored or 1
