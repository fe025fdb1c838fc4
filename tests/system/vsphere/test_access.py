"""Snapshot and relocation lock of a machine: taken in order, and undone whatever ends the reading."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest
import trio
import trio.testing
from pyVmomi import vim

from tests.contracts.block_source import check_block_source
from tests.support.vsphere.controls import Controls
from tests.system.vsphere.conftest import PASSWORD, Vcenter, settings_for
from vmount.errors import SourceError, UsageError
from vmount.parsers.reader import BytesReader
from vmount.state import StateDir
from vmount.state.undo_records import Snapshot
from vmount.vsphere.access import Access, Consistency, prepare
from vmount.vsphere.access_options import AccessOptions, LockMode, Quiesce
from vmount.vsphere.disabled_methods import disable_relocation, enable_relocation
from vmount.vsphere.errors import VsphereError
from vmount.vsphere.locks import LockError, source_id
from vmount.vsphere.properties import Properties
from vmount.vsphere.recorded import server_of
from vmount.vsphere.session import Session
from vmount.vsphere.snapshot_tree import read_tree
from vmount.vsphere.snapshots import undo
from vmount.vsphere.watch import WatchedDisk

P = ParamSpec("P")
T = TypeVar("T")

VM = "vm-57"
CHANGES = ("DisableMethods", "CreateSnapshot_Task", "RemoveSnapshot_Task", "EnableMethods")


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


@asynccontextmanager
async def session_with(vcenter: Vcenter, kind: type[Session] = Session) -> AsyncIterator[Session]:
    session = await kind.open(settings_for(vcenter))
    try:
        yield session
    finally:
        await session.aclose()


@asynccontextmanager
async def accessed(
    session: Session, state: StateDir, options: AccessOptions | None = None, vm: str = VM
) -> AsyncIterator[Access]:
    with state.journal() as journal:
        async with prepare(session, vm, options or AccessOptions(), journal) as access:
            yield access


def changes(vcenter: Vcenter) -> list[str]:
    return [call["method"] for call in vcenter.called(*CHANGES)]


@pytest.mark.requirement("R6")
async def test_locked_before_the_snapshot_and_unlocked_after_it(
    vcenter: Vcenter, state: StateDir
) -> None:
    async with session_with(vcenter) as session:
        async with accessed(session, state) as access:
            assert access.is_locked
            assert access.snapshot is not None
            assert access.snapshot.name.startswith("vmount ")
            assert access.consistency is Consistency.CRASH
            assert changes(vcenter) == list(CHANGES[:2])
            assert session.vm(VM).disabledMethod == ["RelocateVM_Task"]
        assert changes(vcenter) == list(CHANGES)
        assert not session.vm(VM).disabledMethod
        assert session.vm(VM).snapshot is None
    assert not list(state.path.iterdir())


async def test_the_snapshot_says_whose_it_is(vcenter: Vcenter, state: StateDir) -> None:
    async with session_with(vcenter) as session, accessed(session, state) as access:
        (node,) = read_tree(session.vm(VM).snapshot)
        assert node == access.snapshot
        assert f"{socket.gethostname()[:30]}[{os.getpid()}]" in node.name
        assert f"process {os.getpid()}" in node.description
        assert "vmount cleanup" in node.description
        assert len(node.name) <= 80
        assert not node.is_quiesced
        (file,) = state.files()
        assert PASSWORD.encode() not in file.read_bytes()


class Interrupted(Exception):
    pass


@pytest.mark.requirement("R7")
async def test_an_exception_undoes_it_all(vcenter: Vcenter, state: StateDir) -> None:
    async with session_with(vcenter) as session:
        with pytest.raises(Interrupted):
            async with accessed(session, state):
                raise Interrupted
    assert changes(vcenter) == list(CHANGES)
    assert not list(state.path.iterdir())


@pytest.mark.requirement("R7")
async def test_a_cancellation_undoes_it_all(vcenter: Vcenter, state: StateDir) -> None:
    async with session_with(vcenter) as session:
        with trio.move_on_after(60) as scope:
            async with accessed(session, state):
                scope.cancel()
                await trio.sleep_forever()
    assert scope.cancelled_caught
    assert changes(vcenter) == list(CHANGES)
    assert not list(state.path.iterdir())


@pytest.mark.requirement("R7")
@pytest.mark.parametrize("method", ["_ask", "_disable"])
async def test_cancelled_in_the_middle_of_a_call(
    vcenter: Vcenter, state: StateDir, method: str
) -> None:
    class Cancelling(Session):
        async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
            if function.__name__ == method:
                scope.cancel()
            return await super().call(function, *args, **kwargs)

    with trio.CancelScope() as scope:
        async with session_with(vcenter, Cancelling) as session, accessed(session, state):
            raise AssertionError("it was to be cancelled")
    assert scope.cancelled_caught
    done = changes(vcenter)
    assert done.count("DisableMethods") == done.count("EnableMethods") == 1
    assert done.count("CreateSnapshot_Task") == done.count("RemoveSnapshot_Task")
    assert not list(state.path.iterdir())


@pytest.mark.requirement("R8")
async def test_the_last_of_several_unlocks(vcenter: Vcenter, state: StateDir) -> None:
    async with session_with(vcenter) as session:
        with state.journal() as first, state.journal() as second:
            async with prepare(session, VM, AccessOptions(), first):
                async with prepare(session, VM, AccessOptions(), second):
                    pass
                assert session.vm(VM).disabledMethod == ["RelocateVM_Task"]
        assert not session.vm(VM).disabledMethod
    done = changes(vcenter)
    assert done.count("DisableMethods") == done.count("EnableMethods") == 1
    assert done.count("CreateSnapshot_Task") == done.count("RemoveSnapshot_Task") == 2


@pytest.mark.requirement("R8")
async def test_the_first_may_leave_first(vcenter: Vcenter, state: StateDir) -> None:
    async with session_with(vcenter) as session, AsyncExitStack() as second:
        async with accessed(session, state):
            await second.enter_async_context(accessed(session, state))
        assert session.vm(VM).disabledMethod == ["RelocateVM_Task"]
        assert "EnableMethods" not in changes(vcenter)
    assert changes(vcenter)[-1] == "EnableMethods"


@pytest.mark.requirement("R8")
async def test_a_foreign_lock_is_told_of_and_stays(
    vcenter: Vcenter, state: StateDir, caplog: pytest.LogCaptureFixture
) -> None:
    async with session_with(vcenter) as session:
        assert disable_relocation(session.vm(VM), "backup-appliance") is None
        async with accessed(session, state) as access:
            assert not access.is_locked
        assert "'backup-appliance' has locked it" in caplog.text
        assert session.vm(VM).disabledMethod == ["RelocateVM_Task"]
        with pytest.raises(
            LockError, match=r"'backup-appliance' has locked it; end the program that holds it"
        ):
            async with accessed(session, state, AccessOptions(lock=LockMode.REQUIRE)):
                pass
        assert session.vm(VM).disabledMethod == ["RelocateVM_Task"]
    assert "EnableMethods" not in changes(vcenter)
    assert not list(state.path.iterdir())


@pytest.mark.requirement("R8")
async def test_a_foreign_lock_is_waited_for(vcenter: Vcenter, state: StateDir) -> None:
    async with session_with(vcenter) as session, trio.open_nursery() as nursery:
        vm = session.vm(VM)
        disable_relocation(vm, "backup-appliance")

        async def go_away() -> None:
            await trio.sleep(0.5)
            enable_relocation(vm, "backup-appliance")

        nursery.start_soon(go_away)
        options = AccessOptions(lock=LockMode.REQUIRE, lock_wait=30)
        async with accessed(session, state, options) as access:
            assert access.is_locked


async def test_a_lock_that_is_not_wanted_is_not_taken(vcenter: Vcenter, state: StateDir) -> None:
    options = AccessOptions(lock=LockMode.NO)
    async with session_with(vcenter) as session, accessed(session, state, options) as access:
        assert not access.is_locked
    assert changes(vcenter) == ["CreateSnapshot_Task", "RemoveSnapshot_Task"]


@pytest.mark.requirement("R11")
@pytest.mark.vcsim("-esx")
async def test_a_host_has_no_lock(
    vcenter: Vcenter, state: StateDir, caplog: pytest.LogCaptureFixture
) -> None:
    async with session_with(vcenter) as session:
        index: Any = session.content.searchIndex
        vm = index.FindByInventoryPath("/ha-datacenter/vm/ha-host_VM0")._moId
        async with accessed(session, state, vm=vm) as access:
            assert not access.is_locked
            assert access.snapshot is not None
        assert caplog.text.count("only vCenter supports this lock") == 1
        with pytest.raises(LockError, match="only vCenter supports this lock"):
            async with accessed(session, state, AccessOptions(lock=LockMode.REQUIRE), vm=vm):
                pass
    assert changes(vcenter) == ["CreateSnapshot_Task", "RemoveSnapshot_Task"]
    assert not list(state.path.iterdir())


async def test_an_expired_session_is_no_reason_to_leave_anything(
    vcenter: Vcenter, state: StateDir
) -> None:
    async with session_with(vcenter) as session:
        async with accessed(session, state):
            Controls(vcenter).expire_sessions()
        assert changes(vcenter) == list(CHANGES)
    assert not list(state.path.iterdir())


@pytest.mark.requirement("R7")
async def test_cancelled_while_the_snapshot_is_being_taken(
    vcenter: Vcenter, state: StateDir
) -> None:
    Controls(vcenter).delay_task(60_000)
    with trio.move_on_after(0.5) as scope:
        async with session_with(vcenter) as session, accessed(session, state):
            raise AssertionError("it is still being taken")
    assert scope.cancelled_caught
    assert changes(vcenter) == list(CHANGES)
    assert not list(state.path.iterdir())


@pytest.mark.requirement("R51")
async def test_a_machine_that_needs_consolidation_is_told_of(
    vcenter: Vcenter, state: StateDir, caplog: pytest.LogCaptureFixture
) -> None:
    class Stranded(Session):
        async def properties(self, undo_record: Any, *paths: str) -> Properties:
            found = await super().properties(undo_record, *paths)
            if "runtime.consolidationNeeded" in paths:
                found["runtime.consolidationNeeded"] = True
            return found

    async with session_with(vcenter, Stranded) as session, accessed(session, state):
        pass
    assert "vm-57: disks of a removed snapshot remain" in caplog.text


@pytest.mark.requirement("R9")
async def test_a_snapshot_that_is_still_being_taken_is_waited_for(vcenter: Vcenter) -> None:
    """The simulator does not list a machine's tasks; what it would say of them is put in here."""

    class Coming(Session):
        states = ("queued", "running", "success")
        looks = 0

        async def properties(self, undo_record: Any, *paths: str) -> Properties:
            if paths == ("recentTask",):
                return Properties(undo_record, {"recentTask": [vim.Task("task-1", self.stub)]})
            if not isinstance(undo_record, vim.Task) or "info.descriptionId" not in paths:
                return await super().properties(undo_record, *paths)
            state = self.states[self.looks]
            self.looks += 1
            if state == "success":
                self.vm(VM).CreateSnapshot_Task(name, "", False, False)
            return Properties(
                undo_record,
                {"info.descriptionId": "VirtualMachine.createSnapshot", "info.state": state},
            )

    name = "vmount proxy[1] now 0123"
    async with session_with(vcenter, Coming) as session:
        assert isinstance(session, Coming)
        assert await undo(session, Snapshot(server_of(session), VM, name))
        assert session.looks == 3
        assert session.vm(VM).snapshot is None


