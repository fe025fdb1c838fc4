"""A Linux guest's /etc/fstab: what it mounts where, and which of the volumes here that is.

Source: fstab(5); the names of links in /dev/disk: udev(7); of logical volumes: lvm(8).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from vmount.disks.disk import path_component

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmount.disks.disk import Disk
    from vmount.volumes.find import Found, Volume

MOST_ENTRIES = 1024
"""Lines of an fstab that are looked at; a real one has a few dozen."""

NOT_ON_DISKS = frozenset(
    {
        *("autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts"),
        *("devtmpfs", "efivarfs", "fusectl", "hugetlbfs", "mqueue", "proc", "pstore", "ramfs"),
        *("rpc_pipefs", "securityfs", "selinuxfs", "sysfs", "tmpfs", "tracefs", "usbfs"),
        *("ignore", "none", "swap"),
    }
)
"""Types of file systems that are on no disk, or hold no files."""

NETWORK = frozenset(
    {
        *("9p", "afs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "lustre", "ncpfs"),
        *("nfs", "nfs4", "ocfs2", "smb3", "smbfs", "virtiofs"),
    }
)
"""Types of file systems that a server or the host holds."""
FUSE = "fuse."
FUSE_ON_DISKS = frozenset({"fuse.exfat", "fuse.ntfs", "fuse.ntfs-3g"})
"""Of the types served by a program, those that are on a disk; the others are not, such as fuse.sshfs."""
MAY_BE_ABSENT = frozenset({"nofail", "_netdev"})
"""Options of a file system that the guest starts without, or reaches over a network (iSCSI)."""
NOT_ON_VIRTUAL_DISKS = ("/dev/sr", "/dev/cdrom", "/dev/fd", "/dev/dvd")
"""How the names of drives begin whose media are not disks of the VM."""

NOT_AT_BOOT = "noauto"
BIND = frozenset({"bind", "rbind"})
SUBVOLUME = ("subvol=", "subvolid=")

_ESCAPE = re.compile(rb"\\([0-7]{3})")
_HEX_ESCAPE = re.compile(r"\\x([0-9a-fA-F]{2})")
_SD = re.compile(r"/dev/(sd|hd|vd|xvd)([a-z]{1,2})(\d*)")
_NVME = re.compile(r"/dev/nvme(\d+)n(\d+)(?:p(\d+))?")
_HYPHENS = re.compile(r"(?<!-)((?:--)*)-(?!-)")


class FstabEntry(NamedTuple):
    """A line."""

    spec: str
    mount_point: bytes
    fstype: str
    options: tuple[str, ...]

    @property
    def is_bind(self) -> bool:
        """Say whether it shows a directory in another place."""
        return not BIND.isdisjoint(self.options)

    @property
    def subvolume(self) -> str | None:
        """The option that picks a Btrfs subvolume."""
        return next((text for text in self.options if text.startswith(SUBVOLUME)), None)

    @property
    def may_be_absent(self) -> bool:
        """Say whether it is no surprise that no disk has it."""
        return not MAY_BE_ABSENT.isdisjoint(self.options)

    @property
    def is_of_program(self) -> bool:
        """Say whether a program serves it, from somewhere else than a disk."""
        return self.fstype.startswith(FUSE) and self.fstype not in FUSE_ON_DISKS

    @property
    def is_of_disk(self) -> bool:
        """Say whether it is mounted at boot, from some disk."""
        local = self.spec.startswith("/") or "=" in self.spec.partition(":")[0]
        local = local and not self.spec.startswith(("//", *NOT_ON_VIRTUAL_DISKS))
        absolute = self.mount_point.startswith(b"/")
        stored = self.fstype not in NOT_ON_DISKS or self.is_bind
        if self.fstype in NETWORK or self.is_of_program:
            stored = False
        return local and absolute and stored and NOT_AT_BOOT not in self.options


def parse_fstab(text: bytes) -> list[FstabEntry]:
    """Return the lines that are not comments, with escapes resolved; lines that are no entries are left out."""
    entries = []
    for line in text.split(b"\n")[:MOST_ENTRIES]:
        fields = [_unescape(part) for part in line.split()]
        if len(fields) < 2 or fields[0].startswith(b"#"):
            continue
        spec = fields[0].decode("utf-8", "surrogateescape")
        fstype, options = (part.decode("utf-8", "replace") for part in (*fields[2:4], b"", b"")[:2])
        entries.append(FstabEntry(spec, fields[1], fstype, tuple(options.split(","))))
    return entries


def _unescape(field: bytes) -> bytes:
    return _ESCAPE.sub(lambda matched: bytes([int(matched[1], 8) & 0xFF]), field)


def find_volumes_of(spec: str, found: Found) -> list[Volume]:
    """Return the volumes that the first field of a line may mean; several where there are clones."""
    tag, equals, value = spec.partition("=")
    if equals and not spec.startswith("/"):
        return _tagged(tag.upper(), value.strip("\"'"), found)
    for folder, tag in (
        ("/dev/disk/by-uuid/", "UUID"),
        ("/dev/disk/by-label/", "LABEL"),
        ("/dev/disk/by-partuuid/", "PARTUUID"),
        ("/dev/disk/by-partlabel/", "PARTLABEL"),
    ):
        if spec.startswith(folder):
            name = _HEX_ESCAPE.sub(lambda matched: f"%{matched[1]}", spec.removeprefix(folder))
            return _tagged(tag, unquote(name), found)
    if spec.startswith("/dev/mapper/"):
        return _logical(spec.removeprefix("/dev/mapper/"), found)
    if matched := _SD.fullmatch(spec):
        disks = [content.disk for content in found.contents if not _is_nvme(content.disk)]
        return _partition(disks, _letters(matched[2]), matched[3], found)
    if matched := _NVME.fullmatch(spec):
        return _nvme(int(matched[1]), int(matched[2]), matched[3] or "", found)
    parts = spec.split("/")
    if spec.startswith("/dev/md"):
        title = parts[-1].removeprefix("md") if len(parts) == 3 else parts[-1]
        wanted = path_component(f"md-{title}")
        return [each for each in found.volumes if each.kind == "md" and each.name == wanted]
    if len(parts) == 4 and parts[1] == "dev":
        return _logical("-".join(part.replace("-", "--") for part in parts[2:]), found)
    return []


def _tagged(tag: str, value: str, found: Found) -> list[Volume]:
    tables = {content.disk.name: content.table for content in found.contents}

    def part_uuid(volume: Volume) -> str:
        table = tables[volume.extents[0].disk] if volume.partition is not None else None
        return (
            "" if table is None or volume.partition is None else table.part_uuid(volume.partition)
        )

    pickers: dict[str, Callable[[Volume], bool]] = {
        "UUID": lambda volume: volume.uuid.lower() == value.lower(),
        "LABEL": lambda volume: volume.label == value,
        "PARTUUID": lambda volume: part_uuid(volume).lower() == value.lower(),
        "PARTLABEL": lambda volume: volume.partition is not None and volume.partition.name == value,
    }
    if tag not in pickers or not value:
        return []
    # A member of an array or a container carries a UUID too, but not that of what is mounted.
    fits = [volume for volume in found.volumes if pickers[tag](volume)]
    return [volume for volume in fits if volume.filesystem is not None] or fits


def _logical(name: str, found: Found) -> list[Volume]:
    """Return the logical volume that device-mapper calls `name`: GROUP-VOLUME, their own hyphens doubled."""
    # What is left when the doubled ones are taken out is the one between the two; a volume's name does not
    # begin with one, so of an odd number in a row it is the last.
    ends = [matched.end() for matched in _HYPHENS.finditer(name)]
    if len(ends) != 1:
        return []
    wanted = name[: ends[0] - 1].replace("--", "-"), name[ends[0] :].replace("--", "-")
    return [each for each in found.volumes if each.device.logical == wanted]


def _is_nvme(disk: Disk) -> bool:
    return disk.name.startswith("nvme")


def _nvme(controller: int, namespace: int, number: str, found: Found) -> list[Volume]:
    disks = [content.disk for content in found.contents]
    named = [disk for disk in disks if _is_nvme(disk)]
    exact = [disk for disk in named if disk.name == f"nvme{controller}-{namespace - 1}"]
    if exact:
        return _partition(exact, 0, number, found)
    # Names that tell nothing of controllers: the disks as they come.
    return _partition([] if named or namespace != 1 else disks, controller, number, found)


def _partition(disks: list[Disk], index: int, number: str, found: Found) -> list[Volume]:
    if index >= len(disks):
        return []
    name = disks[index].name + (f"-p{int(number)}" if number else "")
    return [volume for volume in found.volumes if volume.name == name]


def _letters(text: str) -> int:
    """Return the place of a disk by its letters: a is 0, z 25, aa 26."""
    value = 0
    for letter in text:
        value = value * 26 + ord(letter) - ord("a") + 1
    return value - 1
