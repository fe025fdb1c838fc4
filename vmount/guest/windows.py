"""Windows: what its registry tells, and folders in which it mounts volumes."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vmount.errors import explain
from vmount.guest.files import find_file, guest_text, open_guest_file, opened
from vmount.guest.info import GuestInfo
from vmount.parsers.errors import ParseError
from vmount.parsers.model import LinkTargets
from vmount.parsers.registry import Hive, open_hive
from vmount.parsers.registry.mounted_devices import MountedDevice, decode_mounted_devices

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vmount.guest.drives import Drives
    from vmount.parsers.model import Attrs, Filesystem, Ino
    from vmount.volumes.find import Volume

SYSTEM_FOLDERS = ("Windows", "WINNT")
"""Of every Windows since NT 3.1 that was installed without being told another name."""

FIRST_BUILD_OF_11 = 22000
"""Windows 11 calls itself 10 in its registry."""

BITS = {"x86": 32, "arm": 32, "amd64": 64, "ia64": 64, "arm64": 64}
"""By PROCESSOR_ARCHITECTURE in lower case."""

MOST_FOLDERS = 64
"""Directories of a volume's root that are searched for mounted volumes."""
LARGEST_INDEX = 64 << 10
"""Bytes: a directory with more than some 500 names is not searched; it would take too long."""

CURRENT_VERSION = r"Microsoft\Windows NT\CurrentVersion"
ENVIRONMENT = r"Control\Session Manager\Environment"

_SYSTEM_ROOT = re.compile(r"([A-Za-z]):\\.+")


@dataclass(frozen=True)
class WindowsSystem:
    """An installation of Windows."""

    info: GuestInfo
    devices: tuple[MountedDevice, ...]
    """What its mount manager knows."""
    warnings: tuple[str, ...]

    @property
    def letter(self) -> str | None:
        """The letter of its own volume."""
        matched = _SYSTEM_ROOT.fullmatch(self.info.system_folder)
        return matched[1].upper() if matched else None


async def examine_windows(volume: Volume) -> WindowsSystem | None:
    """Say which Windows is installed on a volume, None if none is. A damaged hive is a warning."""
    for folder in SYSTEM_FOLDERS:
        system = await find_file(volume, folder, "System32", "config", "SYSTEM")
        if system is not None:
            software = await find_file(volume, folder, "System32", "config", "SOFTWARE")
            return await _examine(volume, folder, system, software)
    return None


async def _examine(
    volume: Volume, folder: str, system: Attrs, software: Attrs | None
) -> WindowsSystem:
    warnings: list[str] = []
    info = GuestInfo("windows", "Windows", "", "", None, "", "Microsoft", folder, volume.name)
    devices: tuple[MountedDevice, ...] = ()
    for name, attrs in (("SOFTWARE", software), ("SYSTEM", system)):
        if attrs is None:
            warnings.append(f"{volume.name}: the registry hive {name} of Windows does not exist")
            continue
        try:
            hive = await open_hive(await open_guest_file(volume, attrs.ino))
            warnings += [f"{volume.name}: registry hive {name}: {text}" for text in hive.warnings]
            if name == "SOFTWARE":
                info = await _with_version(hive, info)
            else:
                devices = await _mounted_devices(hive)
                info = await _with_bits(hive, info)
        except (ParseError, OSError) as error:
            text = explain(error) if isinstance(error, OSError) else str(error)
            warnings.append(f"{volume.name}: registry hive {name}: {text}")
    return WindowsSystem(info, devices, tuple(warnings))


async def _with_version(hive: Hive, info: GuestInfo) -> GuestInfo:
    key = await hive.find(CURRENT_VERSION)
    if key is None:
        return info
    values = {value.name.lower(): value for value in await hive.values(key)}

    def text(name: str) -> str:
        return guest_text(values[name].text or "") if name in values else ""

    def number(name: str) -> int | None:
        return values[name].number if name in values else None

    version = text("currentversion")
    major, minor = number("currentmajorversionnumber"), number("currentminorversionnumber")
    if major is not None and minor is not None:
        version = f"{major}.{minor}"
    build = text("currentbuildnumber") or text("currentbuild")
    product = text("productname") or info.name
    if build.isdecimal() and int(build) >= FIRST_BUILD_OF_11:
        product = re.sub(r"^Windows 10\b", "Windows 11", product)
    revision = number("ubr")
    return replace(
        info,
        name=product,
        version=version,
        build=build if revision is None else f"{build}.{revision}",
        edition=text("editionid"),
        system_folder=text("systemroot") or info.system_folder,
    )


async def _with_bits(hive: Hive, info: GuestInfo) -> GuestInfo:
    select = await hive.find("Select")
    current = None if select is None else await hive.value(select, "Current")
    number = current.number if current is not None else None
    key = await hive.find(rf"ControlSet{number or 1:03}\{ENVIRONMENT}")
    value = None if key is None else await hive.value(key, "PROCESSOR_ARCHITECTURE")
    return info if value is None else replace(info, bits=BITS.get((value.text or "").lower()))


async def _mounted_devices(hive: Hive) -> tuple[MountedDevice, ...]:
    key = await hive.find("MountedDevices")
    return () if key is None else decode_mounted_devices(await hive.values(key))


async def mount_folders(volume: Volume, drives: Drives) -> list[tuple[str, str]]:
    r"""Return paths below a volume's root ("mnt\data\") that show other volumes, with those volumes' names.

    Searched are the root and the directories in it. A directory that cannot be read is passed over.
    """
    filesystem, _ = opened(volume)
    if not isinstance(filesystem, LinkTargets):
        return []
    found = []
    async for path, ino in _links(filesystem):
        try:
            link = await filesystem.reparse_link(ino)
        except (ParseError, OSError):
            continue
        if link is not None and link.volume is not None and not link.parts:
            target = drives.volume_of(link, volume.name)
            if target is not None:
                found.append((path, target))
    return found


async def _links(filesystem: Filesystem) -> AsyncIterator[tuple[str, Ino]]:
    """Yield path and number of the links in the root and one level below."""
    pending = [("", filesystem.root)]
    searched = 0
    while pending and searched <= MOST_FOLDERS:
        above, ino = pending.pop(0)
        searched += 1
        try:
            entries = await filesystem.listdir(ino)
        except (ParseError, OSError):
            continue
        for entry in entries:
            path = f"{above}{entry.name.decode('utf-8', 'replace')}\\"
            if entry.kind == stat.S_IFLNK:
                yield path, entry.ino
            elif (
                entry.kind == stat.S_IFDIR
                and not above
                and entry.attrs is not None
                and entry.attrs.size <= LARGEST_INDEX
            ):
                pending.append((path, entry.ino))
