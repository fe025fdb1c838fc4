"""Reparse points: symbolic links, junctions, and files whose bytes are kept in some other way.

Source: MS-FSCC 2.1.2; the WSL ones as the kernel of WSL writes them.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from typing import Any

from parsers.errors import Corrupt
from parsers.layout import Field, Layout
from parsers.ntfs.names import to_wtf8

REPARSE_HEAD = Layout(
    "reparse point",
    Field("tag", "I"),
    Field("length", "H"),
    Field("reserved", "2x"),
)

MOUNT_POINT_NAMES = Layout(
    "mount point",
    Field("substitute_offset", "H"),
    Field("substitute_length", "H"),
    Field("print_offset", "H"),
    Field("print_length", "H"),
)

SYMLINK_NAMES = Layout("symbolic link", *MOUNT_POINT_NAMES.fields, Field("flags", "I"))

MAX_SIZE = 16 << 10
"""Bytes that Windows lets a reparse point have (MAXIMUM_REPARSE_DATA_BUFFER_SIZE)."""

MOUNT_POINT = 0xA0000003
SYMLINK = 0xA000000C
LX_SYMLINK = 0xA000001D
AF_UNIX = 0x80000023
LX_FIFO = 0x80000024
LX_CHR = 0x80000025
LX_BLK = 0x80000026
WOF = 0x80000017

LINKS = {MOUNT_POINT, SYMLINK, LX_SYMLINK}

SPECIAL_MODES = {
    AF_UNIX: stat.S_IFSOCK,
    LX_FIFO: stat.S_IFIFO,
    LX_CHR: stat.S_IFCHR,
    LX_BLK: stat.S_IFBLK,
}

_TAG_NAMES = {
    0x80000006: "HSM2",
    0x80000007: "single-instance storage",
    0x80000008: "WIM mount",
    0x8000000A: "DFS",
    0x80000012: "DFS replication",
    0x80000013: "data deduplication",
    0x80000014: "NFS",
    0x80000015: "file placeholder",
    WOF: "WOF compression (CompactOS)",
    0x80000018: "Windows container isolation",
    0x8000001B: "app execution link",
    0x8000001E: "Azure File Sync (Storage Sync)",
    0x80000021: "OneDrive",
    0x9000001C: "projected file system",
    0xC0000004: "HSM",
}

_CLOUD = 0x9000001A
_CLOUD_MASK = 0xFFFF0FFF
"""The cloud filter has 16 tags that differ in these four bits."""

_WOF_ALGORITHMS = ("XPRESS4K", "LZX", "XPRESS8K", "XPRESS16K")

_RELATIVE = 1
_LX_SYMLINK_VERSION = 2
_DRIVE = re.compile(rb"([A-Za-z]):(?:\\|$)")
_VOLUME = re.compile(rb"Volume\{([0-9A-Fa-f-]{36})\}(?:\\|$)")


@dataclass(frozen=True, slots=True)
class ReparseLink:
    r"""The target of a symbolic link or junction of Windows, taken apart for a mounter to retarget.

    Exactly one of these holds: `relative` (from the folder that the link is in), `drive` or `volume` or
    `remote` is set, or none is and the target starts at the root of the link's own volume (`\x`).
    """

    relative: bool
    parts: tuple[bytes, ...]
    r"""Names below that; ".." may be among them. For a remote target server and share come first."""
    drive: str | None = None
    """One upper-case letter."""
    volume: str | None = None
    """GUID of the volume in lower case, without braces."""
    remote: bool = False
    r"""On a server: `\\server\share\x`."""

    @property
    def path(self) -> bytes:
        """The target as text with "/" between names: `../x`, `C:/Users/x`, `Volume{...}/x`, `//server/x`."""
        path = b"/".join(self.parts)
        if self.relative:
            return path or b"."
        if self.drive:
            return f"{self.drive}:/".encode() + path
        if self.volume:
            return f"Volume{{{self.volume}}}/".encode() + path
        return (b"//" if self.remote else b"/") + path


@dataclass(frozen=True, slots=True)
class ReparsePoint:
    """A decoded reparse point."""

    tag: int
    link: ReparseLink | None = None
    """Of a symbolic link or junction of Windows."""
    target: bytes | None = None
    """Of every symbolic link: what readlink gives."""
    algorithm: str = ""
    """Of a file compressed with WOF."""

    @property
    def name(self) -> str:
        """What the tag is called."""
        if self.tag & _CLOUD_MASK == _CLOUD:
            return "cloud file placeholder"
        name = _TAG_NAMES.get(self.tag, f"reparse tag {self.tag:#010x}")
        return f"{name}, {self.algorithm}" if self.algorithm else name


def decode_reparse(value: bytes) -> ReparsePoint:
    """Decode the value of a $REPARSE_POINT attribute. Raises Corrupt."""
    head = REPARSE_HEAD.parse(value)
    data = value[REPARSE_HEAD.size : REPARSE_HEAD.size + head.length]
    if len(data) < head.length:
        raise Corrupt("length of a reparse point", expected=len(data), actual=head.length)
    tag: int = head.tag
    if tag == SYMLINK:
        names = SYMLINK_NAMES.parse(data)
        link = _link(names, data[SYMLINK_NAMES.size :], bool(names.flags & _RELATIVE))
        return ReparsePoint(tag, link, link.path)
    if tag == MOUNT_POINT:
        names = MOUNT_POINT_NAMES.parse(data)
        link = _link(names, data[MOUNT_POINT_NAMES.size :], relative=False)
        return ReparsePoint(tag, link, link.path)
    if tag == LX_SYMLINK:
        if int.from_bytes(data[:4], "little") != _LX_SYMLINK_VERSION:
            raise Corrupt("version of a WSL symbolic link", expected=_LX_SYMLINK_VERSION)
        return ReparsePoint(tag, target=data[4:])
    if tag == WOF:
        code = int.from_bytes(data[12:16], "little")
        known = len(data) >= 16 and code < len(_WOF_ALGORITHMS)
        return ReparsePoint(tag, algorithm=_WOF_ALGORITHMS[code] if known else "")
    return ReparsePoint(tag)


def _link(names: Any, buffer: bytes, relative: bool) -> ReparseLink:
    start, length = names.substitute_offset, names.substitute_length
    if start + length > len(buffer) or length & 1:
        raise Corrupt("name in a reparse point", expected=len(buffer), actual=start + length)
    target = to_wtf8(buffer[start : start + length])
    if relative and not target.startswith(b"\\"):
        return ReparseLink(True, _parts(target))
    device = target.startswith((b"\\??\\", b"\\\\?\\"))
    rest = target[4:] if device else target
    if drive := _DRIVE.match(rest):
        return ReparseLink(
            False, _parts(rest[drive.end() :]), drive=drive[1].decode("ascii").upper()
        )
    if volume := _VOLUME.match(rest):
        return ReparseLink(
            False, _parts(rest[volume.end() :]), volume=volume[1].decode("ascii").lower()
        )
    if device and rest.upper().startswith(b"UNC\\"):
        return ReparseLink(False, _parts(rest[4:]), remote=True)
    return ReparseLink(False, _parts(rest), remote=rest.startswith(b"\\\\"))


def _parts(path: bytes) -> tuple[bytes, ...]:
    return tuple(part for part in re.split(rb"[\\/]", path) if part not in (b"", b"."))
