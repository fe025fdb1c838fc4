"""What the kernel says is mounted (proc(5), mountinfo)."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from vmount.parsers.model import MOST_LINKS

FSTYPE = "fuse.vmount"


@dataclass(frozen=True)
class KernelMount:
    """A vmount mount as the kernel lists it."""

    device: str
    """ "major:minor"."""
    mountpoint: str
    source: str
    user: int | None
    """Who mounted it (its number); nobody else is let in, not even root, without --allow-other."""


def vmount_mounts() -> list[KernelMount]:
    """Return all vmount mounts of this mount namespace, the oldest first."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        fields, _, rest = line.partition(b" - ")
        fstype, source, *options = rest.split(b" ")
        if fstype == FSTYPE.encode():
            _, _, device, _, mountpoint, *_ = fields.split(b" ")
            user = re.search(rb"(?:^|,)user_id=(\d+)", b"".join(options))
            mounts.append(
                KernelMount(
                    device.decode(),
                    _unescape(mountpoint),
                    _unescape(source),
                    None if user is None else int(user[1]),
                )
            )
    return mounts


def find_mount(mountpoint: str) -> KernelMount | None:
    """Return the vmount mount at a path, the topmost one; None if there is none."""
    found = [mount for mount in vmount_mounts() if mount.mountpoint == mountpoint]
    return found[-1] if found else None


def resolve(path: str) -> str:
    """Return a path without links, as os.path.realpath does, but never look at or below a vmount mount.

    Such a look waits for the mount's server, which may not answer. What does not exist is kept as it is.
    """
    mounts = {mount.mountpoint for mount in vmount_mounts()}
    pending = os.path.join(os.getcwd(), path).split("/")[::-1]  # noqa: PTH109, PTH118 (text)
    here, links = "/", 0
    while pending:
        name = pending.pop()
        if here in mounts:
            return os.path.normpath("/".join([here, name, *reversed(pending)]))
        if name in {"", "."}:
            continue
        if name == "..":
            here = os.path.dirname(here)  # noqa: PTH120
            continue
        there = os.path.join(here, name)  # noqa: PTH118
        try:
            if there in mounts or links == MOST_LINKS:
                here = there
                continue
            target = os.readlink(there)  # noqa: PTH115
        except OSError:
            here = there
            continue
        links += 1
        if target.startswith("/"):
            here = "/"
        pending += target.split("/")[::-1]
    return here


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
