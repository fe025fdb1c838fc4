r"""The key MountedDevices of a SYSTEM hive: which letters and volume GUIDs a guest gave to which volumes.

Source: Microsoft, "Supporting Mount Manager Requests in a Storage Class Driver"; the forms of unique
identifiers as Windows 2000 to 11 and Server 2025 write them.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from vmount.parsers.layout import Field, Layout

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vmount.parsers.registry.value import Value

_LETTER = re.compile(r"\\DosDevices\\([A-Z]):", re.IGNORECASE)
_VOLUME = re.compile(r"\\\?\?\\Volume\{([0-9a-f-]{36})\}", re.IGNORECASE)
MBR_PLACE = Layout(
    "MountedDevices: partition of a disk with an MBR",
    Field("signature", "I", at=0x00, note="of the disk"),
    Field("offset", "Q", at=0x04, note="of the partition, in bytes"),
    size=12,
    source="reverse engineered: values that Windows 2000 to 11 write",
)
_MBR = MBR_PLACE.whole()
_PREFIX = b"DMIO:ID:"


@dataclass(frozen=True, slots=True)
class MbrPlace:
    """A partition of a disk with an MBR."""

    signature: str
    """Of the disk: 8 hexadecimal digits in lower case."""
    offset: int
    """Bytes from the start of the disk."""


@dataclass(frozen=True, slots=True)
class VolumeId:
    """A partition by the GUID that its GPT gives it, or a dynamic volume by its own."""

    raw: bytes

    @property
    def guid(self) -> str:
        """The GUID in lower case."""
        return str(uuid.UUID(bytes_le=self.raw))

    @property
    def dynamic_guid(self) -> str:
        """The GUID of a dynamic volume, whose database is big-endian."""
        return str(uuid.UUID(bytes=self.raw))


DeviceId: TypeAlias = MbrPlace | VolumeId | None
"""None: something that is no disk of ours to find, a CD drive for one."""


@dataclass(frozen=True, slots=True)
class MountedDevice:
    """A name that the guest gave to a volume: a letter, or a volume GUID."""

    letter: str | None
    guid: str | None
    """In lower case."""
    device: DeviceId


def decode_mounted_devices(values: Iterable[Value]) -> tuple[MountedDevice, ...]:
    """Decode the values of the key; what is no name of a volume is left out."""
    found = []
    for value in values:
        if matched := _LETTER.fullmatch(value.name):
            found.append(MountedDevice(matched[1].upper(), None, _device(value.raw)))
        elif matched := _VOLUME.fullmatch(value.name):
            found.append(MountedDevice(None, matched[1].lower(), _device(value.raw)))
    return tuple(found)


def _device(raw: bytes) -> DeviceId:
    if len(raw) == _MBR.size:
        signature, offset = _MBR.unpack(raw)
        return MbrPlace(f"{signature:08x}", offset)
    if len(raw) == len(_PREFIX) + 16 and raw.startswith(_PREFIX):
        return VolumeId(raw[len(_PREFIX) :])
    return None
