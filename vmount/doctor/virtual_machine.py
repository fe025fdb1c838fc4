"""Is there a way from here to a machine's disks? The part of `vmount doctor` that asks vSphere."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from vmount.doctor.results import CheckResult, State
from vmount.errors import VmountError, explain
from vmount.transports.registry import all_modes
from vmount.vsphere.certificates import read_leaf
from vmount.vsphere.inventory import find_vm
from vmount.vsphere.privileges import FOR_LOCK, FOR_SNAPSHOT, Privilege, Where, granted
from vmount.vsphere.proxy import Firmware, find_proxy
from vmount.vsphere.session import Session, connected, reach
from vmount.vsphere.snapshot_tree import Power
from vmount.vsphere.thumbprint import Thumbprint
from vmount.vsphere.virtual_machine import CONNECTED, VirtualMachine

if TYPE_CHECKING:
    from vmount.transports.base import TransportMode
    from vmount.vsphere.settings import ConnectionSettings

HTTPS_PORT = 443
MOST_HOSTS = 16
"""Hosts whose ports are tried when no machine is named."""


@dataclass(frozen=True)
class TransportCheck:
    """A transport, and whether this system has what it needs."""

    mode: TransportMode
    unusable: str
    """Why it cannot be used here; "" if it can."""


async def check_transports() -> list[TransportCheck]:
    """Look at the transports that are tried by default, in their order."""
    return [
        TransportCheck(mode, await mode.why_unusable()) for mode in all_modes() if mode.by_default
    ]


async def check_server(
    settings: ConnectionSettings, wanted: str | None, transports: Sequence[TransportCheck]
) -> list[CheckResult]:
    """Look at all from the name of the server to the disks of the machine `wanted`, if one is named.

    What builds on something that fails is left out. Never raises for what it finds.
    """
    results = [await _check_name(settings.host)]
    if results[-1].state is State.OK:
        results.append(await _check_port(settings.host, settings.port, settings, needed=True))
    if results[-1].state is State.OK:
        results.append(await _check_certificate(settings))
    if results[-1].state is State.OK:
        try:
            async with connected(settings) as session:
                results += await _check_session(session, wanted, transports)
        except VmountError as error:
            results.append(CheckResult("login", State.PROBLEM, error.as_command()))
    return results


async def _check_name(host: str) -> CheckResult:
    try:
        with trio.fail_after(10):
            found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, trio.TooSlowError) as error:
        detail = f"{_reason(error)}; check the name and this system's name resolution"
        return CheckResult(f"name {host}", State.PROBLEM, detail)
    return CheckResult(
        f"name {host}", State.OK, ", ".join(dict.fromkeys(str(one[4][0]) for one in found))
    )


async def _check_port(
    host: str, port: int, settings: ConnectionSettings, *, needed: bool, use: str = ""
) -> CheckResult:
    name = f"port {port} of {host}"
    try:
        with trio.fail_after(settings.connect_timeout):
            stream = await trio.open_tcp_stream(host, port)
            await stream.aclose()
    except (OSError, trio.TooSlowError) as error:
        remedy = "allow TCP connections from this system to it (check firewalls)"
        if isinstance(error, socket.gaierror):
            remedy = "add the name to DNS or /etc/hosts"
        detail = f"{use}{_reason(error)}; {remedy}"
        return CheckResult(name, State.PROBLEM if needed else State.OPTIONAL, detail)
    return CheckResult(name, State.OK, "answers")


def _reason(error: OSError | trio.TooSlowError) -> str:
    """Return why there is no connection; trio tries several addresses and says so."""
    while isinstance(error.__cause__, BaseExceptionGroup | OSError):
        cause = error.__cause__
        inner = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause
        if not isinstance(inner, OSError):
            break
        error = inner
    return explain(error) if isinstance(error, OSError) else "no answer"


async def _check_certificate(settings: ConnectionSettings) -> CheckResult:
    try:
        await reach(settings)
        leaf = await trio.to_thread.run_sync(read_leaf, settings, abandon_on_cancel=True)
    except (VmountError, OSError) as error:
        said = explain(error) if isinstance(error, OSError) else str(error)
        return CheckResult("certificate", State.PROBLEM, said)
    thumbprint = Thumbprint.of(leaf)
    if settings.thumbprint is not None:
        return CheckResult("certificate", State.OK, f"matches the given thumbprint ({thumbprint})")
    if settings.insecure:
        detail = f"is not verified; to trust only this one: --thumbprint {thumbprint}"
        return CheckResult("certificate", State.OK, detail)
    return CheckResult("certificate", State.OK, f"verified ({thumbprint})")


async def _check_session(
    session: Session, wanted: str | None, transports: Sequence[TransportCheck]
) -> list[CheckResult]:
    about, settings = session.about, session.settings
    modes = [one.mode for one in transports]
    results = [
        CheckResult(
            "login", State.OK, f"{settings.user}, password from {settings.password.origin}"
        ),
        CheckResult("server", State.OK, f"{about.name}, API {about.api_version}"),
    ]
    try:
        if wanted is None:
            hosts = await session.read(_host_names, session)
            return results + await _check_hosts(hosts, settings, modes)
        vm = await find_vm(session, wanted)
        return results + await _check_machine(session, vm, transports)
    except VmountError as error:
        return [*results, CheckResult("machine", State.PROBLEM, error.as_command())]


async def _check_machine(
    session: Session, vm: VirtualMachine, transports: Sequence[TransportCheck]
) -> list[CheckResult]:
    results = [_machine(vm), *map(_disk(vm), vm.disks)]
    hosts = [] if vm.host is None else [vm.host.name]
    modes = [one.mode for one in transports]
    ports = await _check_hosts(hosts, session.settings, modes)
    uses = _uses(session, vm, modes)
    try:
        proxy = await _proxy(session)
        wanted = [one for one in uses if proxy is not None or one.where is not Where.PROXY]
        lacking = await granted(session, vm, wanted, proxy)
    except VmountError as error:
        results.append(CheckResult("privileges", State.OPTIONAL, f"cannot be queried: {error}"))
        lacking = {}
    results += [_privilege(one, where, uses[one]) for one, where in lacking.items()]
    return [*results, *ports, *_ways(transports, vm, lacking, ports)]


async def _proxy(session: Session) -> str | None:
    """Return the moRef of the VM that vmount runs in; None if it is none of this inventory."""
    try:
        return await find_proxy(session, Firmware())
    except VmountError:
        return None


@dataclass(frozen=True)
class PrivilegeUse:
    """What a privilege is needed for."""

    purpose: str
    is_needed: bool
    """Whether nothing can be read without it."""


def _uses(
    session: Session, vm: VirtualMachine, modes: Sequence[TransportMode]
) -> dict[Privilege, PrivilegeUse]:
    """Return the privileges that reading a VM may take."""
    is_running = vm.power is not Power.OFF
    uses = {one: PrivilegeUse("a snapshot of a running VM", is_running) for one in FOR_SNAPSHOT}
    users: dict[Privilege, list[str]] = {}
    for mode in modes:
        for privilege in mode.privileges:
            users.setdefault(privilege, []).append(mode.name)
    for privilege, names in users.items():
        what = "transport" if len(names) == 1 else "transports"
        uses[privilege] = PrivilegeUse(f"the {what} {' and '.join(names)}", False)
    if session.is_vcenter:
        uses |= {one: PrivilegeUse("the relocation lock", False) for one in FOR_LOCK}
    return uses


def _machine(vm: VirtualMachine) -> CheckResult:
    name = f"machine {vm.moref}"
    if vm.connection != CONNECTED:
        detail = f"{vm.path} is {vm.connection}: reconnect its host, or register it again"
        return CheckResult(name, State.PROBLEM, detail)
    snapshots = f", {len(vm.snapshots)} snapshots" if vm.snapshots else ""
    on = f" on {vm.host.name}" if vm.host is not None else ""
    return CheckResult(name, State.OK, f"{vm.path}, {vm.power.value}{on}{snapshots}")


def _disk(vm: VirtualMachine) -> Any:
    closed = {store.name for store in vm.datastores if not store.is_accessible}

    def look(disk: Any) -> CheckResult:
        name = f"disk {disk.name}"
        store = disk.file.partition("]")[0].removeprefix("[")
        if disk.problem is not None:
            return CheckResult(name, State.PROBLEM, f"{disk.file}: {disk.problem}")
        if store in closed:
            return CheckResult(name, State.PROBLEM, f"{disk.file}: the datastore is not accessible")
        links = f", {len(disk.files)} links" if len(disk.files) > 1 else ""
        return CheckResult(name, State.OK, f"{disk.file}, {disk.size:,} bytes{links}")

    return look


def _privilege(privilege: Privilege, where: tuple[str, ...], use: PrivilegeUse) -> CheckResult:
    if not where:
        return CheckResult(privilege.id, State.OK, f"for {use.purpose}")
    state = State.PROBLEM if use.is_needed else State.OPTIONAL
    detail = f'for {use.purpose}: grant "{privilege.title}" on {", ".join(where)}'
    return CheckResult(privilege.id, state, detail)


async def _check_hosts(
    hosts: list[str], settings: ConnectionSettings, modes: Sequence[TransportMode]
) -> list[CheckResult]:
    """Try the ports that bytes come by, of all hosts at once."""
    found: dict[tuple[str, int], CheckResult] = {}

    async def look(host: str, port: int, use: str) -> None:
        found[host, port] = await _check_port(host, port, settings, needed=False, use=use)

    uses = {HTTPS_PORT: "for https past the vCenter: "}
    for mode in modes:
        for port in mode.ports:
            users = [one.name for one in modes if port in one.ports]
            uses[port] = f"for {' and '.join(users)}: "
    async with trio.open_nursery() as nursery:
        for host in hosts[:MOST_HOSTS]:
            for port, use in uses.items():
                nursery.start_soon(look, host, port, use)
    return [found[key] for key in sorted(found)]


def _host_names(session: Session) -> list[str]:
    from pyVmomi import vim

    manager: Any = session.content.viewManager
    view = manager.CreateContainerView(session.content.rootFolder, [vim.HostSystem], True)
    try:
        return sorted(host.name for host in view.view[:MOST_HOSTS])
    finally:
        view.DestroyView()


def _obstacles(
    check: TransportCheck,
    vm: VirtualMachine,
    lacking: Mapping[Privilege, tuple[str, ...]],
    ports: Sequence[CheckResult],
) -> list[str]:
    """Return what keeps a transport from being used: this system, privileges, ports, datastores."""
    mode = check.mode
    wanted = tuple(f"port {port} " for port in mode.ports)
    return [
        *filter(None, [check.unusable]),
        *(f"lacks {one.id}" for one in mode.privileges if lacking.get(one)),
        *(
            f"no {one.name}"
            for one in ports
            if one.state is not State.OK and wanted and one.name.startswith(wanted)
        ),
        *(
            f"{store.name} is {store.kind}, where disks are not files"
            for store in vm.datastores
            if store.kind.lower() in mode.closed_to
        ),
    ]


def _ways(
    transports: Sequence[TransportCheck],
    vm: VirtualMachine,
    lacking: Mapping[Privilege, tuple[str, ...]],
    ports: Sequence[CheckResult],
) -> list[CheckResult]:
    """Say which transport would be used, as far as can be said without opening a disk."""
    results = []
    used = ""
    for check in transports:
        name = check.mode.name
        reasons = _obstacles(check, vm, lacking, ports)
        if reasons:
            results.append(CheckResult(f"transport {name}", State.OPTIONAL, "; ".join(reasons)))
            continue
        detail = "would be used" if not used else f"would be tried after {used}"
        used = used or name
        results.append(CheckResult(f"transport {name}", State.OK, detail))
    if not used:
        results.append(
            CheckResult(
                "transport", State.PROBLEM, "no transport can be used: see the reasons above"
            )
        )
    return results
