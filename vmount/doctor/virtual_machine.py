"""Is there a way from here to a machine's disks? The part of `vmount doctor` that asks vSphere."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from vmount.doctor.results import Finding, State
from vmount.errors import VmountError, explain
from vmount.vsphere.certificates import read_leaf
from vmount.vsphere.inventory import find_vm
from vmount.vsphere.privileges import Privilege, Use, granted
from vmount.vsphere.session import Session, connected, reach
from vmount.vsphere.snapshot_tree import Power
from vmount.vsphere.thumbprint import Thumbprint
from vmount.vsphere.virtual_machine import CONNECTED, VirtualMachine

if TYPE_CHECKING:
    from vmount.vsphere.settings import ConnectionSettings

NFC_PORT = 902
HTTPS_PORT = 443
MOST_HOSTS = 16
"""Hosts whose ports are tried when no machine is named."""
OUT_OF_REACH = frozenset({"vsan", "vvol"})
"""Kinds of datastores (in small letters) whose files /folder does not give."""


@dataclass(frozen=True)
class Transports:
    """The ways to a machine's disks, as far as this system decides about them."""

    order: Sequence[str]
    """In which they are tried."""
    unusable: Mapping[str, str]
    """Why some cannot be used here, by their names."""


async def check_server(
    settings: ConnectionSettings, wanted: str | None, transports: Transports
) -> list[Finding]:
    """Look at all from the name of the server to the disks of the machine `wanted`, if one is named.

    What builds on something that fails is left out. Never raises for what it finds.
    """
    findings = [await _check_name(settings.host)]
    if findings[-1].state is State.OK:
        findings.append(await _check_port(settings.host, settings.port, settings, needed=True))
    if findings[-1].state is State.OK:
        findings.append(await _check_certificate(settings))
    if findings[-1].state is State.OK:
        try:
            async with connected(settings) as session:
                findings += await _check_session(session, wanted, transports)
        except VmountError as error:
            findings.append(Finding("login", State.PROBLEM, str(error)))
    return findings


async def _check_name(host: str) -> Finding:
    try:
        with trio.fail_after(10):
            found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, trio.TooSlowError) as error:
        detail = f"{_reason(error)}; check it, and this system's name resolution"
        return Finding(f"name {host}", State.PROBLEM, detail)
    return Finding(
        f"name {host}", State.OK, ", ".join(dict.fromkeys(str(one[4][0]) for one in found))
    )


async def _check_port(
    host: str, port: int, settings: ConnectionSettings, *, needed: bool, use: str = ""
) -> Finding:
    name = f"port {port} of {host}"
    try:
        with trio.fail_after(settings.connect_timeout):
            stream = await trio.open_tcp_stream(host, port)
            await stream.aclose()
    except (OSError, trio.TooSlowError) as error:
        remedy = "let this system connect to it (TCP, firewalls on the way)"
        if isinstance(error, socket.gaierror):
            remedy = "make the name known to this system (DNS, /etc/hosts)"
        detail = f"{use}{_reason(error)}; {remedy}"
        return Finding(name, State.PROBLEM if needed else State.OPTIONAL, detail)
    return Finding(name, State.OK, "answers")


def _reason(error: OSError | trio.TooSlowError) -> str:
    """Return why there is no connection; trio tries several addresses and says so."""
    while isinstance(error.__cause__, BaseExceptionGroup | OSError):
        cause = error.__cause__
        inner = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause
        if not isinstance(inner, OSError):
            break
        error = inner
    return explain(error) if isinstance(error, OSError) else "no answer"


async def _check_certificate(settings: ConnectionSettings) -> Finding:
    try:
        await reach(settings)
        leaf = await trio.to_thread.run_sync(read_leaf, settings, abandon_on_cancel=True)
    except (VmountError, OSError) as error:
        said = explain(error) if isinstance(error, OSError) else str(error)
        return Finding("certificate", State.PROBLEM, said)
    thumbprint = Thumbprint.of(leaf)
    if settings.thumbprint is not None:
        return Finding("certificate", State.OK, f"is the one that was named ({thumbprint})")
    if settings.insecure:
        detail = f"is not verified; to trust this one only: --thumbprint {thumbprint}"
        return Finding("certificate", State.OK, detail)
    return Finding("certificate", State.OK, f"verified ({thumbprint})")


async def _check_session(
    session: Session, wanted: str | None, transports: Transports
) -> list[Finding]:
    about, settings = session.about, session.settings
    findings = [
        Finding("login", State.OK, f"{settings.user}, password from {settings.password.origin}"),
        Finding("server", State.OK, f"{about.name}, API {about.api_version}"),
    ]
    try:
        if wanted is None:
            hosts = await session.read(_host_names, session)
            return findings + await _check_hosts(hosts, settings)
        vm = await find_vm(session, wanted)
        return findings + await _check_machine(session, vm, transports)
    except VmountError as error:
        return [*findings, Finding("machine", State.PROBLEM, str(error))]


