"""The block devices of this machine, each once, however many paths lead to it.

Strategy: a disk's identity is the WWN that it gives itself, as sysfs and udev's links tell it; the device
number where it has none. A serial number is no identity: there are arrays that give all their LUNs one, and
to take two disks for one would show wrong bytes. A path of a dm-multipath device stands for that device.
Everything is read again on each call: LUNs come and go.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_NO_LUNS = re.compile(r"(loop|ram|zram|nbd|sr|fd|md|drbd)\d")
"""Names of devices that no search takes for a LUN; they can still be given."""
_PREFIX = re.compile(r"(dm-uuid-mpath-|mpath-|scsi-|nvme-|wwn-0x|0x)")
_NAA = re.compile(
    r"(?:naa\.|eui\.|3(?=[0-9a-f]{16}(?:[0-9a-f]{16})?$)|2(?=[0-9a-f]{16}$))?([0-9a-f]{16,32})"
)
_BY_WWN = re.compile(r"(?:wwn-0x|scsi-[23]|nvme-eui\.|dm-uuid-mpath-).*")
"""udev's links that are named after a WWN and not after a model."""


@dataclass(frozen=True)
class BlockDevice:
    """A disk, a partition, or an image of one."""

    path: Path
    """To open it by."""
    identity: str
    """Equal for all paths to the same disk."""
    paths: tuple[Path, ...]
    """All names by which it was found, `path` among them."""
    partition: int = 0
    """Its number; 0: a whole disk."""

    def matches(self, patterns: Sequence[str]) -> bool:
        """Say whether its identity, or one of its names with or without folder, fits a shell pattern."""
        names = [self.identity]
        for path in self.paths:
            names += [str(path), path.name]
        return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


@dataclass(frozen=True)
class BlockDevices:
    """Where block devices are found."""

    links: Path = Path("/dev/disk/by-id")
    """Folder of udev's links, which are there once udev has seen a disk."""
    dev: Path = Path("/dev")
    sysfs: Path = Path("/sys")

    def all(self) -> list[BlockDevice]:
        """Return the disks that may be LUNs, each once, in the order of their names.

        A partition is left out if its disk is there. Raises OSError only if the folders are not readable.
        """
        found = []
        for path in self._candidates():
            try:
                found.append(self.device(path))
            except OSError:
                continue  # gone meanwhile, or a link that leads nowhere
        disks = {device.identity for device in found if not device.partition}
        return distinct(
            device
            for device in found
            if not device.partition or device.identity.rpartition("-part")[0] not in disks
        )

    def device(self, path: Path) -> BlockDevice:
        """Return the device at a path, or the multipath device that it is a path of.

        Raises OSError if there is neither a device nor a file.
        """
        real = path.resolve(strict=True)
        status = real.stat()
        if stat.S_ISREG(status.st_mode):
            return BlockDevice(path, f"file-{status.st_dev}-{status.st_ino}", (path,))
        if not stat.S_ISBLK(status.st_mode):
            raise OSError(errno.ENOTBLK, "not a block device or a file", str(path))
        number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        entry = (self.sysfs / "dev" / "block" / number).resolve()
        names = dict.fromkeys([path, real])
        partition = int(_text(entry / "partition") or 0)
        multipath = None if partition else self._multipath(entry)
        if multipath is not None:
            entry, preferred = multipath
            return BlockDevice(preferred, self._wwn(entry, [preferred]), (preferred, *names))
        if partition:
            disk = self._wwn(entry.parent, [])
            identity = f"{disk or entry.parent.name}-part{partition}"
        else:
            identity = self._wwn(entry, self._links_to(real)) or f"device-{number}"
        return BlockDevice(path, identity, tuple(names), partition)

    def with_wwn(self, wwn: str) -> list[BlockDevice]:
        """Return the disks that call themselves `wwn`: hexadecimal digits, in small letters."""
        return [device for device in self.all() if device.identity == wwn]

    def rescan(self) -> None:
        """Let SCSI hosts look for new disks, as far as this process may."""
        for control in sorted(self.sysfs.glob("class/scsi_host/host*/scan")):
            with suppress(OSError):
                control.write_text("- - -")

    def forget(self, device: BlockDevice) -> None:
        """Let the kernel let go of a disk that is about to be taken away, as far as this process may."""
        name = device.path.resolve().name
        with suppress(OSError):
            # Not created: a device that is no SCSI disk has no such file.
            descriptor = os.open(
                self.sysfs / "class" / "block" / name / "device" / "delete", os.O_WRONLY
            )
            try:
                os.write(descriptor, b"1")
            finally:
                os.close(descriptor)

    def _candidates(self) -> Iterator[Path]:
        if self.links.is_dir():
            yield from sorted(self.links.iterdir())
        names = self.sysfs / "class" / "block"
        for entry in sorted(names.iterdir() if names.is_dir() else ()):
            if _NO_LUNS.match(entry.name) is None:
                yield self.dev / entry.name

    def _multipath(self, entry: Path) -> tuple[Path, Path] | None:
        """Return the sysfs entry and the path of the multipath device that a disk is, or is a path of."""
        holders = entry / "holders"
        above = sorted(holders.iterdir()) if holders.is_dir() else []
        for candidate in (entry, *(holder.resolve() for holder in above)):
            if _text(candidate / "dm" / "uuid").startswith("mpath-"):
                mapped = self.dev / "mapper" / _text(candidate / "dm" / "name")
                return candidate, mapped if mapped.exists() else self.dev / candidate.name
        return None

    def _wwn(self, entry: Path, links: Iterable[Path]) -> str:
        """Return what a whole disk is called by itself; "" if it says nothing."""
        for attribute in ("dm/uuid", "wwid", "device/wwid"):
            told = _text(entry / attribute)
            if told and (attribute != "dm/uuid" or told.startswith("mpath-")):
                return normal_wwn(told)
        for link in links:
            if _BY_WWN.fullmatch(link.name):
                return normal_wwn(link.name)
        return ""

    def _links_to(self, real: Path) -> list[Path]:
        if not self.links.is_dir():
            return []
        return [link for link in sorted(self.links.iterdir()) if link.resolve() == real]


def distinct(devices: Iterable[BlockDevice]) -> list[BlockDevice]:
    """Join devices of one identity: the first one's path is used, the names of all are kept."""
    joined: dict[str, BlockDevice] = {}
    for device in devices:
        known = joined.setdefault(device.identity, device)
        if known is not device:
            names = dict.fromkeys((*known.paths, *device.paths))
            joined[device.identity] = BlockDevice(
                known.path, known.identity, tuple(names), known.partition
            )
    return list(joined.values())


def normal_wwn(told: str) -> str:
    """Return one form for what sysfs, udev's links and multipath make of a WWN.

    "naa.6000c29...", "wwn-0x6000c29...", "scsi-36000c29..." and "mpath-36000c29..." all become
    "6000c29..."; what is no WWN is returned in small letters, without the prefix.
    """
    text = _PREFIX.sub("", told.strip().lower(), count=1)
    matched = _NAA.fullmatch(text)
    return matched[1] if matched is not None else text


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip("\0 \n")
    except OSError:
        return ""
