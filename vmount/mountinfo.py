"""What the kernel says is mounted (proc(5), mountinfo)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

FSTYPE = "fuse.vmount"


@dataclass(frozen=True)
class KernelMount:
    """A vmount mount as the kernel lists it."""

    device: str
    """ "major:minor"."""
    mountpoint: str
    source: str


def vmount_mounts() -> list[KernelMount]:
    """Return all vmount mounts of this mount namespace, the oldest first."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        fields, _, rest = line.partition(b" - ")
        fstype, source, *_ = rest.split(b" ")
        if fstype == FSTYPE.encode():
            _, _, device, _, mountpoint, *_ = fields.split(b" ")
            mounts.append(KernelMount(device.decode(), _unescape(mountpoint), _unescape(source)))
    return mounts


def find_mount(mountpoint: str) -> KernelMount | None:
    """Return the vmount mount at a path, the topmost one; None if there is none."""
    found = [mount for mount in vmount_mounts() if mount.mountpoint == mountpoint]
    return found[-1] if found else None


def _unescape(field: bytes) -> str:
    text = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)
    return os.fsdecode(text)
