"""Finding machines: by moRef, name, UUID, inventory path, IP address or DNS name (R13)."""

from __future__ import annotations

import difflib
import fnmatch
import ipaddress
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vmount.errors import Remedy, SourceError, printable
from vmount.vsphere.errors import ObjectGone
from vmount.vsphere.names import decode_name, path_of
from vmount.vsphere.properties import Properties, retrieve
from vmount.vsphere.snapshot_tree import Power
from vmount.vsphere.virtual_machine import VirtualMachine, read_machine

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vmount.vsphere.session import Session

MOST_CANDIDATES = 20
"""Machines that an error names."""
MOST_SUGGESTIONS = 5

_MOREF = re.compile(r"(vm-)?\d+")
"""vCenter's, and a host's."""
_UUID = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """A machine in a list."""

    moref: str
    name: str
    path: str
    power: Power
    is_template: bool
    host: str
    guest: str
    """The operating system."""
    address: str
    host_name: str
    size: int
    """Bytes in datastores."""
    bios_uuid: str
    instance_uuid: str


async def find_vm(session: Session, wanted: str) -> VirtualMachine:
    """Find a machine.

    `wanted` is its moRef, instance or BIOS UUID, IP address, inventory path, name or DNS name; tried in
    that order where it looks like one. "moref=", "uuid=", "ip=", "path=", "name=" or "dns=" in front says
    which is meant. Raises SourceError for none, telling of similar names, and for several, listing them.
    """
    return await read_machine(session, await find_moref(session, wanted))


async def find_moref(session: Session, wanted: str) -> str:
    """Find a machine as `find_vm` does and return its moRef."""
    kind, separator, value = wanted.partition("=")
    if separator and kind in _BY_KIND:
        found = await _BY_KIND[kind](session, value)
        return await _only(session, wanted, found)
    if _MOREF.fullmatch(wanted) and (found := await _by_moref(session, wanted)):
        return found[0]
    if _UUID.fullmatch(wanted) and (found := await _by_uuid(session, wanted)):
        return await _only(session, wanted, found)
    if _is_address(wanted) and (found := await _by_ip(session, wanted)):
        return await _only(session, wanted, found)
    if "/" in wanted and (found := await _by_path(session, wanted)):
        return found[0]
    entries = await list_machines(session, details=False)
    named = [entry for entry in entries if wanted in (entry.name, _last(entry.path))]
    if len(named) == 1:
        return named[0].moref
    if named:
        raise _several(wanted, named)
    found = await _by_dns(session, wanted)
    return await _only(session, wanted, found, entries)


async def list_machines(
    session: Session, pattern: str | None = None, *, details: bool = True
) -> list[Entry]:
    """List machines in the order of their paths; without `details` only names and paths are asked for.

    `pattern`: with * ? [] of names or of paths; without any of them, a part of the name. Case does not
    matter.
    """
    found = await session.read(_retrieve_all, session, _DETAILS if details else ())
    by_moref = {one.moref: one for one in found}
    entries = [_entry(one, by_moref) for one in found if _is_machine(one)]
    if pattern is not None:
        entries = [entry for entry in entries if _matches(entry, pattern)]
    return sorted(entries, key=lambda entry: (entry.path.casefold(), entry.moref))


def _matches(entry: Entry, pattern: str) -> bool:
    pattern = pattern.casefold()
    if not re.search(r"[*?\[]", pattern):
        pattern = f"*{pattern}*"
    text = entry.path if "/" in pattern else entry.name
    return fnmatch.fnmatchcase(text.casefold(), pattern)


_DETAILS = (
    "runtime.powerState",
    "runtime.host",
    "config.uuid",
    "config.instanceUuid",
    "config.template",
    "config.guestFullName",
    "guest.hostName",
    "guest.ipAddress",
    "summary.storage.committed",
)


def _retrieve_all(session: Session, details: Sequence[str]) -> list[Properties]:
    from pyVmomi import vim, vmodl

    content, query = session.content, vmodl.query.PropertyCollector
    above = (vim.Folder, vim.Datacenter, vim.VirtualApp)
    wanted: dict[type, Sequence[str]] = dict.fromkeys(above, ("name", "parent"))
    wanted[vim.VirtualMachine] = ("name", "parent", "parentVApp", *details)
    if details:
        wanted[vim.HostSystem] = ("name",)
    assert content.viewManager is not None, "every server has one"
    view: Any = content.viewManager.CreateContainerView(content.rootFolder, list(wanted), True)
    try:
        step = query.TraversalSpec(type=vim.view.ContainerView, path="view", skip=False)
        objects = [
            query.ObjectSpec(obj=view, skip=True, selectSet=[step]),
            query.ObjectSpec(obj=content.rootFolder),  # is not in the view of what is below it
        ]
        return retrieve(content.propertyCollector, objects, wanted)
    finally:
        view.DestroyView()


