"""The relocation lock: a machine stays on its host and datastores while its disks are read.

Strategy: one lock a machine for all processes that share a state folder. What they hold is what their
journals say; the folder's lock file makes looking and changing one step. The first disables relocation,
the last enables it again, and who was killed counts until `vmount cleanup` has been there. The server
knows the lock by its source; one of another source belongs to another program and is never removed.
"""

from __future__ import annotations

import hashlib
import logging
import re
import socket
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio
from pyVmomi import vim, vmodl

from vmount.errors import Exit, Remedy, VmountError
from vmount.state.undo_records import RelocationLock
from vmount.vsphere.access_options import LockMode
from vmount.vsphere.disabled_methods import (
    LONGEST_SOURCE_ID,
    disable_relocation,
    enable_relocation,
    is_relocation_disabled,
)
from vmount.vsphere.recorded import server_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from vmount.state import Entry, Journal, StateDir
    from vmount.vsphere.session import Session

log = logging.getLogger(__name__)

POLL = 2.0
"""Seconds between looks at a lock that is another's."""
MUTEX_POLL = 0.05
MUTEX_PATIENCE = 120.0
"""Seconds to wait for another process of vmount to lock or unlock the same machine: a call's deadline."""
DISABLE, ENABLE = "Global.DisableMethods", "Global.EnableMethods"


class LockError(VmountError):
    """A machine cannot be locked against relocation."""

    exit_code = Exit.SOURCE


@dataclass(frozen=True)
class Refused:
    """The server does not lock, and has not locked."""

    reason: str
    remedy: str | Remedy = ""
    is_foreign: bool = False
    """Another lock is in the way, which may go."""


class RelocationLocks:
    """The relocation locks of a process on one server's machines."""

    def __init__(self, session: Session, state: StateDir) -> None:
        self._session = session
        self._server = server_of(session)
        self._state = state
        self.source_id = source_id(state)

    async def acquire(
        self, vm: str, journal: Journal, mode: LockMode, wait: float = 0.0
    ) -> Entry | None:
        """Lock a VM (its moRef), waiting up to `wait` seconds for the release of another program's lock.

        Returns what `release` takes, or None where nothing is locked; why is logged. Raises LockError if
        the lock is required and cannot be had.
        """
        if mode is LockMode.NO:
            return None
        refused = await self._acquire(vm, journal, wait)
        if not isinstance(refused, Refused):
            return refused
        if mode is LockMode.REQUIRE:
            raise LockError(
                f"{vm}: cannot be locked against relocation: {refused.reason}",
                remedy=refused.remedy,
            )
        log.warning("%s: not locked against relocation: %s", vm, refused.reason)
        return None

    async def _acquire(self, vm: str, journal: Journal, wait: float) -> Entry | Refused:
        if not self._session.is_vcenter:
            return Refused(
                "only vCenter supports this lock",
                Remedy("connect to vCenter, or leave out --lock", "connect to vCenter"),
            )
        deadline = trio.current_time() + wait
        told = False
        while True:
            async with self._mutex(vm):
                answer = await self._try(vm, journal)
            left = deadline - trio.current_time()
            if not isinstance(answer, Refused) or not answer.is_foreign or left <= 0:
                return answer
            if not told:
                told = True
                log.warning(
                    "%s: %s; waiting up to %.0f s until it is released", vm, answer.reason, wait
                )
            await trio.sleep(min(POLL, left))

    async def _try(self, vm: str, journal: Journal) -> Entry | Refused:
        undo_record = RelocationLock(self._server, vm, self.source_id)
        is_held = any(other.is_held for other in self._holders(undo_record))
        entry = journal.begin(undo_record)
        if not is_held:
            refused = await self._ask(entry, undo_record)
            if refused is not None:
                entry.end()
                return refused
        entry.update(replace(undo_record, is_held=True))
        return entry

    async def _ask(self, entry: Entry, undo_record: RelocationLock) -> Refused | None:
        try:
            return await self._session.call(self._disable, undo_record.vm)
        except VmountError:
            with trio.CancelScope(shield=True), suppress(VmountError):
                await self._session.call(self._enable, undo_record, False)
                entry.end()
            raise

    async def release(self, entry: Entry, *, is_sure: bool = True) -> bool:
        """Let go of a lock, and enable relocation if nobody else here holds it; say whether that was so.

        The machine may be gone already; so may the lock, unless it `is_sure` to be there. Raises
        VmountError.
        """
        undo_record = entry.undo_record
        assert isinstance(undo_record, RelocationLock)
        async with self._mutex(undo_record.vm):
            count = sum(1 for _ in self._holders(undo_record))
            if count <= 1:
                await self._session.call(self._enable, undo_record, is_sure)
            entry.end()
        return count <= 1

    def _holders(self, lock: RelocationLock) -> Iterator[RelocationLock]:
        """Yield what journals say of a lock, those of processes that were killed too."""
        wanted = (lock.server.instance, lock.vm, lock.source_id)
        for _, contents in self._state.journals():
            for undo_record in contents.undo_records.values():
                if (
                    isinstance(undo_record, RelocationLock)
                    and (undo_record.server.instance, undo_record.vm, undo_record.source_id)
                    == wanted
                ):
                    yield undo_record

    @asynccontextmanager
    async def _mutex(self, vm: str) -> AsyncIterator[None]:
        name = re.sub(r"[^0-9A-Za-z-]", "_", f"relocation-{self._server.instance}-{vm}")
        deadline = trio.current_time() + MUTEX_PATIENCE
        while (held := self._state.try_lock(name)) is None:
            if trio.current_time() > deadline:
                raise LockError(f"{vm}: another vmount is still locking it")
            await trio.sleep(MUTEX_POLL)
        try:
            yield
        finally:
            self._state.release(name, held)

    def _disable(self, vm: str) -> Refused | None:
        try:
            other = disable_relocation(self._session.vm(vm), self.source_id)
        except vim.fault.NoPermission as fault:
            return Refused(*_no_permission(fault, DISABLE))
        except (vmodl.fault.MethodNotFound, vmodl.fault.InvalidRequest):
            return Refused("this server does not support the lock")
        if other is None or other == self.source_id:
            return None
        return Refused(
            f"{other or 'another program'!r} has locked it",
            Remedy(
                "wait with --lock-wait, or end the program that holds it",
                "end the program that holds it",
            ),
            is_foreign=True,
        )

    def _enable(self, undo_record: RelocationLock, is_sure: bool) -> None:
        vm = self._session.vm(undo_record.vm)
        try:
            if is_sure or is_relocation_disabled(vm):
                enable_relocation(vm, undo_record.source_id)
        except vmodl.fault.ManagedObjectNotFound:
            log.info("%s no longer exists, nor does its lock", undo_record.vm)
        except vim.fault.NoPermission as fault:
            reason, remedy = _no_permission(fault, ENABLE)
            raise LockError(f"{undo_record.vm}: remains locked: {reason}", remedy=remedy) from fault


def source_id(state: StateDir) -> str:
    """Return what names the locks of all processes that share a state folder on this machine."""
    host = socket.gethostname()
    digest = hashlib.sha256(f"{host}\0{state.path}".encode("utf-8", "surrogateescape")).hexdigest()
    name = re.sub(r"[^0-9A-Za-z.-]", "_", host)
    return f"vmount/{digest[:12]}/{name}"[:LONGEST_SOURCE_ID]


def _no_permission(fault: vim.fault.NoPermission, privilege: str) -> tuple[str, str]:
    wanted = fault.privilegeId or privilege
    return f"the privilege {wanted} is missing", f"grant {DISABLE} and {ENABLE} on the VM"
