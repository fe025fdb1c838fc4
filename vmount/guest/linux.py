"""Linux: what it calls itself, and what its fstab mounts where."""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from vmount.errors import explain
from vmount.guest.files import GuestTree, Place, find_file, guest_text, open_guest_file
from vmount.guest.fstab import FstabEntry, find_volumes_of, parse_fstab
from vmount.guest.info import GuestInfo
from vmount.parsers.errors import ParseError

if TYPE_CHECKING:
    from vmount.parsers.model import Ino
    from vmount.volumes.find import Found, Volume

MOST_MOUNTS = 256
"""Volumes in one tree; a guest with more would be a strange one."""

MOST_WARNINGS = 50
LONGEST_WARNING = 500
"""An fstab of nothing but nonsense must not fill the log."""

PROGRAMS = (b"/bin/sh", b"/sbin/init", b"/bin/busybox")
"""Whose ELF header tells how many bits the system has."""

ELF_MAGIC = b"\x7fELF"
ELF_BITS = {1: 32, 2: 64}
"""By EI_CLASS, the byte after the magic."""

_SHELL_ESCAPE = re.compile(r"\\([\"$`\\])")
_RELEASE = re.compile(r"release\s+(\S+)")


class RootMount(NamedTuple):
    """A volume in the guest's own tree."""

    volume: Volume
    path: str
    """Where the guest mounts it."""
    at: tuple[int, Ino] | None
    """The directory that it covers: index of the mount that it is on, and number; None: it is the root."""


@dataclass(frozen=True)
class LinuxSystem:
    """An installation of Linux."""

    info: GuestInfo
    mounts: tuple[RootMount, ...]
    """The root first, each after the one that it is mounted on."""
    warnings: tuple[str, ...]
    unread: tuple[tuple[str, str], ...] = ()
    """What its tree lacks: the path, and why."""


async def examine_linux(volume: Volume, found: Found) -> LinuxSystem | None:
    """Say which Linux has its root on a volume, None if none has. What is damaged is a warning."""
    if await find_file(volume, "etc") is None:
        return None
    tree = GuestTree(volume)
    told = _Told(volume.name)
    fstab = await told.read(tree, b"/etc/fstab")
    mounts = await _mount_all(tree, fstab or b"", found, told)
    info = await _identify(tree, volume.name, told)
    if info is None and fstab is None:
        return None
    info = info or GuestInfo("linux", "Linux", "", "", await _bits(tree), "", "", "/", volume.name)
    return LinuxSystem(info, tuple(mounts), tuple(told.warnings), tuple(told.lost.items()))


class _Told:
    """Warnings about the system on a volume."""

    def __init__(self, volume: str) -> None:
        self._volume = volume
        self.warnings: list[str] = []
        self.lost: dict[str, str] = {}
        """By where the guest mounts a volume that is not shown there: why it is not."""

    def lose(self, path: str, reason: str) -> None:
        """Note that the tree lacks what the guest mounts at a path."""
        if len(self.lost) < MOST_MOUNTS:
            self.lost[path] = guest_text(reason[:LONGEST_WARNING])

    def warn(self, text: str) -> None:
        if len(self.warnings) < MOST_WARNINGS:
            self.warnings.append(f"{self._volume}: {guest_text(text[:LONGEST_WARNING])}")
        elif len(self.warnings) == MOST_WARNINGS:
            self.warnings.append(f"{self._volume}: more warnings of this kind")

    async def read(self, tree: GuestTree, path: bytes) -> bytes | None:
        """Return the content of a file, None if it is not there or cannot be read."""
        try:
            return await tree.read(path)
        except ParseError as error:
            self.warn(f"{path.decode()}: {error}")
        except OSError as error:
            self.warn(f"{path.decode()}: {explain(error)}")
        return None


async def _mount_all(tree: GuestTree, fstab: bytes, found: Found, told: _Told) -> list[RootMount]:
    """Mount what the fstab says, in its order: what is mounted on another volume comes after that."""
    root = tree.mounts[0].volume
    mounts = [RootMount(root, "/", None)]
    for entry in parse_fstab(fstab):
        if not entry.is_of_disk:
            continue
        shown = posixpath.normpath(os.fsdecode(entry.mount_point))
        try:
            volume = _volume_of(entry, shown, root, found, told)
            if volume is None:
                continue
            if len(mounts) == MOST_MOUNTS:
                told.warn(f"fstab: more than {MOST_MOUNTS} mounts; the rest is ignored")
                break
            place = await _mount(tree, entry, volume)
        except ParseError as error:
            told.warn(f"fstab: {shown}: {error}")
            told.lose(shown, str(error))
        except OSError as error:
            told.warn(f"fstab: {shown}: {error.strerror}")
            told.lose(shown, str(error.strerror))
        else:
            if place is None:
                told.warn(f"fstab: {shown}: the guest has no such directory")
            else:
                mounts.append(RootMount(volume, shown, (place.mount, place.attrs.ino)))
    return mounts


