"""Links of Windows that name a drive or a volume, as links within a mount.

A junction to `C:\\Users` on the volume of E: is shown as `../../drives/C/Users`; one to a volume by its GUID, or
to the root of its own volume, leads into `volumes/`. What leads to no volume of the set stays the text that
the guest has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.parsers.model import LinkTargets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmount.guest.drives import Drives
    from vmount.parsers.model import Filesystem, Ino, ReparseLink

DIRECTORIES_ABOVE = 2
"""Of the root of a volume: volumes/ and its own."""


class DriveLinks:
    """Retargets links. `shown_as` has the names of directories in volumes/ by names of volumes,
    `filesystems` what is on them."""

    def __init__(
        self,
        drives: Drives,
        shown_as: Mapping[str, str],
        filesystems: Mapping[str, Filesystem] | None = None,
    ) -> None:
        self._drives = drives
        self._shown_as = shown_as
        self._filesystems = filesystems or {}

    def path(self, link: ReparseLink, home: str) -> bytes | None:
        """Return where a link on the volume `home` leads, from the root of the mount.

        None if it is relative, or leads to nothing in the mount.
        """
        found = self._place(link, home)
        return None if found is None else b"/".join([found[1], *found[2]])

    def _place(self, link: ReparseLink, home: str) -> tuple[str, bytes, list[bytes]] | None:
        """Return the volume that a link leads to, where that is in the mount, and the path on it."""
        volume = self._drives.volume_of(link, home)
        if volume is None or volume not in self._shown_as:
            return None
        if link.drive is not None:
            top = f"drives/{link.drive}"
        else:
            top = f"volumes/{self._shown_as[volume]}"
        parts: list[bytes] = []
        for part in link.parts:
            # Windows takes ".." out of a path before it walks; it does not lead above the volume.
            if part == b"..":
                del parts[-1:]
            else:
                parts.append(part)
        return volume, top.encode("utf-8", "surrogateescape"), parts

    async def target(self, filesystem: LinkTargets, ino: Ino, home: str) -> bytes | None:
        """Return the target of a link as a path from the directory that it is in, None as `path` does."""
        link = await filesystem.reparse_link(ino)
        found = None if link is None else self._place(link, home)
        if found is None:
            return None
        volume, top, parts = found
        there = self._filesystems.get(volume)
        if isinstance(there, LinkTargets):
            parts = await there.spelled(there.root, parts)
        up = b"../" * (DIRECTORIES_ABOVE + await filesystem.depth(ino))
        return up + b"/".join([top, *parts])
