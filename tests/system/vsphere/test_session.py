"""Sessions, with a real (simulated) vCenter: logging in and out, expiry, deadlines."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
import trio
from pyVmomi import SoapAdapter, vim

from tests.support.vsphere.controls import Controls
from tests.support.vsphere.forwarder import forwarding
from tests.system.vsphere.conftest import PASSWORD, USER, Vcenter
from vmount.errors import UsageError
from vmount.vsphere.errors import ConnectError, LoginError, NoAnswer, ObjectGone, VsphereError
from vmount.vsphere.passwords import Password, known
from vmount.vsphere.secret import Secret
from vmount.vsphere.session import Session, connected
from vmount.vsphere.settings import ConnectionSettings
from vmount.vsphere.versions import COMMON, choose_version


def name_of(vm: vim.VirtualMachine) -> str:
    return str(vm.name)


async def test_calls_run_in_a_session(settings: ConnectionSettings) -> None:
    async with connected(settings) as session:
        assert session.is_vcenter
        assert session.about.version == "6.5.0"
        assert await session.call(name_of, session.vm("vm-57")) == "DC0_H0_VM0"
        with pytest.raises(ObjectGone, match="VirtualMachine vm-99999 does not exist"):
            await session.call(name_of, session.vm("vm-99999"))


@pytest.mark.parametrize(("user", "password"), [(USER, "wrong"), ("nobody", PASSWORD)])
async def test_refused_login(settings: ConnectionSettings, user: str, password: str) -> None:
    settings = replace(settings, user=user, password=known("test", Secret(password)))
    with pytest.raises(LoginError, match=f"refused the login of {user}"):
        await Session.open(settings)


@pytest.mark.requirement("R39")
async def test_logs_out_at_the_end(vcenter: Vcenter, settings: ConnectionSettings) -> None:
    controls = Controls(vcenter)
    async with connected(settings):
        assert controls.sessions() == 1
    assert controls.sessions() == 0
    with pytest.raises(KeyError):
        async with connected(settings):
            raise KeyError
    with trio.move_on_after(1):
        async with connected(settings):
            await trio.sleep_forever()
    assert controls.sessions() == 0


@pytest.mark.requirement("R38")
async def test_an_expired_session_is_not_noticed(
    vcenter: Vcenter, settings: ConnectionSettings
) -> None:
    controls = Controls(vcenter)
    asked = 0

    def ask() -> Secret:
        nonlocal asked
        asked += 1
        return Secret(PASSWORD)

    settings = replace(settings, password=Password("test", ask))
    async with connected(settings) as session:
        vm = session.vm("vm-57")
        for _ in range(2):
            controls.expire_sessions()
            assert await session.call(lambda: vm.PowerOff()) is not None
            controls.expire_sessions()
            task = await session.call(lambda: vm.PowerOn(None))
            await session.wait_task(task, 10)
        assert controls.called()["Login"] == 5
        assert controls.sessions() == 1
    assert asked == 1, "the password is kept"
    assert controls.sessions() == 0


async def test_many_who_notice_an_expiry_log_in_once(
    vcenter: Vcenter, settings: ConnectionSettings
) -> None:
    controls = Controls(vcenter)
    async with connected(settings) as session:
        index = session.content.searchIndex
        assert index is not None
        controls.expire_sessions()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(session.read, index.FindByInventoryPath, "DC0")
        assert controls.called()["Login"] == 2


async def test_a_password_that_is_changed_meanwhile(
    vcenter: Vcenter, settings: ConnectionSettings
) -> None:
    async with connected(settings) as session:
        session.settings = replace(settings, password=known("test", Secret("old")))
        Controls(vcenter).expire_sessions()
        with pytest.raises(LoginError, match="refused the login"):
            await session.call(lambda: session.vm("vm-57").PowerOff())


async def test_the_cookie_is_renewed_when_it_has_to_be(
    vcenter: Vcenter, settings: ConnectionSettings
) -> None:
    async with connected(settings) as session:
        first = session.cookie()
        assert first.reveal().startswith("vmware_soap_session=")
        assert ";" not in first.reveal()
        assert await session.renewed_cookie(first) == first, (
            "the session lives: it was refused otherwise"
        )
        Controls(vcenter).expire_sessions()
        second = await session.renewed_cookie(first)
        assert second != first
        assert await session.renewed_cookie(first) == second
        assert Controls(vcenter).called()["Login"] == 2


async def test_a_lost_connection(vcenter: Vcenter, settings: ConnectionSettings) -> None:
    """Reading goes on over a new one; what changes something is not repeated."""
    with forwarding((vcenter.host, vcenter.port)) as forwarder:
        async with connected(replace(settings, port=forwarder.port)) as session:
            vm = session.vm("vm-57")
            forwarder.cut()
            assert await session.read(name_of, vm) == "DC0_H0_VM0"
            forwarder.cut()
            with pytest.raises(ConnectError):
                await session.call(name_of, vm)
            assert await session.call(name_of, vm) == "DC0_H0_VM0"


@pytest.mark.requirement("R38")
async def test_a_server_that_falls_silent(vcenter: Vcenter, settings: ConnectionSettings) -> None:
    with forwarding((vcenter.host, vcenter.port)) as forwarder:
        settings = replace(settings, port=forwarder.port, timeout=0.5)
        async with connected(settings) as session:
            forwarder.target = None
            forwarder.cut()
            with trio.fail_after(20), pytest.raises(NoAnswer, match=r"no answer within 0.5 s"):
                await session.read(name_of, session.vm("vm-57"))
            started = trio.current_time()
        assert trio.current_time() - started < 10, "logging out is bounded too"


@pytest.mark.requirement("R38")
async def test_a_server_that_never_answers(settings: ConnectionSettings) -> None:
    with forwarding(None) as forwarder:
        settings = replace(settings, port=forwarder.port, connect_timeout=0.5)
        with trio.fail_after(10), pytest.raises(NoAnswer, match=r"no answer within 0.5 s; check"):
            await Session.open(settings)


async def test_reading_is_cancelled_at_once(vcenter: Vcenter, settings: ConnectionSettings) -> None:
    with forwarding((vcenter.host, vcenter.port)) as forwarder:
        async with connected(replace(settings, port=forwarder.port, timeout=20.0)) as session:
            forwarder.target = None
            forwarder.cut()
            with trio.fail_after(5), trio.move_on_after(0.2) as scope:
                await session.read(name_of, session.vm("vm-57"))
            assert scope.cancelled_caught


async def test_who_is_not_there(settings: ConnectionSettings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ConnectError, match="refused the connection; check the address"):
            await Session.open(replace(settings, port=port))
    with pytest.raises(ConnectError, match="unknown host name"):
        await Session.open(replace(settings, host="nobody.invalid"))


async def test_what_is_no_vcenter(settings: ConnectionSettings) -> None:
    def greet(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"220 mail.example ESMTP\r\n" * 100)
            connection.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, greet, listener)
            with pytest.raises(ConnectError, match="no TLS"):
                await Session.open(replace(settings, port=listener.getsockname()[1]))


@pytest.mark.requirement("R40")
@pytest.mark.vcsim("-listen", "[::1]:0")
async def test_ipv6(vcenter: Vcenter, settings: ConnectionSettings) -> None:
    assert ":" in vcenter.host
    assert settings.address == f"[::1]:{vcenter.port}"
    async with connected(settings) as session:
        assert await session.call(name_of, session.vm("vm-57")) == "DC0_H0_VM0"


@pytest.mark.requirement("R57")
@pytest.mark.vcsim("-esx")
async def test_a_host_alone(settings: ConnectionSettings) -> None:
    async with connected(settings) as session:
        assert not session.is_vcenter
        assert session.about.api_type == "HostAgent"


@pytest.mark.requirement("R61")
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ({"6.5", "6.0", "5.5"}, "vim.version.version11"),
        ({"7.0.0.0", "6.7"}, "vim.version.v7_0"),
        ({"8.0.2.0", "7.0.3.2"}, "vim.version.v8_0_2_0"),
        ({"99.0.0.0", "8.0.0.1", "7.0.0.0"}, "vim.version.v8_0_0_1"),
        ({"99.0.0.0"}, COMMON),
    ],
)
def test_versions_old_and_unknown(offered: set[str], chosen: str) -> None:
    assert choose_version(offered) == chosen
    SoapAdapter.SoapStubAdapter(host="h", version=chosen)


async def test_no_password_at_all(settings: ConnectionSettings) -> None:
    def ask() -> Secret:
        raise UsageError("no password")

    with pytest.raises(UsageError, match="no password"):
        await Session.open(replace(settings, password=Password("test", ask)))


@pytest.mark.requirement("R5")
async def test_a_licence_that_forbids_it(settings: ConnectionSettings) -> None:
    def forbidden() -> None:
        raise vim.fault.RestrictedVersion(
            msg="Current license or ESXi version prohibits execution of the requested operation."
        )

    async with connected(settings) as session:
        with pytest.raises(VsphereError, match="its licence does not allow this"):
            await session.call(forbidden)


async def test_threads_at_once(settings: ConnectionSettings) -> None:
    async with connected(settings) as session:
        names: list[str] = []

        async def ask(moref: str) -> None:
            names.append(await session.read(name_of, session.vm(moref)))

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(ask, f"vm-{57 + 3 * (number % 4)}")
        assert sorted(set(names)) == [
            "DC0_C0_RP0_VM0",
            "DC0_C0_RP0_VM1",
            "DC0_H0_VM0",
            "DC0_H0_VM1",
        ]
        assert len(names) == 100