def _volume_of(
    entry: FstabEntry, shown: str, root: Volume, found: Found, told: _Told
) -> Volume | None:
    """Return the volume that an entry mounts somewhere below the root."""
    if entry.is_bind:
        told.warn(f"fstab: {shown}: a bind mount, which is not shown")
        return None
    disks = {extent.disk for extent in root.extents}
    volumes = sorted(
        find_volumes_of(entry.spec, found),
        key=lambda volume: not any(extent.disk in disks for extent in volume.extents),
    )
    names = " and ".join(volume.name for volume in volumes)
    if entry.mount_point.strip(b"/") == b"":
        if root not in volumes:
            told.warn(
                f"fstab: it gives {names or entry.spec} as root; {root.name} is shown instead"
            )
        elif entry.subvolume:
            told.warn(f"fstab: /: {entry.subvolume} is not supported: the whole volume is shown")
        return None
    if entry.subvolume:
        told.warn(f"fstab: {shown}: {entry.subvolume} is not supported: not shown there")
        told.lose(shown, f"{entry.subvolume} is not supported")
        return None
    if not volumes:
        if not entry.may_be_absent:
            told.warn(f"fstab: {shown}: {entry.spec} is not on any open disk")
            told.lose(shown, f"{entry.spec} is not on any open disk")
        return None
    if len(volumes) > 1:
        told.warn(f"fstab: {shown}: may be {names}; the first is taken")
    if volumes[0].filesystem is None:
        told.warn(f"fstab: {shown}: {volumes[0].name} cannot be read")
        told.lose(shown, f"{volumes[0].name} cannot be read")
        return None
    return volumes[0]


async def _mount(tree: GuestTree, entry: FstabEntry, volume: Volume) -> Place | None:
    place = await tree.find(entry.mount_point)
    if place is None or place.attrs.mode & 0o170000 != 0o040000:
        return None
    tree.mount(volume, place)
    return place


async def _identify(tree: GuestTree, volume: str, told: _Told) -> GuestInfo | None:
    for path in (b"/etc/os-release", b"/usr/lib/os-release"):
        text = await told.read(tree, path)
        if text is not None:
            values = parse_os_release(text)
            name = values.get("PRETTY_NAME") or values.get("NAME") or "Linux"
            version = values.get("VERSION_ID", "")
            edition = values.get("VARIANT_ID", "")
            build, vendor = values.get("BUILD_ID", ""), values.get("ID", "linux")
            bits = await _bits(tree)
            return GuestInfo("linux", name, version, build, bits, edition, vendor, "/", volume)
    text = await told.read(tree, b"/etc/redhat-release")
    if text is not None:
        name = _first_line(text)
        matched = _RELEASE.search(name)
        version = matched[1] if matched else ""
        bits = await _bits(tree)
        return GuestInfo("linux", name, version, "", bits, "", "redhat", "/", volume)
    text = await told.read(tree, b"/etc/debian_version")
    if text is not None:
        version = _first_line(text)
        name = f"Debian GNU/Linux {version}"
        return GuestInfo("linux", name, version, "", await _bits(tree), "", "debian", "/", volume)
    return None


def parse_os_release(text: bytes) -> dict[str, str]:
    """Return the assignments of an os-release file (os-release(5)); lines that are none are left out."""
    values = {}
    for line in text.decode("utf-8", "replace").splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or name.startswith("#"):
            continue
        if value[:1] in ('"', "'") and value[-1:] == value[0]:
            quote, value = value[0], value[1:-1]
            if quote == '"':
                value = _SHELL_ESCAPE.sub(r"\1", value)
        values[name] = guest_text(value)
    return values


def _first_line(text: bytes) -> str:
    return guest_text(text.decode("utf-8", "replace").strip().partition("\n")[0])


async def _bits(tree: GuestTree) -> int | None:
    """Return how many bits the guest's programs have."""
    for path in PROGRAMS:
        try:
            place = await tree.find(path)
            if place is None:
                continue
            file = await open_guest_file(tree.mounts[place.mount].volume, place.attrs.ino)
            head = bytes(await file.read(0, min(file.size, len(ELF_MAGIC) + 1)))
        except (ParseError, OSError):
            continue
        if head.startswith(ELF_MAGIC) and len(head) > len(ELF_MAGIC):
            return ELF_BITS.get(head[len(ELF_MAGIC)])
    return None
