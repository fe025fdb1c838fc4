"""info.json: what is open, for programs. Its form is a contract: keys are added, never changed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vmount.errors import SCHEMA

if TYPE_CHECKING:
    from vmount.disk_set import OpenDiskSet
    from vmount.disks.disk import Disk
    from vmount.guest import Guest
    from vmount.volumes.find import Volume


def describe(manager: OpenDiskSet) -> dict[str, Any]:
    """Return the description of a set of disks. Sizes and offsets are in bytes."""
    return {
        "machines": [asdict(machine) for machine in manager.machines],
        "disks": [_disk(disk) for disk in manager.disks],
        "volumes": [_volume(volume, manager.guest) for volume in manager.volumes],
        "guest": _guest(manager.guest),
        "warnings": list(manager.warnings),
        "unread": [unread.as_object() for unread in manager.unread],
    }


CONTROLS = re.compile("[\\x7f-\\x9f]")


def as_json(
    value: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, indent: int | None = 2
) -> str:
    """Return an object, or a list of them, as JSON with a newline at its end; each has "schema" then.

    It is readable UTF-8; where a name is not, its bytes are escaped as \\udcXX. Control characters are
    escaped too: JSON asks for those below 32 only, and terminals obey some of the others.
    """
    if isinstance(value, Mapping):
        value = {"schema": SCHEMA, **value}
    else:
        value = [{"schema": SCHEMA, **each} for each in value]
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, indent=indent)
    return CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def _disk(disk: Disk) -> dict[str, Any]:
    return {
        "name": disk.name,
        "size": disk.size,
        "source": disk.source,
        "format": disk.format,
        "chain": [{"name": link.name, "format": link.format} for link in disk.chain],
        "transport": {
            "used": None if disk.data is None else disk.transport,
            "details": {} if disk.remote is None else disk.remote.describe(),
            "refused": [
                {"name": refusal.name, "reason": refusal.reason} for refusal in disk.refused
            ],
        },
        "problem": disk.problem,
    }


def _guest(guest: Guest) -> dict[str, Any] | None:
    if not guest.systems:
        return None
    main, *others = [asdict(system) for system in guest.systems]
    return main | {"others": others}


def _volume(volume: Volume, guest: Guest) -> dict[str, Any]:
    drive = guest.drives.letter_of(volume.name)
    partition = volume.partition
    return {
        "name": volume.name,
        "kind": volume.kind,
        "fstype": volume.fstype,
        "label": volume.label,
        "uuid": volume.uuid,
        "size": volume.size,
        "extents": [
            {"disk": extent.disk, "offset": extent.offset, "length": extent.length}
            for extent in volume.extents
        ],
        "partition": None
        if partition is None
        else {
            "number": partition.number,
            "type": partition.type,
            "type_name": partition.type_name,
            "name": partition.name,
            "guid": partition.guid,
        },
        "letter": None if drive is None else drive.letter,
        "letter_assigned": drive is not None and drive.assigned,
        "guest_mount_points": list(guest.mount_points.get(volume.name, ())),
        "tree": None if volume.filesystem is None else f"volumes/{volume.name}",
        "problem": volume.problem,
    }