async def _check_machine(
    session: Session, vm: VirtualMachine, transports: Transports
) -> list[Finding]:
    findings = [_machine(vm), *map(_disk(vm), vm.disks)]
    hosts = [] if vm.host is None else [vm.host.name]
    ports = await _check_hosts(hosts, session.settings)
    try:
        lacking = await granted(session, vm)
    except VmountError as error:
        findings.append(Finding("privileges", State.OPTIONAL, f"cannot be asked for: {error}"))
        lacking = {}
    needed = Use.SNAPSHOT if vm.power is not Power.OFF else None
    findings += [
        _privilege(privilege, where, needed)
        for privilege, where in lacking.items()
        if session.is_vcenter or privilege.use is not Use.LOCK
    ]
    against = _against(vm, lacking, ports)
    return [*findings, *ports, *_ways(transports, against)]


def _machine(vm: VirtualMachine) -> Finding:
    name = f"machine {vm.moref}"
    if vm.connection != CONNECTED:
        detail = f"{vm.path} is {vm.connection}: reconnect its host, or register it again"
        return Finding(name, State.PROBLEM, detail)
    snapshots = f", {len(vm.snapshots)} snapshots" if vm.snapshots else ""
    on = f" on {vm.host.name}" if vm.host is not None else ""
    return Finding(name, State.OK, f"{vm.path}, {vm.power.value}{on}{snapshots}")


def _disk(vm: VirtualMachine) -> Any:
    closed = {store.name for store in vm.datastores if not store.is_accessible}

    def look(disk: Any) -> Finding:
        name = f"disk {disk.name}"
        store = disk.file.partition("]")[0].removeprefix("[")
        if disk.problem is not None:
            return Finding(name, State.PROBLEM, f"{disk.file}: {disk.problem}")
        if store in closed:
            return Finding(name, State.PROBLEM, f"{disk.file}: the datastore is not accessible")
        links = f", {len(disk.files)} links" if len(disk.files) > 1 else ""
        return Finding(name, State.OK, f"{disk.file}, {disk.size:,} bytes{links}")

    return look


def _privilege(privilege: Privilege, where: tuple[str, ...], needed: Use | None) -> Finding:
    if not where:
        return Finding(privilege.id, State.OK, f"for {privilege.use}")
    state = State.PROBLEM if privilege.use is needed else State.OPTIONAL
    detail = f'for {privilege.use}: grant "{privilege.title}" on {", ".join(where)}'
    return Finding(privilege.id, state, detail)


async def _check_hosts(hosts: list[str], settings: ConnectionSettings) -> list[Finding]:
    """Try the ports that bytes come by, of all hosts at once."""
    found: dict[tuple[str, int], Finding] = {}

    async def look(host: str, port: int, use: str) -> None:
        found[host, port] = await _check_port(host, port, settings, needed=False, use=use)

    async with trio.open_nursery() as nursery:
        for host in hosts[:MOST_HOSTS]:
            nursery.start_soon(look, host, HTTPS_PORT, "for https past the vCenter: ")
            nursery.start_soon(look, host, NFC_PORT, "for nbd and nbdssl: ")
    return [found[key] for key in sorted(found)]


def _host_names(session: Session) -> list[str]:
    from pyVmomi import vim

    manager: Any = session.content.viewManager
    view = manager.CreateContainerView(session.content.rootFolder, [vim.HostSystem], True)
    try:
        return sorted(host.name for host in view.view[:MOST_HOSTS])
    finally:
        view.DestroyView()


def _against(
    vm: VirtualMachine, lacking: Mapping[Privilege, tuple[str, ...]], ports: list[Finding]
) -> dict[str, list[str]]:
    """Return what privileges, ports and datastores have against transports, by their names."""
    without = {
        use: [f"lacks {one.id}" for one, where in lacking.items() if where and one.use is use]
        for use in Use
    }
    closed = [f"no {one.name}" for one in ports if one.state is not State.OK]
    nfc = without[Use.NBD] + [one for one in closed if one.startswith(f"no port {NFC_PORT} ")]
    kinds = [
        f"{store.name} is {store.kind}, which gives no files"
        for store in vm.datastores
        if store.kind.lower() in OUT_OF_REACH
    ]
    return {
        "nbdssl": nfc,
        "nbd": nfc,
        "https": without[Use.HTTPS] + kinds,
        "hotadd": without[Use.HOTADD],
    }


def _ways(transports: Transports, against: Mapping[str, list[str]]) -> list[Finding]:
    """Say which transport would be used, as far as can be said without opening a disk."""
    findings = []
    used = ""
    for name in transports.order:
        reasons = [*filter(None, [transports.unusable.get(name)]), *against.get(name, ())]
        if reasons:
            findings.append(Finding(f"transport {name}", State.OPTIONAL, "; ".join(reasons)))
            continue
        detail = "would be used" if not used else f"would be tried after {used}"
        used = used or name
        findings.append(Finding(f"transport {name}", State.OK, detail))
    if not used:
        findings.append(
            Finding("transport", State.PROBLEM, "none is left: see the reasons of each above")
        )
    return findings
