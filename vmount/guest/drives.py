"""Drive letters: those that a Windows guest gave to its volumes, and ours for the rest.

Strategy: what was decided by hand comes first, then the guest's own mount manager (MountedDevices), then
the letter in the name of the system folder. A volume that still has none gets the next free letter from
D: on, in the order of the volumes' names, so that it is the same from mount to mount; letters that the guest
keeps for something else (a CD drive) stay free.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vmount.errors import UsageError
from vmount.parsers.registry.mounted_devices import DeviceId, MbrPlace, MountedDevice, VolumeId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vmount.parsers.model import ReparseLink
    from vmount.volumes.find import Found, Volume

FIRST_ASSIGNED = "D"

WINDOWS_FILESYSTEMS = frozenset({"ntfs", "vfat", "exfat"})
"""Those that Windows gives letters to, as `Volume.fstype` has them."""

WITHOUT_LETTERS = frozenset(
    {
        # GPT: EFI system, Microsoft reserved, Windows recovery environment, LDM metadata
        "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
        "e3c9e316-0b5c-4db8-817d-f92df00215ae",
        "de94bba4-06d1-4d40-a16a-bfd50179d6ac",
        "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3",
        # MBR: EFI system, Windows recovery environment, hidden FAT and NTFS, diagnostics
        "0xef",
        *("0x27", "0x11", "0x12", "0x14", "0x16", "0x17", "0x1b", "0x1c", "0x1e"),
    }
)
"""Types of partitions for the machine's own use."""


@dataclass(frozen=True)
class DriveLetter:
    """A letter and its volume."""

    letter: str
    """Upper case."""
    volume: str
    """The volume's name."""
    assigned: bool
    """By vmount or its user: the guest knows nothing of it."""


@dataclass
class Drives:
    """The letters and GUIDs of volumes."""

    letters: dict[str, DriveLetter] = field(default_factory=dict)
    """By letter."""
    guids: dict[str, str] = field(default_factory=dict)
    """Names of volumes by the GUIDs that Windows knows them by, in lower case."""
    warnings: list[str] = field(default_factory=list)

    def letter_of(self, volume: str) -> DriveLetter | None:
        """Return the letter of a volume."""
        found = (letter for letter in self.letters.values() if letter.volume == volume)
        return next(found, None)

    def volume_of(self, link: ReparseLink, home: str) -> str | None:
        """Return the volume that an absolute link on the volume `home` leads into.

        None for a relative link, and where there is no such volume here.
        """
        if link.relative or link.remote:
            return None
        if link.drive is not None:
            letter = self.letters.get(link.drive)
            return None if letter is None else letter.volume
        if link.volume is not None:
            return self.guids.get(link.volume)
        return home

    def add(self, letter: str, volume: str, *, assigned: bool) -> None:
        """Give a letter to a volume, unless one of the two is taken."""
        if letter not in self.letters and self.letter_of(volume) is None:
            self.letters[letter] = DriveLetter(letter, volume, assigned)


def find_drives(
    found: Found,
    devices: Sequence[MountedDevice],
    system: tuple[str, str] | None,
    by_hand: Mapping[str, str],
) -> Drives:
    """Give letters to the volumes of a Windows guest.

    `devices` are its MountedDevices; `system` the letter and the volume of its system folder; `by_hand`
    names volumes by letter. Raises UsageError for a volume by hand that is not there.
    """
    drives = letters_by_hand(found, by_hand)
    home = None if system is None else system[1]
    for device in sorted(devices, key=lambda device: device.letter or ""):
        volumes = _matching(found, device.device, home)
        if not volumes:
            continue
        if device.guid is not None:
            drives.guids.setdefault(device.guid, volumes[0].name)
        if device.letter is not None:
            if len(volumes) > 1:
                names = " and ".join(volume.name for volume in volumes)
                drives.warnings.append(
                    f"drive {device.letter}: may be {names}, clones of each other; the first is taken"
                )
            drives.add(device.letter, volumes[0].name, assigned=False)
    if system is not None:
        drives.add(*system, assigned=False)
    for volume in found.volumes:
        # Windows names partitions of a GPT so when it has kept no other name for them.
        if volume.partition is not None and volume.partition.guid is not None:
            drives.guids.setdefault(volume.partition.guid, volume.name)
    kept = {device.letter for device in devices}
    free = [
        letter
        for letter in string.ascii_uppercase[string.ascii_uppercase.index(FIRST_ASSIGNED) :]
        if letter not in kept and letter not in drives.letters
    ]
    for volume in sorted(found.volumes, key=lambda volume: volume.name):
        if is_lettered(volume) and drives.letter_of(volume.name) is None and free:
            drives.add(free.pop(0), volume.name, assigned=True)
    return drives


def letters_by_hand(found: Found, by_hand: Mapping[str, str]) -> Drives:
    """Give the letters that the user has decided on. Raises UsageError."""
    drives = Drives()
    names = [volume.name for volume in found.volumes if volume.filesystem is not None]
    for letter, name in by_hand.items():
        if name not in names:
            raise UsageError(
                f"drive {letter}: no volume {name} with a file system",
                remedy=f"the volumes are {', '.join(names) or 'none'}",
            )
        if (other := drives.letter_of(name)) is not None:
            raise UsageError(f"drives {other.letter} and {letter} are both volume {name}")
        drives.add(letter, name, assigned=True)
    return drives


def is_lettered(volume: Volume) -> bool:
    """Say whether Windows would show a volume: it has files, and they are for people."""
    kind = None if volume.partition is None else volume.partition.type
    return (
        volume.filesystem is not None
        and volume.fstype in WINDOWS_FILESYSTEMS
        and kind not in WITHOUT_LETTERS
    )


def _matching(found: Found, device: DeviceId, home: str | None) -> list[Volume]:
    """Return the volumes with this identity, those on the disk of the volume `home` first."""
    if device is None:
        return []
    tables = {content.disk.name: content.table for content in found.contents}
    home_disks = {
        extent.disk for volume in found.volumes if volume.name == home for extent in volume.extents
    }

    def fits(volume: Volume) -> bool:
        partition = volume.partition
        if isinstance(device, VolumeId):
            if volume.kind == "ldm":
                return volume.device.guid.lower() in (device.dynamic_guid, device.guid)
            return partition is not None and partition.guid == device.guid
        if not isinstance(device, MbrPlace) or partition is None:
            return False
        table = tables[volume.extents[0].disk]
        return (
            table is not None
            and table.scheme == "mbr"
            and (table.disk_id, partition.offset) == (device.signature, device.offset)
        )

    volumes = [volume for volume in found.volumes if fits(volume)]
    return sorted(
        volumes, key=lambda volume: not any(each.disk in home_disks for each in volume.extents)
    )
