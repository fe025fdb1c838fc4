"""Undoing what a process that is dead has left in vCenter or on a host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.state.undo_records import AttachedDisk, RelocationLock, Snapshot
from vmount.vsphere import snapshots
from vmount.vsphere.access import consolidation_needed
from vmount.vsphere.attached_disks import detach
from vmount.vsphere.locks import RelocationLocks

if TYPE_CHECKING:
    from vmount.state import Entry, StateDir
    from vmount.vsphere.session import Session


async def undo(session: Session, entry: Entry, state: StateDir) -> str:
    """Undo a thing and end its entry; return what was done. Raises VmountError, and the entry stays."""
    undo_record = entry.undo_record
    if isinstance(undo_record, RelocationLock):
        if await RelocationLocks(session, state).release(entry, is_sure=False):
            return f"unlocked {undo_record.vm}"
        return f"left {undo_record.vm} to the locks of others"
    if isinstance(undo_record, Snapshot):
        was_there = await snapshots.undo(session, undo_record)
        entry.end()
        if not was_there:
            return f"{undo_record} no longer exists"
        text = f"removed {undo_record}"
        if await snapshots.needs_consolidation(session, undo_record.vm):
            text += f" ({consolidation_needed(undo_record.vm)})"
        return text
    assert isinstance(undo_record, AttachedDisk)
    was_there = await detach(session, undo_record)
    entry.end()
    return (
        f"detached {undo_record.file} from {undo_record.vm}"
        if was_there
        else f"{undo_record} no longer exists"
    )
