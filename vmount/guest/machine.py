"""All operating systems on a set of volumes, and where they have their volumes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from vmount.errors import explain
from vmount.guest.drives import (
    WINDOWS_FILESYSTEMS,
    Drives,
    find_drives,
    is_lettered,
    letters_by_hand,
)
from vmount.guest.linux import LinuxSystem, RootMount, examine_linux
from vmount.guest.windows import WindowsSystem, examine_windows, mount_folders
from vmount.parsers.errors import ParseError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmount.guest.info import GuestInfo
    from vmount.runtime import Runtime
    from vmount.volumes.find import Found, Volume


@dataclass(frozen=True)
class Guest:
    """What is known of the guest. A machine without a system that we know has empty ones of all."""

    systems: tuple[GuestInfo, ...]
    """The main one first."""
    drives: Drives
    root: tuple[RootMount, ...]
    """The tree of the first Linux: its root first, each volume after the one that it is mounted on."""
    mount_points: Mapping[str, tuple[str, ...]]
    r"""By name of a volume: where the guest has it, "C:\" or "/home"."""
    warnings: tuple[str, ...]
    unread: tuple[tuple[str, str], ...] = ()
    """What `root` lacks of the guest's own tree: the path, and why."""


async def find_guest(found: Found, runtime: Runtime, letters: Mapping[str, str]) -> Guest:
    """Find the operating systems on volumes. What is damaged is a warning.

    `letters` are names of volumes by drive letter, as the user decided. Raises UsageError for a volume that
    is not there.
    """
    letters_by_hand(found, letters)
    volumes = [volume for volume in found.volumes if volume.filesystem is not None]
    results = await runtime.gather([partial(_examine, volume, found) for volume in volumes])
    warnings: list[str] = []
    windows: list[WindowsSystem] = []
    linux: list[LinuxSystem] = []
    systems: list[GuestInfo] = []
    for result in results:
        if isinstance(result, str):
            warnings.append(result)
        elif result is not None:
            systems.append(result.info)
            # Of another system's devices and mounts nothing is shown, nor are its troubles with them.
            if isinstance(result, WindowsSystem):
                warnings += result.warnings if not windows else ()
                windows.append(result)
            else:
                warnings += result.warnings if not linux else ()
                linux.append(result)
    points: dict[str, list[str]] = {}
    if windows:
        main = windows[0]
        system = None if main.letter is None else (main.letter, main.info.volume)
        drives = find_drives(found, main.devices, system, letters)
        await _find_folders(volumes, drives, runtime, points)
    else:
        drives = letters_by_hand(found, letters)
    root = linux[0].mounts if linux else ()
    for mount in root:
        points.setdefault(mount.volume.name, []).append(mount.path)
    warnings += drives.warnings
    frozen = {name: tuple(paths) for name, paths in points.items()}
    unread = linux[0].unread if linux else ()
    return Guest(tuple(systems), drives, root, frozen, tuple(warnings), unread)


async def _examine(volume: Volume, found: Found) -> WindowsSystem | LinuxSystem | str | None:
    """Return the system on a volume, or what went wrong."""
    try:
        if volume.fstype in WINDOWS_FILESYSTEMS:
            return await examine_windows(volume)
        return await examine_linux(volume, found)
    except ParseError as error:
        return f"{volume.name}: search for an operating system failed: {error}"
    except OSError as error:
        return f"{volume.name}: search for an operating system failed: {explain(error)}"


async def _find_folders(
    volumes: list[Volume], drives: Drives, runtime: Runtime, points: dict[str, list[str]]
) -> None:
    """Note the drive letters that the guest itself has, and the folders in which it mounts volumes."""
    own = [letter for letter in drives.letters.values() if not letter.assigned]
    for letter in sorted(own, key=lambda letter: letter.letter):
        points.setdefault(letter.volume, []).append(f"{letter.letter}:\\")
    # A volume in a folder has no letter as a rule, and where all have one there is no need to search.
    if all(volume.name in points for volume in volumes if is_lettered(volume)):
        return
    searched = [volume for volume in volumes if volume.name in points]
    folders = await runtime.gather([partial(mount_folders, volume, drives) for volume in searched])
    for volume, found in zip(searched, folders, strict=True):
        above = points[volume.name][0]
        for path, target in found:
            points.setdefault(target, []).append(above + path)
