"""A disk set: the disks that are open together, and their volumes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vmount.guest import Guest, find_guest
from vmount.options import OpenOptions
from vmount.sources.base import Opening
from vmount.sources.opening import open_sources
from vmount.volumes.find import Found, find_volumes
from vmount.volumes.unread import VOLUME, Unread, find_unread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.disks.disk import Disk
    from vmount.runtime import Runtime
    from vmount.sources.virtual_machine import VmInfo
    from vmount.state import Journal

log = logging.getLogger(__name__)


class OpenDiskSet:
    """All disks of a machine, open read-only, and all volumes on them. Close it when done."""

    def __init__(
        self, sources: Sequence[str], opening: Opening, found: Found, guest: Guest
    ) -> None:
        self.sources = tuple(sources)
        self.contents = found.contents
        self.volumes = found.volumes
        """Disk by disk; then those made of several pieces."""
        self.guest = guest
        self._found_warnings = found.warnings
        self._opening = opening

    @classmethod
    async def open(
        cls,
        sources: Sequence[str],
        runtime: Runtime,
        options: OpenOptions | None = None,
        journal: Journal | None = None,
    ) -> OpenDiskSet:
        """Open the disks that `sources` name, find their volumes and what the guest does with them.

        Raises SourceError if a source cannot be opened, UsageError for a drive letter of a volume that is
        not there; then nothing stays open. What must be undone is written to the journal, which only
        virtual machines need. Warnings about the disks are logged, and those about the guest are not: who
        reads one file of a guest does not ask about its fstab.
        """
        options = options or OpenOptions()
        opening = Opening(runtime, journal, options)
        try:
            disks = await open_sources(sources, opening)
            found = await find_volumes(disks, runtime, options.filesystems)
            guest = await find_guest(found, runtime, options.drives)
            manager = cls(sources, opening, found, guest)
        except BaseException:
            await opening.stack.aclose()
            raise
        for warning in manager.source_warnings:
            log.warning("%s", warning)
        return manager

    @property
    def disks(self) -> tuple[Disk, ...]:
        """The disks in the order given."""
        return tuple(content.disk for content in self.contents)

    @property
    def machines(self) -> tuple[VmInfo, ...]:
        """Facts about the VMs among the sources."""
        return tuple(self._opening.machines)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know, one sentence each."""
        return self.source_warnings + self.guest.warnings

    @property
    def source_warnings(self) -> tuple[str, ...]:
        """Those about disks and volumes: what of them cannot be read, or not as it should be."""
        texts: list[str] = []
        for content in self.contents:
            texts += [f"{content.disk.name}: {text}" for text in content.disk.warnings]
            if content.disk.problem is not None:
                texts.append(f"{content.disk.name}: {content.disk.problem}")
            texts += content.warnings
        texts += self._found_warnings
        for volume in self.volumes:
            texts += volume.warnings
        return tuple(texts)

    @property
    def unread(self) -> tuple[Unread, ...]:
        """The disks and volumes that cannot be read, and what the guest's own tree lacks of them."""
        root = (Unread(VOLUME, f"root{path}", reason) for path, reason in self.guest.unread)
        return (*find_unread(self.contents, self.volumes), *root)

    async def aclose(self) -> None:
        """Release the sources. A second call does nothing."""
        await self._opening.stack.aclose()
