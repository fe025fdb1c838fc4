"""Which machine of the inventory vmount runs in.

The firmware tells the machine's UUID. As a number of SMBIOS its first three fields are little-endian, so
that Linux shows it in one order or the other, depending on the machine's virtual hardware; the serial number
has the bytes as vSphere has them. Machines that were copied can share a UUID: the network cards decide then.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyVmomi import vim, vmodl

from vmount.errors import Remedy, SourceError

if TYPE_CHECKING:
    from vmount.vsphere.session import Session

_SERIAL = re.compile(r"VMware-((?:[0-9a-f]{2}[ -]?){16})", re.IGNORECASE)
REMEDY = Remedy("give the VM with --proxy-vm", "give it with OpenOptions(proxy_vm=...)")


@dataclass(frozen=True)
class Firmware:
    """What this machine's firmware and network cards say. Folders may be others for tests."""

    dmi: Path = Path("/sys/class/dmi/id")
    network: Path = Path("/sys/class/net")

    def uuids(self) -> tuple[str, ...]:
        """Return what vSphere may call this machine, the likeliest first; () if this is no such machine.

        Raises PermissionError: the firmware's identity is root's to read.
        """
        found: dict[str, None] = {}
        matched = _SERIAL.match(_text(self.dmi / "product_serial"))
        if matched is not None:
            found[str(uuid.UUID(re.sub("[ -]", "", matched[1])))] = None
        try:
            told = uuid.UUID(_text(self.dmi / "product_uuid"))
        except ValueError:
            return tuple(found)
        found[str(told)] = None
        found[str(uuid.UUID(bytes=told.bytes_le))] = None
        return tuple(found)

    def addresses(self) -> frozenset[str]:
        """Return the addresses of the network cards, in small letters."""
        if not self.network.is_dir():
            return frozenset()
        return frozenset(_text(card / "address").lower() for card in self.network.iterdir()) - {""}


async def find_proxy(session: Session, firmware: Firmware, wanted: str = "") -> str:
    """Return the moRef of the machine that vmount runs in; `wanted`: its moRef, UUID or inventory path.

    Raises SourceError if it cannot be told, or is not in this inventory, and what the session raises.
    """
    if wanted:
        return await session.read(_named, session, wanted)
    try:
        uuids = firmware.uuids()
    except PermissionError as error:
        raise SourceError(
            "only root can read the UUID of this VM from its firmware", remedy=REMEDY
        ) from error
    if not uuids:
        raise SourceError("this system is not a VM of vSphere", remedy=REMEDY)
    for candidate in uuids:
        cards = await session.read(_by_uuid, session, candidate)
        here = firmware.addresses() if len(cards) > 1 else frozenset()
        machines = [moref for moref in cards if len(cards) == 1 or cards[moref] & here]
        if len(machines) == 1:
            return machines[0]
        if cards:
            raise SourceError(
                f"{len(cards)} VMs have the UUID {candidate}: {', '.join(cards)}",
                remedy=REMEDY,
            )
    raise SourceError(
        f"no VM of the inventory has the UUID {uuids[0]} of this system", remedy=REMEDY
    )


def _named(session: Session, wanted: str) -> str:
    if re.fullmatch(r"(?:vm-)?\d+", wanted):
        return wanted
    index = session.content.searchIndex
    assert index is not None, "every server has one"
    try:
        found = index.FindByUuid(None, str(uuid.UUID(wanted)), True, False)
    except ValueError:
        found = index.FindByInventoryPath(wanted)
    if not isinstance(found, vim.VirtualMachine):
        raise SourceError(f"{wanted}: no such VM in the inventory")
    return str(found._moId)  # noqa: SLF001 (there is no other way to it)


def _by_uuid(session: Session, wanted: str) -> dict[str, frozenset[str]]:
    """Return the machines of a BIOS UUID, and the addresses of their network cards."""
    index = session.content.searchIndex
    assert index is not None, "every server has one"
    found: list[Any]
    try:
        found = index.FindAllByUuid(None, wanted, True, False) or []
    except vmodl.fault.MethodNotFound:
        found = [index.FindByUuid(None, wanted, True, False)]
    machines = [vm for vm in found if isinstance(vm, vim.VirtualMachine)]
    return {str(vm._moId): _cards(vm) for vm in machines}  # noqa: SLF001


def _cards(vm: vim.VirtualMachine) -> frozenset[str]:
    config = vm.config
    return frozenset(
        (device.macAddress or "").lower()
        for device in ([] if config is None else config.hardware.device)
        if isinstance(device, vim.vm.device.VirtualEthernetCard)
    )


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip("\0 \n")
    except FileNotFoundError:
        return ""
    except OSError as error:
        if isinstance(error, PermissionError):
            raise
        return ""
