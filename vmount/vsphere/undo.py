"""Undoing what a process that is dead has left in vCenter or on a host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.state.things import AttachedDisk, RelocationLock, Snapshot
from vmount.vsphere import snapshots
from vmount.vsphere.access import consolidation_needed
from vmount.vsphere.attached_disks import detach
from vmount.vsphere.locks import RelocationLocks

if TYPE_CHECKING:
    from vmount.state import Entry, StateDir
    from vmount.vsphere.session import Session


async def undo(session: Session, entry: Entry, state: StateDir) -> str:
    """Undo a thing and end its entry; return what was done. Raises VmountError, and the entry stays."""
    thing = entry.thing
    if isinstance(thing, RelocationLock):
        if await RelocationLocks(session, state).release(entry, is_sure=False):
            return f"unlocked {thing.vm}"
        return f"left {thing.vm} locked for others"
    if isinstance(thing, Snapshot):
        was_there = await snapshots.undo(session, thing)
        entry.end()
        if not was_there:
            return f"{thing} is gone already"
        text = f"removed {thing}"
        if await snapshots.needs_consolidation(session, thing.vm):
            text += f" ({consolidation_needed(thing.vm)})"
        return text
    assert isinstance(thing, AttachedDisk)
    was_there = await detach(session, thing)
    entry.end()
    return f"detached {thing.file} from {thing.vm}" if was_there else f"{thing} is gone already"
