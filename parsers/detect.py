"""What is on a volume: the probes of all readable formats, in order, then names for the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from vmount.parsers.errors import NotRecognised, ParseError
from vmount.parsers.exfat import open_exfat
from vmount.parsers.ext.filesystem import open_ext
from vmount.parsers.fat import open_fat
from vmount.parsers.ntfs import NtfsOptions, open_ntfs
from vmount.parsers.xfs.filesystem import open_xfs

if TYPE_CHECKING:
    from vmount.parsers.model import Filesystem
    from vmount.parsers.reader import BlockSource
    from vmount.parsers.signatures import Signature


@dataclass(frozen=True)
class FilesystemOptions:
    """How file systems are to be shown, by format. Formats that are not named have no options."""

    ntfs: NtfsOptions = field(default_factory=NtfsOptions)


@dataclass(frozen=True)
class Candidate:
    """What a probe is given."""

    reader: BlockSource
    """The volume."""
    options: FilesystemOptions = field(default_factory=FilesystemOptions)
    devices: Sequence[BlockSource] = ()
    """All volumes of the set, this one among them: for formats that span several."""


class Probe(NamedTuple):
    """How a format is opened."""

    name: str
    open: Callable[[Candidate], Awaitable[Filesystem]]
    """Raises NotRecognised to let the next probe try."""


PROBES: tuple[Probe, ...] = (
    Probe("ext", lambda volume: open_ext(volume.reader)),
    Probe("xfs", lambda volume: open_xfs(volume.reader)),
    Probe("ntfs", lambda volume: open_ntfs(volume.reader, volume.options.ntfs)),
    Probe("fat", lambda volume: open_fat(volume.reader)),
    Probe("exfat", lambda volume: open_exfat(volume.reader)),
)
"""In this order: a volume that was formatted again may still hold the backup boot sector of an NTFS or FAT.
A new format is a package with its `open`, and a line here."""

_DATASTORE = "a VMware datastore, not a disk of a VM; to see its files, name its LUN as san:DEVICE:"
_REMARKS = {"VMFS_volume_member": _DATASTORE, "VMFS": _DATASTORE}
"""What to say of formats that are readable in another way."""

NO_FILES = {
    "swap": "swap space, which holds no files",
    "swsuspend": "swap space with the memory of a hibernated system, which holds no files",
    "jbd": "the journal of another volume, which holds no files",
    "DM_verity_hash": "the checksums of another volume, which holds no files",
}
"""Formats that are no file systems, and what to say of them."""

EMPTY = "empty: it begins and ends with zeros"
HEAD, TAIL = 1 << 20, 128 << 10
"""Bytes at the beginning and the end of a volume: whatever format it has leaves something there."""


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
    has_files: bool = True
    """False: it is known to hold no files."""


async def detect(volume: Candidate, signature: Signature | None) -> Detected:
    """Find out what is on a volume, and open it if its format can be read.

    `signature` is what `identify` says of it. Raises OSError where the volume cannot be read: that is not an
    answer to what is on it.
    """
    for name, probe in PROBES:
        try:
            filesystem = await probe(volume)
        except NotRecognised:
            continue
        except ParseError as error:
            return Detected(name, "", "", None, str(error))
        info = filesystem.info
        return Detected(info.fstype, info.label, info.uuid, filesystem, None)
    if signature is None and await _is_empty(volume.reader):
        return Detected(None, "", "", None, EMPTY, has_files=False)
    if signature is None:
        return Detected(None, "", "", None, "no known file system")
    if (text := NO_FILES.get(signature.name)) is not None:
        return Detected(
            signature.name, signature.label, signature.uuid, None, text, has_files=False
        )
    unread = f"{signature.name} is not supported; its bytes are in the block file"
    problem = _REMARKS.get(signature.name, unread)
    return Detected(signature.name, signature.label, signature.uuid, None, problem)


async def _is_empty(reader: BlockSource) -> bool:
    """Say whether a volume has never been formatted. Raises OSError."""
    head = min(HEAD, reader.size)
    tail = min(TAIL, reader.size - head)
    for offset, length in ((0, head), (reader.size - tail, tail)):
        if any(await reader.read(offset, length)):
            return False
    return True