def _is_machine(found: Properties) -> bool:
    from pyVmomi import vim

    return isinstance(found.reference, vim.VirtualMachine)


def _entry(vm: Properties, others: dict[str, Properties]) -> Entry:
    host = vm.get("runtime.host")
    on: Any = {} if host is None else others.get(host._moId, {})  # noqa: SLF001 (no other way)
    return Entry(
        moref=vm.moref,
        name=decode_name(vm.get("name", "?")),
        path=path_of(vm, others),
        power=Power(str(vm.get("runtime.powerState", Power.OFF.value))),
        is_template=bool(vm.get("config.template")),
        host=decode_name(on.get("name", "")),
        guest=vm.get("config.guestFullName", ""),
        address=vm.get("guest.ipAddress", ""),
        host_name=vm.get("guest.hostName", ""),
        size=vm.get("summary.storage.committed", 0),
        bios_uuid=vm.get("config.uuid", ""),
        instance_uuid=vm.get("config.instanceUuid", ""),
    )


async def _by_moref(session: Session, text: str) -> list[str]:
    try:
        await session.properties(session.vm(text), "name")
    except ObjectGone:
        return []
    return [text]


async def _by_uuid(session: Session, text: str) -> list[str]:
    try:
        plain = str(uuid.UUID(text))
    except ValueError:
        return []
    # Instance UUIDs are vCenter's own and unique; BIOS UUIDs are copied with a machine.
    return await _search(session, "Uuid", plain, True, True) or await _search(
        session, "Uuid", plain, True, False
    )


async def _by_ip(session: Session, text: str) -> list[str]:
    return await _search(session, "Ip", text, True)


async def _by_dns(session: Session, text: str) -> list[str]:
    return await _search(session, "DnsName", text, True)


async def _by_path(session: Session, text: str) -> list[str]:
    from pyVmomi import vim

    def look() -> Any:
        return _index(session).FindByInventoryPath(text.strip("/"))

    found = await session.read(look)
    return [found._moId] if isinstance(found, vim.VirtualMachine) else []  # noqa: SLF001


async def _by_name(session: Session, text: str) -> list[str]:
    entries = await list_machines(session, details=False)
    return [entry.moref for entry in entries if text in (entry.name, _last(entry.path))]


_BY_KIND = {
    "moref": _by_moref,
    "uuid": _by_uuid,
    "ip": _by_ip,
    "dns": _by_dns,
    "path": _by_path,
    "name": _by_name,
}


async def _search(session: Session, key: str, *arguments: object) -> list[str]:
    """Return the morefs of all machines that the server's index has for something."""

    def look() -> list[str]:
        from pyVmomi import vmodl

        index: Any = _index(session)
        try:
            found = getattr(index, f"FindAllBy{key}")(None, *arguments) or []
        except vmodl.fault.MethodNotFound:
            one = getattr(index, f"FindBy{key}")(None, *arguments)
            found = [] if one is None else [one]
        return [vm._moId for vm in found]  # noqa: SLF001 (no other way to it)

    return list(dict.fromkeys(await session.read(look)))


def _index(session: Session) -> Any:
    index = session.content.searchIndex
    assert index is not None, "every server has one"
    return index


async def _only(
    session: Session, wanted: str, found: list[str], known: list[Entry] | None = None
) -> str:
    if len(found) == 1:
        return found[0]
    entries = await list_machines(session, details=False) if known is None else known
    if found:
        raise _several(wanted, [entry for entry in entries if entry.moref in found])
    near = _similar(wanted, entries)
    raise SourceError(
        f"{session.settings.address}: no VM {wanted!r}",
        remedy=f"did you mean {_listed(near)}?" if near else Remedy("vmount vms lists them"),
    )


def _several(wanted: str, found: list[Entry]) -> SourceError:
    return SourceError(
        f"{len(found)} VMs are called {wanted!r}: {_listed(found[:MOST_CANDIDATES])}",
        remedy="give its moRef or path",
    )


def _similar(wanted: str, entries: list[Entry]) -> list[Entry]:
    text = wanted.rpartition("=")[2].rpartition("/")[2].casefold()
    by_name: dict[str, list[Entry]] = {}
    for entry in entries:
        by_name.setdefault(entry.name.casefold(), []).append(entry)
    close = difflib.get_close_matches(text, by_name, MOST_SUGGESTIONS)
    within = [name for name in by_name if text and text in name]
    names = dict.fromkeys([*close, *within])
    return [entry for name in names for entry in by_name[name]][:MOST_SUGGESTIONS]


def _listed(entries: Iterable[Entry]) -> str:
    return ", ".join(printable(f"{entry.moref} {entry.path}") for entry in entries)


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
