"""Taking a snapshot to read from, and removing it.

Strategy: a snapshot is known by a name that no other has, written to the journal before it is asked for.
So it is found again even if the answer was lost, the time ran out or the process was killed in between.
A request is never abandoned: a cancelled caller waits (for a bounded time) and checks the result.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import trio
from pyVmomi import vim

from vmount.errors import Remedy, SourceError, VmountError
from vmount.state.undo_records import Snapshot
from vmount.vsphere.access_options import Quiesce
from vmount.vsphere.errors import ObjectGone, TaskTimeout, VsphereError, reason
from vmount.vsphere.recorded import server_of
from vmount.vsphere.snapshot_tree import SnapshotNode, read_tree

if TYPE_CHECKING:
    from vmount.state import Entry, Journal
    from vmount.vsphere.session import Session

log = logging.getLogger(__name__)

MARK = "vmount"
"""Names of our snapshots begin with it."""
LONGEST_HOST = 30
"""Characters of the host's name in a snapshot's, which has room for 80."""
CREATE_LIMIT = 900.0
"""Seconds until the creation of a snapshot is given up: quiescing may take minutes."""
REMOVE_LIMIT = 3600.0
"""Seconds until the removal of a snapshot is no longer waited for: what the machine has written since is
moved, which takes as long as that is much."""
GIVE_UP_LIMIT = 120.0
"""Seconds to wait for what has been asked for and is not wanted any more."""
POLL = 1.0
BUSY_POLL = 2.0
"""Seconds between attempts while another task of the machine is in the way."""

CREATE_TASK = "VirtualMachine.createSnapshot"
UNDERWAY = ("queued", "running")
QUIESCE_FAULTS = (
    vim.fault.ApplicationQuiesceFault,
    vim.fault.FilesystemQuiesceFault,
    vim.fault.ToolsUnavailable,
)


class SnapshotError(SourceError):
    """A snapshot cannot be taken or removed."""


class QuiesceError(SnapshotError):
    """The guest did not bring its disks into order."""


def new_name(now: datetime | None = None) -> str:
    """Return a name for a snapshot that says whose it is, and that no other has."""
    at = (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    host = socket.gethostname()[:LONGEST_HOST]
    return f"{MARK} {host}[{os.getpid()}] {at} {secrets.token_hex(4)}"


async def create(
    session: Session, vm: str, journal: Journal | None, quiesce: Quiesce
) -> tuple[Entry | None, SnapshotNode]:
    """Take a snapshot of a machine (its moRef); return its entry in the journal, and it.

    Without a journal it is made to be kept. Raises SnapshotError; then there is no snapshot, or the entry
    stays in the journal. QuiesceError if the guest is the trouble.
    """
    try:
        return await _create(session, vm, journal, quiesced=quiesce is not Quiesce.NO)
    except QuiesceError as error:
        if quiesce is not Quiesce.TRY:
            raise
        log.warning("%s; taking a snapshot without quiescing", error.message)
        return await _create(session, vm, journal, quiesced=False)


async def _create(
    session: Session, vm: str, journal: Journal | None, *, quiesced: bool
) -> tuple[Entry | None, SnapshotNode]:
    undo_record = Snapshot(server_of(session), vm, new_name())
    entry = None if journal is None else journal.begin(undo_record)
    try:
        task = await session.call(_ask, session.vm(vm), undo_record.name, quiesced)
        await session.wait_task(task, CREATE_LIMIT)
        (node, *_) = await _find(session, undo_record)
    except VmountError as error:
        await _give_up(session, entry, undo_record)
        raise _error(vm, error, quiesced=quiesced) from error.__cause__
    except trio.Cancelled:
        await _give_up(session, entry, undo_record)
        raise
    if entry is not None:
        entry.update(replace(undo_record, moref=node.moref))
    return entry, node


async def _give_up(session: Session, entry: Entry | None, undo_record: Snapshot) -> None:
    """Remove what may have been made all the same."""
    with trio.CancelScope(shield=True):
        try:
            await undo(session, undo_record, GIVE_UP_LIMIT)
        except VmountError as error:
            log.warning("%s may remain: %s; run: vmount cleanup", undo_record, error)
            return
    if entry is not None:
        entry.end()


async def undo(session: Session, undo_record: Snapshot, limit: float = REMOVE_LIMIT) -> bool:
    """Remove a snapshot, and wait for the end of that; False if it is gone already.

    It is known by its moRef and by its name: one may not be known yet, the other have been changed. One
    that is being taken is waited for. Raises SnapshotError, or what the session raises.
    """
    deadline = trio.current_time() + limit
    try:
        while True:
            # In this order: a task that ends in between has left its snapshot in the tree.
            is_coming = not undo_record.moref and await _is_coming(session, undo_record.vm)
            found = await _find(session, undo_record)
            if found or not is_coming:
                break
            if trio.current_time() > deadline:
                raise SnapshotError(f"{undo_record}: not finished after {limit:.0f} s")
            await trio.sleep(POLL)
        for node in found:
            await _remove(session, replace(undo_record, moref=node.moref), deadline)
    except ObjectGone:
        return False  # with its machine
    return bool(found)


async def _remove(session: Session, undo_record: Snapshot, deadline: float) -> None:
    told = False
    while True:
        try:
            task = await session.call(_ask_removal, session.vm(undo_record.vm), undo_record.moref)
            await session.wait_task(task, max(deadline - trio.current_time(), 1.0))
            return
        except ObjectGone:
            return
        except TaskTimeout:
            raise SnapshotError(
                f"{undo_record}: the server is still removing it and continues without vmount"
            ) from None
        except VsphereError as error:
            if not isinstance(error.__cause__, vim.fault.TaskInProgress):
                raise
        if trio.current_time() > deadline:
            raise SnapshotError(f"{undo_record}: cannot be removed while another task runs")
        if not told:
            told = True
            log.info("%s: waiting for another task of the VM", undo_record)
        await trio.sleep(BUSY_POLL)


async def needs_consolidation(session: Session, vm: str) -> bool:
    """Say whether disks of a machine are left that belong to no snapshot."""
    found = await session.properties(session.vm(vm), "runtime.consolidationNeeded")
    return bool(found.get("runtime.consolidationNeeded"))


async def _find(session: Session, undo_record: Snapshot) -> list[SnapshotNode]:
    found = await session.properties(session.vm(undo_record.vm), "snapshot")
    nodes = read_tree(found.get("snapshot"))
    return [
        node for node in nodes if undo_record.moref == node.moref or undo_record.name == node.name
    ]


async def _is_coming(session: Session, vm: str) -> bool:
    """Say whether a snapshot of the machine is being taken, by whomever."""
    machine = await session.properties(session.vm(vm), "recentTask")
    for task in machine.get("recentTask", ()):
        with suppress(ObjectGone):
            info = await session.properties(task, "info.descriptionId", "info.state")
            if info.get("info.descriptionId") == CREATE_TASK and info.get("info.state") in UNDERWAY:
                return True
    return False


def _ask(vm: vim.VirtualMachine, name: str, quiesced: bool) -> Any:
    return vm.CreateSnapshot_Task(
        name=name, description=_description(), memory=False, quiesce=quiesced
    )


def _ask_removal(vm: vim.VirtualMachine, moref: str) -> Any:
    snapshot = vim.vm.Snapshot(moref, vm._stub)  # noqa: SLF001 (there is no other way to it)
    return snapshot.RemoveSnapshot_Task(removeChildren=False, consolidate=True)


def _description() -> str:
    """Return what a snapshot says of itself to who finds it."""
    return (
        f"Made by vmount on {socket.gethostname()} (process {os.getpid()}) to read the disks. "
        "It is removed at unmount. If that process no longer runs, run there: vmount cleanup"
    )


def _error(vm: str, error: VmountError, *, quiesced: bool) -> VmountError:
    if isinstance(error, TaskTimeout):
        return SnapshotError(f"{vm}: the snapshot was not finished after {CREATE_LIMIT:.0f} s")
    if quiesced and isinstance(error.__cause__, QUIESCE_FAULTS):
        return QuiesceError(
            f"{vm}: the guest cannot be quiesced: {reason(error.__cause__)}",
            remedy=Remedy(
                "check VMware Tools in the guest, or use --try-quiesce for a crash-consistent snapshot",
                "check VMware Tools in the guest, or use Quiesce.TRY for a crash-consistent snapshot",
            ),
        )
    return error
