"""What the kernel says is mounted (proc(5), mountinfo)."""

from __future__ import annotations

import contextlib
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


def processes_below(folder: str) -> list[tuple[int, str]]:
    """Return number and name of each process that has a file or its working directory below a folder.

    Links are read and not followed: following one may hang on some other file system.
    """
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and _uses(process, folder):
            with contextlib.suppress(OSError):
                found.append((int(process.name), (process / "comm").read_text().strip()))
    return found


def _uses(process: Path, folder: str) -> bool:
    links = [process / "cwd", process / "root"]
    with contextlib.suppress(OSError):
        links += (process / "fd").iterdir()
    for link in links:
        with contextlib.suppress(OSError):
            target = os.fspath(link.readlink())
            if target == folder or target.startswith(folder + "/"):
                return True
    return False


def _unescape(field: bytes) -> str:
    text = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)
    return os.fsdecode(text)