async def test_a_snapshot_waits_for_the_machines_other_task(
    vcenter: Vcenter, state: StateDir
) -> None:
    class Busy(Session):
        refusals = 1

        async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
            if function.__name__ == "_ask_removal" and self.refusals:
                self.refusals -= 1
                raise VsphereError("busy") from vim.fault.TaskInProgress()
            return await super().call(function, *args, **kwargs)

    async with session_with(vcenter, Busy) as session, accessed(session, state):
        pass
    assert changes(vcenter) == list(CHANGES)
    assert not list(state.path.iterdir())


@pytest.mark.requirement("R12")
def test_the_source_is_at_most_50_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "h" * 80)
    names = {source_id(StateDir(tmp_path / name)) for name in ("a", "b")}
    assert len(names) == 2, "each state folder has its own"
    assert all(len(name) == 50 for name in names)


async def test_a_machine_that_is_off_needs_no_snapshot(vcenter: Vcenter, state: StateDir) -> None:
    async with session_with(vcenter) as session:
        await session.wait_task(session.vm(VM).PowerOffVM_Task(), 30)
        async with accessed(session, state) as access:
            assert access.snapshot is None
            assert access.consistency is Consistency.POWERED_OFF
            assert access.config.hardware.device
        async with accessed(session, state, AccessOptions(snapshot="new")) as access:
            assert access.snapshot is not None
    assert len(vcenter.called("CreateSnapshot_Task")) == 1


