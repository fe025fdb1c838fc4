"""Special files as Interix (Services for Unix) keeps them: system files with a magic.

ntfs-3g reads and writes them this way by default. A system file that is not hidden and empty is
a FIFO, one with a single byte a socket.

Source: ntfs-3g's layout.h (INTX_FILE); Microsoft publishes none.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.ntfs.names import to_wtf8

INTERIX_DEVICE = Layout(
    "Interix device file",
    Field("magic", "8s", at=0x00, note="IntxCHR or IntxBLK and a zero byte"),
    Field("major", "Q", at=0x08),
    Field("minor", "Q", at=0x10),
    size=24,
    source="ntfs-3g layout.h INTX_FILE (Services for Unix publishes none)",
)

LINK = b"IntxLNK\x01"
_DEVICES = {b"IntxCHR\0": stat.S_IFCHR, b"IntxBLK\0": stat.S_IFBLK}

MAX_SIZE = len(LINK) + 2 * 4096
"""Bytes of the largest: a link with a target of PATH_MAX code units."""

_MAX_MAJOR = (1 << 12) - 1
_MAX_MINOR = (1 << 20) - 1
"""What Linux's device numbers hold."""


class InterixFile(NamedTuple):
    """A special file."""

    type: int
    """As in st_mode."""
    size: int
    """Of what is stored."""
    target: bytes | None = None
    """Of a symbolic link."""
    rdev: int = 0


def decode_interix(content: bytes, *, hidden: bool) -> InterixFile | None:
    """Tell what a system file with this content is; None if just a file. Raises Corrupt."""
    if not hidden and len(content) < 2:
        return InterixFile(stat.S_IFSOCK if content else stat.S_IFIFO, len(content))
    magic = content[: len(LINK)]
    if magic == LINK and len(content) > len(LINK):
        units = content[len(LINK) :]
        if len(units) & 1:
            raise Corrupt(Damage.TARGET_OF_INTERIX_LINK, actual=len(units))
        return InterixFile(stat.S_IFLNK, len(content), to_wtf8(units))
    if magic in _DEVICES and len(content) == INTERIX_DEVICE.size:
        device = INTERIX_DEVICE.parse(content)
        if device.major > _MAX_MAJOR or device.minor > _MAX_MINOR:
            raise Corrupt(Damage.DEVICE_NUMBER, expected="12 and 20 bits", actual=device.major)
        return InterixFile(
            _DEVICES[magic], len(content), rdev=os.makedev(device.major, device.minor)
        )
    return None
