"""VMware's NFC protocol by way of VDDK, where that is installed: `nbdkit vddk` serves a disk to us alone.

Source: nbdkit-vddk-plugin(1). VDDK itself is never loaded into this process.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vmount.backends.base import BackendError
from vmount.backends.nbd.process import NbdProgram

LIBRARY_VARIABLE = "VMOUNT_VDDK_LIBDIR"
USUAL_PLACES = (
    "/opt/vmware-vix-disklib-distrib",
    "/usr/lib/vmware-vix-disklib",
    "/usr/local/lib/vmware-vix-disklib",
)
LIBRARY = "lib64/libvixDiskLib.so*"


@dataclass(frozen=True)
class VddkDisk:
    """What VDDK must know to open a disk."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    thumbprint: str
    """SHA-1 of the server's certificate, hexadecimal with colons."""
    vm: str
    """The machine's moRef."""
    snapshot: str | None
    """The snapshot's moRef."""
    file: str
    """ "[datastore] folder/file.vmdk"."""
    transport: str
    """As VDDK calls it: "nbdssl", "nbd"."""


def find_library(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder that VDDK is installed in. Raises BackendError."""
    named = environment.get(LIBRARY_VARIABLE)
    places = [named] if named else USUAL_PLACES
    for place in places:
        if any(Path(place).glob(LIBRARY)):
            return Path(place)
    raise BackendError(
        f"VDDK is not installed: no {LIBRARY} in {', '.join(places)} ({LIBRARY_VARIABLE} names its folder)",
        code=errno.ENOENT,
    )


@contextmanager
def vddk_program(disk: VddkDisk, library: Path) -> Iterator[NbdProgram]:
    """Give the program that serves a disk; start it within the context.

    Raises BackendError if there is no nbdkit.
    """
    nbdkit = shutil.which("nbdkit")
    if nbdkit is None:
        raise BackendError("nbdkit is not installed", code=errno.ENOENT)
    with memory_file(disk.password) as descriptor:
        yield NbdProgram(
            f"nbdkit vddk ({disk.transport})",
            (
                nbdkit,
                *("--foreground", "--readonly", "--exit-with-parent", "--unix", "{socket}"),
                *("vddk", "libdir={library}", "server={host}", "port={port}", "user={user}"),
                *(f"password=+/proc/self/fd/{descriptor}", "thumbprint={thumbprint}"),
                *("vm=moref={vm}", "transports={transport}"),
                *(["snapshot={snapshot}"] if disk.snapshot else []),
                "file={file}",
            ),
            {
                "library": str(library),
                "host": disk.host,
                "port": str(disk.port),
                "user": disk.user,
                "thumbprint": disk.thumbprint,
                "vm": disk.vm,
                "transport": disk.transport,
                "snapshot": disk.snapshot or "",
                "file": disk.file,
            },
            secrets=(disk.password,),
            descriptors=(descriptor,),
        )


@contextmanager
def memory_file(secret: str) -> Iterator[int]:
    """Give a descriptor of a file without a name that holds a secret, for a program that inherits it.

    A pipe could be read once only: nbdkit's plugin starts nbdkit anew to have VDDK's own libraries found,
    and reads the password again.
    """
    descriptor = os.memfd_create("secret")
    try:
        os.write(descriptor, secret.encode())
        yield descriptor
    finally:
        os.close(descriptor)