@pytest.mark.requirement("R30")
async def test_which_snapshot_is_read(vcenter: Vcenter, state: StateDir) -> None:
    async with session_with(vcenter) as session:
        vm = session.vm(VM)
        for name in ("before update", "twice", "twice"):
            await session.wait_task(vm.CreateSnapshot_Task(name, "", False, False), 30)
        root, first, second = read_tree(vm.snapshot)

        async def read(which: str) -> str:
            async with accessed(session, state, AccessOptions(snapshot=which)) as access:
                assert access.snapshot is not None
                return access.snapshot.moref

        assert await read("current") == second.moref
        assert await read(first.moref) == first.moref
        assert await read("before update") == root.moref
        assert await read("before update/twice") == first.moref
        with pytest.raises(UsageError) as ambiguous:
            await read("twice")
        with pytest.raises(SourceError) as missing:
            await read("snapshot-99999")
        for moref in (first.moref, second.moref):
            assert moref in str(ambiguous.value)
            assert f"{moref} 'twice'" in str(missing.value)
        assert "vm-57: no snapshot 'snapshot-99999'; it has " in str(missing.value)
    assert len(vcenter.called("CreateSnapshot_Task")) == 3
    assert not vcenter.called("RemoveSnapshot_Task")


@pytest.mark.requirement("R30")
async def test_a_machine_without_snapshots(vcenter: Vcenter, state: StateDir) -> None:
    async with session_with(vcenter) as session:
        for which in ("current", "monday"):
            with pytest.raises(SourceError, match="it has none"):
                async with accessed(session, state, AccessOptions(snapshot=which)):
                    pass


