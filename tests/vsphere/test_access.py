"""Snapshot and relocation lock of a machine: taken in order, and undone whatever ends the reading."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.vsphere.conftest import PASSWORD, USER, Vcenter
from tests.vsphere.plain_session import PlainSession, connected
from vmount.state import StateDir
from vmount.vsphere.access import Access, AccessOptions, Consistency, prepare

VM = "vm-57"
CHANGES = ("DisableMethods", "CreateSnapshot_Task", "RemoveSnapshot_Task", "EnableMethods")


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


@asynccontextmanager
async def session_with(vcenter: Vcenter) -> AsyncIterator[PlainSession]:
    async with connected(
        vcenter.host, vcenter.port, vcenter.certificate, USER, PASSWORD
    ) as session:
        yield session


@asynccontextmanager
async def accessed(
    session: PlainSession, state: StateDir, options: AccessOptions | None = None, vm: str = VM
) -> AsyncIterator[Access]:
    with state.journal() as journal:
        async with prepare(session, vm, options or AccessOptions(), journal) as access:
            yield access


def changes(vcenter: Vcenter) -> list[str]:
    return [call["method"] for call in vcenter.called(*CHANGES)]


async def test_r6_locked_before_the_snapshot_and_unlocked_after_it(
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
