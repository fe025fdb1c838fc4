"""What is on a volume: the probes of all readable formats, in order, then names for the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmount.parsers.errors import NotRecognised, ParseError
from vmount.parsers.exfat import open_exfat
from vmount.parsers.ext.filesystem import open_ext
from vmount.parsers.fat import open_fat
from vmount.parsers.ntfs import open_ntfs
from vmount.parsers.xfs.filesystem import open_xfs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from vmount.parsers.model import Filesystem
    from vmount.parsers.ntfs import NtfsOptions
    from vmount.parsers.reader import BlockSource
    from vmount.parsers.signatures import Signature

PROBES: tuple[tuple[str, Callable[[BlockSource], Awaitable[Filesystem]]], ...] = (
    ("ext", open_ext),
    ("xfs", open_xfs),
    ("ntfs", open_ntfs),
    ("fat", open_fat),
    ("exfat", open_exfat),
)
"""In this order: a volume that was formatted anew may still hold the backup boot sector
of an NTFS or FAT.
A probe returns the open file system or raises NotRecognised to let the next one try."""

_DATASTORE = "a VMware datastore, not a disk of a VM; to see its files, name its LUN as san:DEVICE:"
_REMARKS = {
    "VMFS_volume_member": _DATASTORE,
    "VMFS": _DATASTORE,
    "swap": "swap space, which holds no files",
}
"""What to say of formats that are readable in another way."""


@dataclass(frozen=True)
class Detected:
    """What is on a volume."""

    fstype: str | None
    """As blkid names it; None if nothing was recognised."""
    label: str
    uuid: str
    filesystem: Filesystem | None
    """None if it cannot be read: `problem` says why."""
    problem: str | None


async def detect(
    reader: BlockSource, signature: Signature | None, ntfs: NtfsOptions | None = None
) -> Detected:
    """Say what is on a volume, and open it if its format is one that can be read.

    `signature` is what `identify` says of it; `ntfs` says how an NTFS is to be shown. Raises OSError where
    the volume cannot be read: that is not an answer to what is on it.
    """
    for name, probe in PROBES:
        try:
            filesystem: Filesystem
            if probe is open_ntfs and ntfs is not None:
                filesystem = await open_ntfs(reader, ntfs)
            else:
                filesystem = await probe(reader)
        except NotRecognised:
            continue
        except ParseError as error:
            return Detected(name, "", "", None, str(error))
        info = filesystem.info
        return Detected(info.fstype, info.label, info.uuid, filesystem, None)
    if signature is None:
        return Detected(None, "", "", None, "no known file system")
    unread = f"{signature.name} is not supported; its bytes are in the block file"
    problem = _REMARKS.get(signature.name, unread)
    return Detected(signature.name, signature.label, signature.uuid, None, problem)