async def test_a_snapshot_can_be_kept(vcenter: Vcenter, state: StateDir) -> None:
    async with session_with(vcenter) as session:
        async with accessed(session, state, AccessOptions(keep_snapshot=True)) as access:
            assert access.snapshot is not None
        assert read_tree(session.vm(VM).snapshot) == [access.snapshot]
    assert not vcenter.called("RemoveSnapshot_Task")
    assert not list(state.path.iterdir())


@pytest.mark.requirement("R58")
async def test_a_quiesced_snapshot(vcenter: Vcenter, state: StateDir) -> None:
    options = AccessOptions(quiesce=Quiesce.REQUIRE)
    async with session_with(vcenter) as session, accessed(session, state, options) as access:
        assert access.consistency is Consistency.QUIESCED


async def test_a_snapshot_that_somebody_else_has_removed_is_no_error(
    vcenter: Vcenter, state: StateDir, caplog: pytest.LogCaptureFixture
) -> None:
    async with session_with(vcenter) as session:
        async with accessed(session, state) as access:
            assert access.snapshot is not None
            snapshot = vim.vm.Snapshot(access.snapshot.moref, session.vm(VM)._stub)
            await session.wait_task(snapshot.RemoveSnapshot_Task(False), 30)
        assert not session.vm(VM).disabledMethod
    assert not list(state.path.iterdir())
    said = [record.message for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    assert [text for text in said if "taking a snapshot, which is removed" not in text] == []


async def test_a_machine_that_is_switched_on_meanwhile(vcenter: Vcenter, state: StateDir) -> None:
    """Read without a snapshot, it would change under whoever reads."""
    async with session_with(vcenter) as session:
        await session.wait_task(session.vm(VM).PowerOffVM_Task(), 30)
        async with accessed(session, state) as access:
            await access.stability.look(session)
            assert access.stability.problem is None
            await session.wait_task(session.vm(VM).PowerOnVM_Task(), 30)
            with trio.fail_after(30):
                await access.stability.watch(session, interval=0.01)
            assert access.stability.problem == (
                "vm-57: the VM was powered on, and writes to the disks"
            )
            assert access.stability.changed.is_set()


async def test_a_disk_that_may_have_changed_is_not_read(vcenter: Vcenter, state: StateDir) -> None:
    content = bytes(range(256)) * 64
    async with session_with(vcenter) as session:
        await session.wait_task(session.vm(VM).PowerOffVM_Task(), 30)
        async with accessed(session, state) as access:
            disk = WatchedDisk(BytesReader(content), access.stability)
            await check_block_source(disk, content)
            await session.wait_task(session.vm(VM).PowerOnVM_Task(), 30)
            await access.stability.look(session)
            with pytest.raises(OSError, match="was powered on") as caught:
                await disk.read(0, 512)
            assert caught.value.errno == errno.EIO
            with pytest.raises(OSError, match="was powered on"):
                disk.try_read(0, 512)


async def test_a_snapshot_that_is_removed_meanwhile(vcenter: Vcenter, state: StateDir) -> None:
    async with (
        session_with(vcenter) as session,
        accessed(session, state) as access,
        trio.open_nursery() as nursery,
    ):
        assert access.snapshot is not None
        nursery.start_soon(access.stability.watch, session, 0.01)
        snapshot = vim.vm.Snapshot(access.snapshot.moref, session.vm(VM)._stub)
        await session.wait_task(snapshot.RemoveSnapshot_Task(False), 30)
        with trio.fail_after(30):
            await access.stability.changed.wait()
        assert "was removed by another program or user" in str(access.stability.problem)


async def test_the_watch_ends_with_the_reading(vcenter: Vcenter, state: StateDir) -> None:
    with trio.fail_after(10), state.journal() as journal:
        async with (
            session_with(vcenter) as session,
            trio.open_nursery() as nursery,
            prepare(session, VM, AccessOptions(), journal, nursery),
        ):
            await trio.testing.wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 1
