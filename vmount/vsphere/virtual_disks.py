"""The disks of a machine, from its configuration or a snapshot's.

What `config.hardware.device` says is taken, never the file layout, which can be out of date (R56).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyVmomi import vim

LONGEST_CHAIN = 1024
"""Files: far more than vSphere allows. It bounds what a server in confusion can make us do."""


@dataclass(frozen=True)
class VirtualDisk:
    """A disk as the machine has it."""

    name: str
    """Its controller address: scsi0-0, sata0-1, nvme0-0, ide1-0."""
    key: int
    """Of the device in its machine."""
    label: str
    """As the vSphere Client shows it: "Hard disk 1"."""
    size: int
    """Bytes."""
    files: tuple[str, ...]
    """Its file, as in "[datastore] folder/name.vmdk", and its parents' after it."""
    uuid: str
    """Of the backing, as vSphere writes it; "" if it does not say."""
    change_id: str
    """The state of changed block tracking; "" if it is off."""
    mode: str
    problem: str | None
    """Why it cannot be read, whatever the transport."""

    @property
    def file(self) -> str:
        """The file that is to be opened; "" if there is none."""
        return self.files[0] if self.files else ""


def disks_of(
    devices: Iterable[vim.vm.device.VirtualDevice], *, may_change: bool = True
) -> tuple[VirtualDisk, ...]:
    """Return the disks among a machine's or a snapshot's `config.hardware.device`, by their addresses.

    `may_change`: the machine runs, or may be started
    while it is read; what no snapshot keeps still has a problem then.
    """
    from pyVmomi import vim

    devices = list(devices)
    controllers: dict[int | None, Any] = {
        device.key: device
        for device in devices
        if isinstance(device, vim.vm.device.VirtualController)
    }
    disks = [device for device in devices if isinstance(device, vim.vm.device.VirtualDisk)]
    found: list[tuple[tuple[str, int, int], VirtualDisk]] = []
    taken: set[str] = set()
    for number, disk in enumerate(disks):
        controller = controllers.get(disk.controllerKey)
        place = _place(controller, disk, number)
        name = f"{place[0]}{place[1]}-{place[2]}" if place[0] != "disk" else f"disk{number}"
        while name in taken:  # two devices at one address: a server in confusion
            name += "~2"
        taken.add(name)
        found.append((place, _disk(name, disk, controller, may_change)))
    return tuple(disk for _, disk in sorted(found, key=lambda pair: pair[0]))


def _place(controller: Any, disk: Any, number: int) -> tuple[str, int, int]:
    """Return what sorts as people count: kind of controller, its number, the disk's number on it."""
    from pyVmomi import vim

    kinds = (
        (vim.vm.device.VirtualSCSIController, "scsi"),
        (vim.vm.device.VirtualSATAController, "sata"),
        (vim.vm.device.VirtualNVMEController, "nvme"),
        (vim.vm.device.VirtualIDEController, "ide"),
    )
    for kind, word in kinds:
        if isinstance(controller, kind) and disk.unitNumber is not None:
            return word, controller.busNumber, disk.unitNumber
    return "disk", number, 0


def _disk(name: str, disk: Any, controller: Any, may_change: bool) -> VirtualDisk:
    backing = disk.backing
    size = disk.capacityInBytes or (disk.capacityInKB or 0) * 1024
    return VirtualDisk(
        name=name,
        key=disk.key,
        label=getattr(disk.deviceInfo, "label", None) or "",
        size=size,
        files=_files(backing),
        uuid=getattr(backing, "uuid", None) or "",
        change_id=getattr(backing, "changeId", None) or "",
        mode=getattr(backing, "diskMode", None) or "",
        problem=_problem(backing, controller, may_change),
    )


def _files(backing: Any) -> tuple[str, ...]:
    files: list[str] = []
    while backing is not None and len(files) < LONGEST_CHAIN:
        name = getattr(backing, "fileName", None)
        if not name:
            break
        files.append(name)
        backing = getattr(backing, "parent", None)
    return tuple(files)


def _problem(backing: Any, controller: Any, may_change: bool) -> str | None:
    from pyVmomi import vim

    kinds = vim.vm.device.VirtualDisk
    if isinstance(backing, kinds.RawDiskMappingVer1BackingInfo):
        if backing.compatibilityMode == "physicalMode":
            return "a raw device in physical compatibility mode: the VM writes directly to a LUN"
    elif isinstance(
        backing, kinds.RawDiskVer2BackingInfo | kinds.PartitionedRawDiskVer2BackingInfo
    ):
        return "a raw device of its host"
    elif isinstance(backing, kinds.LocalPMemBackingInfo):
        return "persistent memory of its host"
    key = getattr(backing, "keyId", None)
    if key is not None:
        return f"encrypted by vSphere (key {key.keyId})"
    if not getattr(backing, "fileName", None):
        return "has no file"
    return _moving(backing, controller) if may_change else None


def _moving(backing: Any, controller: Any) -> str | None:
    """Return why no snapshot keeps a disk still."""
    remedy = "power the VM off to read this disk"
    if str(getattr(backing, "diskMode", None) or "").startswith("independent"):
        return f"independent: snapshots do not include it; {remedy}"
    if getattr(backing, "sharing", None) == "sharingMultiWriter":
        return f"written to by several VMs: snapshots do not include it; {remedy}"
    if str(getattr(controller, "sharedBus", None) or "noSharing") != "noSharing":
        return f"on a bus that several VMs share: snapshots do not include it; {remedy}"
    return None
