"""A small process that may mount and unmount one mount point, for a process that may not.

Strategy: it is started before the process that serves gives up its rights, and has those of the user who
mounts. It takes two words: at the first it mounts, and fusermount3 passes the open /dev/fuse through a
socket, as it does for libfuse; at the second it unmounts. Nobody but fusermount3 handles the kernel's
mount, and libfuse is given the descriptor (/dev/fd/N).

Source: fusermount3(1), libfuse's lib/mount.c: _FUSE_COMMFD, and fuse_session_mount for /dev/fd/N.
"""

from __future__ import annotations

import array
import logging
import os
import socket
import subprocess
from typing import TYPE_CHECKING

from vmount.errors import MountError
from vmount.mounting.mountinfo import find_mount

if TYPE_CHECKING:
    from collections.abc import Collection

log = logging.getLogger(__name__)

ON_TWO_WORDS = """trap "" HUP INT TERM
read -r word && fusermount3 -o "$2" -- "$1" || exit
unset _FUSE_COMMFD
read -r word && exec fusermount3 -u -z -- "$1" """
"""A shell script: mount and unmount when a line comes, end when none can come any more."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Of the process, if ours is not set."""
UNMOUNTING = 10.0
"""Seconds for fusermount3, which asks nobody but the kernel."""


class Mounter:
    """The process. Close it when done."""

    def __init__(self, mountpoint: str, options: Collection[str]) -> None:
        """Start it; nothing is mounted yet. `options` are fusermount3's. Raises OSError."""
        self._mountpoint = mountpoint
        self._device: str | None = None
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        number = str(theirs.fileno())
        with theirs:
            self._process = subprocess.Popen(
                [
                    *("/bin/sh", "-c", ON_TWO_WORDS, "vmount-mounter"),
                    *(mountpoint, ",".join(sorted(options))),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd="/",
                # Ours may hold a password.
                env={"PATH": os.environ.get("PATH", PATH), "_FUSE_COMMFD": number},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def mount(self) -> int:
        """Mount; return the descriptor of /dev/fuse. Raises MountError with fusermount3's own words."""
        assert self._process.stdin is not None
        descriptors = array.array("i")
        try:
            self._process.stdin.write(b"mount\n")
            self._process.stdin.flush()
            _, passed, _, _ = self._socket.recvmsg(1, socket.CMSG_SPACE(descriptors.itemsize))
        except BrokenPipeError:
            passed = []
        for level, kind, data in passed:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(data)
        if not descriptors:
            _, errors = self._process.communicate()
            text = errors.decode("utf-8", "replace").strip() or "fusermount3 printed no reason"
            raise MountError(f"{self._mountpoint}: not mounted: {text}")
        self._socket.close()
        os.set_inheritable(descriptors[0], False)
        mount = find_mount(self._mountpoint)
        self._device = None if mount is None else mount.device
        return descriptors[0]

    def close(self) -> None:
        """Unmount what was mounted, if it is there still. A second call does nothing."""
        self._socket.close()
        if self._process.stdin is not None and self._process.stdin.closed:
            return
        mount = find_mount(self._mountpoint)
        is_there = mount is not None and mount.device == self._device
        try:
            _, errors = self._process.communicate(b"unmount\n" if is_there else b"", UNMOUNTING)
        except subprocess.TimeoutExpired:
            # It cannot be killed from a confined process; it ends with fusermount3.
            log.warning("%s: fusermount3 has not ended after %.0f s", self._mountpoint, UNMOUNTING)
            return
        if is_there and self._process.returncode != 0:
            log.warning("%s: not unmounted: %s", self._mountpoint, errors.decode().strip())
