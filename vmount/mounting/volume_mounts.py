"""Which volumes a mount shows: reference counts, dismounting one while others stay.

All are shown at first, or those that were asked for. Who mounts a volume again adds a reference; it goes
when the last one is given back, or by force.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from vmount.errors import MountError, SourceError, UsageError
from vmount.mounting.unmount import in_use

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vmount.disk_set import OpenDiskSet
    from vmount.tree.tree import Tree
    from vmount.volumes.find import Volume

log = logging.getLogger(__name__)


class FrontEnd(Protocol):
    """What serves a tree: the kernel's file system, or something else that readers come through."""

    @property
    def open_files(self) -> int:
        """Files and directories open now."""
        ...

    @property
    def bytes_read(self) -> int:
        """Bytes given to readers so far."""
        ...

    def has_open(self, volumes: Sequence[int]) -> bool:
        """Say whether a file or directory of these volumes (numbers as in the tree) is open."""
        ...

    def cut_off(self, volumes: Sequence[int]) -> None:
        """Let every further read of the open files of these volumes fail."""
        ...

    async def forget_names(self, names: Sequence[tuple[int, bytes]]) -> None:
        """Ask the tree again for names that may have been kept, each given by its directory's number."""
        ...


@dataclass(frozen=True)
class VolumeState:
    """A volume of a mount."""

    name: str
    references: int
    """0: its files are not shown."""
    path: str | None
    """The directory of its files; None while they are not shown."""
    problem: str | None


class VolumeMounts:
    """The volumes of a tree that is being served at `top`."""

    def __init__(self, manager: OpenDiskSet, tree: Tree, front_end: FrontEnd, top: str) -> None:
        self._manager = manager
        self._tree = tree
        self._front_end = front_end
        self._top = top
        self._references = {
            volume.name: 1 for volume in manager.volumes if volume.filesystem is not None
        }

    def show_only(self, names: Iterable[str]) -> None:
        """Dismount all but these, before anything is served. Raises UsageError, SourceError."""
        wanted = {self._volume(name).name for name in names}
        for name in self._references:
            if name not in wanted:
                self._references[name] = 0
                self._tree.hide(name)

    def states(self) -> list[VolumeState]:
        """Return all volumes, those without readable files too."""
        return [self._state(volume) for volume in self._manager.volumes]

    async def mount(self, name: str) -> VolumeState:
        """Add a reference; the volume is shown from now on. Raises UsageError, SourceError."""
        volume = self._volume(name)
        self._references[name] += 1
        if self._references[name] == 1:
            await self._front_end.forget_names(self._tree.reveal(name))
        return self._state(volume)

    async def dismount(
        self, name: str, *, force: bool = False, holders: Sequence[tuple[int, str]] = ()
    ) -> VolumeState:
        """Give a reference back, or with `force` all of them. With the last, the files go.

        `holders` are processes, number and name, that who asks has seen using them.
        Raises BusyError, naming who uses them, if there are open files and no `force`; MountError if it is
        not mounted; UsageError, SourceError.
        """
        volume = self._volume(name)
        references = self._references[name]
        if references == 0:
            raise MountError(f"{name}: not mounted")
        if references > 1 and not force:
            self._references[name] -= 1
            return self._state(volume)
        numbers = self._tree.numbers_of(name)
        if not force and (holders or self._front_end.has_open(numbers)):
            raise in_use(self._path(name), holders)
        self._references[name] = 0
        gone = self._tree.hide(name)
        self._front_end.cut_off(numbers)
        await self._front_end.forget_names(gone)
        log.info("%s: dismounted", name)
        return self._state(volume)

    def _volume(self, name: str) -> Volume:
        for volume in self._manager.volumes:
            if volume.name == name:
                if volume.filesystem is None:
                    problem = volume.problem or "no readable file system"
                    raise SourceError(f"{name}: {problem}")
                return volume
        known = ", ".join(volume.name for volume in self._manager.volumes)
        raise UsageError(f"{name}: no such volume", remedy=f"the volumes are: {known or 'none'}")

    def _state(self, volume: Volume) -> VolumeState:
        references = self._references.get(volume.name, 0)
        path = self._path(volume.name) if references else None
        return VolumeState(volume.name, references, path, volume.problem)

    def _path(self, name: str) -> str:
        return f"{self._top}/volumes/{self._tree.shown_as[name]}"
