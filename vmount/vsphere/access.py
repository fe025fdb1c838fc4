"""Making a machine's disks ready to be read, and leaving it as it was.

The order is fixed: relocation lock, snapshot, then whatever opens the disks; backwards when done. Whatever
ends the reading, all of it is undone; failures are reported and stay in the journal for `vmount cleanup`.
"""

from __future__ import annotations

import enum
import logging
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio
from pyVmomi import vim

from vmount.errors import SourceError, VmountError
from vmount.state import StateDir
from vmount.state.undo_records import RelocationLock, Snapshot
from vmount.vsphere import snapshots
from vmount.vsphere.access_options import AccessOptions, Quiesce
from vmount.vsphere.errors import ObjectGone
from vmount.vsphere.locks import RelocationLocks
from vmount.vsphere.recorded import server_of
from vmount.vsphere.snapshot_tree import NEW, Power, SnapshotNode, choose, read_tree
from vmount.vsphere.watch import Stability

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence

    from vmount.state import Entry, Journal
    from vmount.vsphere.session import Session

log = logging.getLogger(__name__)


class Consistency(enum.StrEnum):
    """What may be expected of the file systems on the disks."""

    POWERED_OFF = "powered off"
    CRASH = "crash-consistent"
    """As after the power was cut."""
    QUIESCED = "quiesced"


@dataclass(frozen=True)
class Access:
    """A machine whose disks can be read until the context ends."""

    vm: str
    """Its moRef."""
    config: vim.vm.ConfigInfo
    """With the disks as they are to be read."""
    snapshot: SnapshotNode | None
    consistency: Consistency
    is_locked: bool
    stability: Stability
    """Whether the bytes are still those of the beginning."""


@asynccontextmanager
async def prepare(
    session: Session,
    vm: str,
    options: AccessOptions,
    journal: Journal,
    nursery: trio.Nursery | None = None,
) -> AsyncIterator[Access]:
    """Lock a machine (its moRef) against relocation, take or find the snapshot, and undo both at the end.

    Close the disks before. In a nursery, others' changes to the machine are watched for until then. Raises LockError, SnapshotError, SourceError or UsageError, and what the
    session raises.
    """
    _tell_of_leftovers(session, vm, journal)
    async with _locked(session, vm, options, journal) as is_locked:
        machine = await session.properties(session.vm(vm), "runtime.powerState", "snapshot")
        power = Power(str(machine.get("runtime.powerState")))
        nodes = read_tree(machine.get("snapshot"))
        chosen = choose(options.snapshot, vm, nodes, power)
        if chosen == NEW:
            if options.snapshot is None:
                _tell_of_snapshot(vm, power, nodes, keep=options.keep_snapshot)
            quiesce = options.quiesce if power is not Power.OFF else Quiesce.NO
            async with _new_snapshot(session, vm, journal, quiesce, keep=options.keep_snapshot) as (
                node
            ):
                access = await _access(session, vm, node, power, is_locked=is_locked)
                with _watched(session, access, nursery):
                    yield access
        else:
            assert not isinstance(chosen, str)
            access = await _access(session, vm, chosen, power, is_locked=is_locked)
            with _watched(session, access, nursery):
                yield access


def _tell_of_snapshot(vm: str, power: Power, nodes: Sequence[SnapshotNode], *, keep: bool) -> None:
    """Say that a snapshot is taken, where nobody has asked for one: also to list a directory."""
    state = "suspended" if power is Power.SUSPENDED else "running"
    end = "" if keep else ", which is removed at the end"
    has_current = any(node.is_current for node in nodes)
    other = (
        "; the option snapshot with the value current reads its current snapshot instead"
        if has_current
        else ""
    )
    log.warning("%s is %s: taking a snapshot%s%s", vm, state, end, other)


def _tell_of_leftovers(session: Session, vm: str, journal: Journal) -> None:
    instance = server_of(session).instance
    for _, contents in StateDir(journal.path.parent).journals():
        process = contents.process
        if process is None or process.is_elsewhere or process.is_alive:
            continue
        left = [
            str(undo_record)
            for undo_record in contents.undo_records.values()
            if isinstance(undo_record, RelocationLock | Snapshot)
            and (undo_record.vm, undo_record.server.instance) == (vm, instance)
        ]
        if left:
            log.warning(
                "process %d was killed and left behind %s; run: vmount cleanup",
                process.pid,
                ", ".join(left),
            )


@contextmanager
def _watched(session: Session, access: Access, nursery: trio.Nursery | None) -> Iterator[None]:
    scope = trio.CancelScope()

    async def watch() -> None:
        with scope:
            await access.stability.watch(session)

    if nursery is not None:
        nursery.start_soon(watch)
    try:
        yield
    finally:
        scope.cancel()


@asynccontextmanager
async def _locked(
    session: Session, vm: str, options: AccessOptions, journal: Journal
) -> AsyncIterator[bool]:
    locks = RelocationLocks(session, StateDir(journal.path.parent))
    entry = await locks.acquire(vm, journal, options.lock, options.lock_wait)
    try:
        yield entry is not None
    finally:
        if entry is not None:
            with trio.CancelScope(shield=True):
                await _finally(locks.release(entry), f"the relocation lock of {vm} remains")


@asynccontextmanager
async def _new_snapshot(
    session: Session, vm: str, journal: Journal, quiesce: Quiesce, *, keep: bool
) -> AsyncIterator[SnapshotNode]:
    entry, node = await snapshots.create(session, vm, None if keep else journal, quiesce)
    log.info("%s: took snapshot %s", vm, node)
    try:
        yield node
    finally:
        if entry is None:
            log.warning("%s: snapshot %s is kept, as asked", vm, node)
        else:
            with trio.CancelScope(shield=True):
                await _finally(_remove(session, vm, entry), f"snapshot {node} of {vm} remains")


async def _remove(session: Session, vm: str, entry: Entry) -> None:
    assert isinstance(entry.undo_record, Snapshot)
    await snapshots.undo(session, entry.undo_record)
    entry.end()
    if await snapshots.needs_consolidation(session, vm):
        log.warning("%s", consolidation_needed(vm))


async def _finally(undoing: Awaitable[object], remains: str) -> None:
    """Undo something at the end; a failure is reported and does not hide the result of the job."""
    try:
        await undoing
    except VmountError as error:
        log.error("%s: %s; run: vmount cleanup", remains, error)


def consolidation_needed(vm: str) -> str:
    """Return what to tell of a machine that `needs_consolidation`."""
    return (
        f"{vm}: disks of a removed snapshot remain and grow; consolidate them "
        "(vSphere Client: Snapshots, Consolidate)"
    )


async def _access(
    session: Session, vm: str, node: SnapshotNode | None, power: Power, *, is_locked: bool
) -> Access:
    holder: Any = session.vm(vm) if node is None else vim.vm.Snapshot(node.moref, session.stub)
    try:
        config = (await session.properties(holder, "config")).get("config")
    except ObjectGone:
        raise SourceError(f"{vm}: {node or 'the machine'} was removed") from None
    if config is None:
        raise SourceError(
            f"{vm}: its configuration cannot be read", remedy="check that its host is connected"
        )
    if node is None:
        consistency = Consistency.POWERED_OFF if power is Power.OFF else Consistency.CRASH
    else:
        consistency = Consistency.QUIESCED if node.is_quiesced else Consistency.CRASH
    return Access(vm, config, node, consistency, is_locked, Stability(vm, node))
