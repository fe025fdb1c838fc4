"""Noticing that the bytes of a VM's disks may have changed while they are read.

Nothing keeps others from removing the snapshot that is read, or from switching on a machine that was off
and is read without one. Either writes to the files that were at rest.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING

import trio

from vmount.errors import VmountError
from vmount.vsphere.snapshot_tree import Power, SnapshotNode, read_tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.reader import BlockSource, Buffer, Span
    from vmount.vsphere.session import Session

log = logging.getLogger(__name__)

INTERVAL = 15.0
"""Seconds between looks. Each is one small call, and keeps the session from expiring."""


class Stability:
    """Whether a machine's disks are still what they were when they were opened."""

    def __init__(self, vm: str, node: SnapshotNode | None) -> None:
        self.problem: str | None = None
        """What has happened: what is read from then on may be wrong, and must not be handed out."""
        self.changed = trio.Event()
        """Set together with `problem`."""
        self._vm = vm
        self._node = node

    async def watch(self, session: Session, interval: float = INTERVAL) -> None:
        """Look again and again until something has happened. A server that is away is waited for."""
        while self.problem is None:
            await trio.sleep(interval)
            await self.look(session)

    async def look(self, session: Session) -> None:
        """Look once."""
        try:
            found = await session.properties(session.vm(self._vm), "runtime.powerState", "snapshot")
        except VmountError as error:
            log.info("%s: not monitored: %s", self._vm, error)
            return
        power = str(found.get("runtime.powerState", ""))
        if self._node is None:
            if power not in ("", Power.OFF.value):
                self._tell("the VM was powered on, and writes to the disks")
        elif self._node.moref not in {node.moref for node in read_tree(found.get("snapshot"))}:
            self._tell(f"snapshot {self._node} was removed by another program or user")

    def _tell(self, problem: str) -> None:
        self.problem = f"{self._vm}: {problem}"
        log.error("%s; data read from now on may be wrong", self.problem)
        self.changed.set()

    def check(self) -> None:
        """Raise OSError (EIO) if something has happened."""
        if self.problem is not None:
            raise OSError(errno.EIO, self.problem)


class WatchedDisk:
    """A disk of a machine that is looked after: once something has happened, nothing is read any more."""

    def __init__(self, disk: BlockSource, stability: Stability) -> None:
        self.size = disk.size
        self._disk = disk
        self._stability = stability

    def try_read(self, offset: int, length: int) -> Buffer | None:
        """Return the bytes if the disk has them at hand. Raises as `read` does."""
        self._stability.check()
        return self._disk.try_read(offset, length)

    async def read(self, offset: int, length: int) -> Buffer:
        """Return the bytes. Raises OSError once others may have changed them."""
        self._stability.check()
        found = await self._disk.read(offset, length)
        self._stability.check()
        return found

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Pass the hint on."""
        self._disk.prefetch(spans)
