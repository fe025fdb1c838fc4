"""Reparse points: symbolic links, junctions, and files whose bytes are kept in some other way.

Source: MS-FSCC 2.1.2; the WSL ones as the kernel of WSL writes them.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from typing import Any

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.model import ReparseLink
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.ntfs.names import to_wtf8
from vmount.parsers.ntfs.reparse_tags import (
    AF_UNIX,
    LX_BLK,
    LX_CHR,
    LX_FIFO,
    LX_SYMLINK,
    MOUNT_POINT,
    SYMLINK,
    tag_name,
)
from vmount.parsers.reader import check_bounds

REPARSE_HEAD = Layout(
    "reparse point",
    Field("tag", "I", at=0x00, note="ReparseTag"),
    Field("length", "H", at=0x04, note="ReparseDataLength: bytes behind this header"),
    Field("reserved", "2x", at=0x06),
    size=8,
    source="[MS-FSCC] 2.1.2.2 REPARSE_DATA_BUFFER",
)

_head = REPARSE_HEAD.picker("tag", "length").unpack_from

MOUNT_POINT_NAMES = Layout(
    "mount point",
    Field(
        "substitute_offset",
        "H",
        at=0x00,
        note="SubstituteNameOffset: bytes from the end of the structure, as print_offset",
    ),
    Field("substitute_length", "H", at=0x02, note="bytes"),
    Field("print_offset", "H", at=0x04, note="PrintNameOffset: of the name for display"),
    Field("print_length", "H", at=0x06, note="bytes"),
    size=8,
    source="[MS-FSCC] 2.1.2.5 Mount Point Reparse Data Buffer",
)

SYMLINK_NAMES = Layout(
    "symbolic link",
    *MOUNT_POINT_NAMES.fields,
    Field("flags", "I", at=0x08, note="1: SYMLINK_FLAG_RELATIVE"),
    size=12,
    source="[MS-FSCC] 2.1.2.4 Symbolic Link Reparse Data Buffer",
)

MAX_SIZE = 16 << 10
"""Bytes that Windows lets a reparse point have (MAXIMUM_REPARSE_DATA_BUFFER_SIZE)."""

LINKS = {MOUNT_POINT, SYMLINK, LX_SYMLINK}

SPECIAL_MODES = {
    AF_UNIX: stat.S_IFSOCK,
    LX_FIFO: stat.S_IFIFO,
    LX_CHR: stat.S_IFCHR,
    LX_BLK: stat.S_IFBLK,
}

_RELATIVE = 1
_LX_SYMLINK_VERSION = 2
_DRIVE = re.compile(rb"([A-Za-z]):(?:\\|$)")
_VOLUME = re.compile(rb"Volume\{([0-9A-Fa-f-]{36})\}(?:\\|$)")


@dataclass(frozen=True, slots=True)
class ReparsePoint:
    """A decoded reparse point."""

    tag: int
    link: ReparseLink | None = None
    """Of a symbolic link or junction of Windows."""
    target: bytes | None = None
    """Of every symbolic link: what readlink gives."""
    data: bytes = b""
    """What follows the tag, where it is not taken apart above."""

    @property
    def name(self) -> str:
        """What the tag is called."""
        return tag_name(self.tag)


def decode_reparse(value: bytes) -> ReparsePoint:
    """Decode the value of a $REPARSE_POINT attribute. Raises Corrupt."""
    check_bounds(0, REPARSE_HEAD.size, len(value))
    tag, length = _head(value)
    data = value[REPARSE_HEAD.size : REPARSE_HEAD.size + length]
    if len(data) < length:
        raise Corrupt(Damage.LENGTH_OF_REPARSE_POINT, expected=len(data), actual=length)
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
            raise Corrupt(Damage.VERSION_OF_WSL_SYMBOLIC_LINK, expected=_LX_SYMLINK_VERSION)
        return ReparsePoint(tag, target=data[4:])
    return ReparsePoint(tag, data=data)


def _link(names: Any, buffer: bytes, relative: bool) -> ReparseLink:
    start, length = names.substitute_offset, names.substitute_length
    if start + length > len(buffer) or length & 1:
        raise Corrupt(Damage.NAME_IN_REPARSE_POINT, expected=len(buffer), actual=start + length)
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
