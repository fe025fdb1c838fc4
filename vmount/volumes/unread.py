"""What of a set of disks cannot be read at all, and so is in no listing: disks and volumes.

What holds no files is not among it: swap, space that is empty, the members of a volume manager's set
(the volumes made of them count in their place), a boot loader's partition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vmount.disks.disk import path_component

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vmount.volumes.find import DiskContent, Volume

DISK, VOLUME, DIRECTORY, FILE = "disk", "volume", "directory", "file"
"""Kinds of `Unread`."""


class Unread(NamedTuple):
    """Something that could not be read."""

    kind: str
    """DISK, VOLUME, DIRECTORY (it cannot be listed) or FILE."""
    path: str
    """As in a mount: "disks/scsi0-1.raw", "volumes/scsi0-0-p2"."""
    reason: str

    def as_object(self) -> dict[str, str]:
        """Return it as something that fits JSON."""
        return self._asdict()


def find_unread(contents: Iterable[DiskContent], volumes: Iterable[Volume]) -> Sequence[Unread]:
    """Return the disks that cannot be opened or have no readable partition table, and the volumes whose
    files cannot be read."""
    found = []
    for content in contents:
        reason = content.disk.problem or content.problem
        if reason is not None:
            found.append(Unread(DISK, f"disks/{path_component(content.disk.name)}.raw", reason))
    for volume in volumes:
        if volume.filesystem is None and volume.has_files:
            reason = volume.problem or "it cannot be read"
            found.append(Unread(VOLUME, f"volumes/{path_component(volume.name)}", reason))
    return found
