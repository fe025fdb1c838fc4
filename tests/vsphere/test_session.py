"""Sessions, with a real (simulated) vCenter."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pyVmomi import vim

from tests.vsphere.conftest import PASSWORD, USER
from vmount.vsphere.errors import LoginError, ObjectGone
from vmount.vsphere.passwords import known
from vmount.vsphere.secret import Secret
from vmount.vsphere.session import Session, connected
from vmount.vsphere.settings import ConnectionSettings


def name_of(vm: vim.VirtualMachine) -> str:
    return str(vm.name)


async def test_calls_run_in_a_session(settings: ConnectionSettings) -> None:
    async with connected(settings) as session:
        assert session.is_vcenter
        assert session.about.version == "6.5.0"
        assert await session.call(name_of, session.vm("vm-57")) == "DC0_H0_VM0"
        with pytest.raises(ObjectGone, match="VirtualMachine vm-99999 is not there"):
            await session.call(name_of, session.vm("vm-99999"))


@pytest.mark.parametrize(("user", "password"), [(USER, "wrong"), ("nobody", PASSWORD)])
async def test_refused_login(settings: ConnectionSettings, user: str, password: str) -> None:
    settings = replace(settings, user=user, password=known("test", Secret(password)))
    with pytest.raises(LoginError, match=f"refuses the login of {user}"):
        await Session.open(settings)
