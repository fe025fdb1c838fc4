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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.backends.base import BackendError
from vmount.backends.nbd.process import NbdProgram
from vmount.errors import explain
from vmount.transports.base import TransportMode
from vmount.transports.program import ProgramTransport, memory_file
from vmount.vsphere.privileges import DISK_RANDOM_READ, GET_VM_FILES

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from vmount.transports.base import WantedDisk

LIBRARY_VARIABLE = "VMOUNT_VDDK_LIBDIR"
USUAL_PLACES = (
    "/opt/vmware-vix-disklib-distrib",
    "/usr/lib/vmware-vix-disklib",
    "/usr/local/lib/vmware-vix-disklib",
)
LIBRARY = "lib64/libvixDiskLib.so*"
NFC_PORT = 902


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


class VddkTransport(ProgramTransport):
    """VMware's NFC protocol, spoken by VDDK in a process of its own. The name is VDDK's own."""

    def check(self) -> None:
        """Raise BackendError if VDDK is not installed."""
        find_library()

    def program(self, wanted: WantedDisk, thumbprint: str) -> AbstractContextManager[NbdProgram]:
        """Give `nbdkit vddk` for a disk."""
        machine = self.machine
        settings = machine.session.settings
        disk = VddkDisk(
            host=settings.host,
            port=settings.port,
            user=settings.user,
            password=settings.password.read().reveal(),
            thumbprint=thumbprint,
            vm=machine.vm,
            snapshot=machine.snapshot,
            file=str(wanted.file),
            transport=self.name,
        )
        return vddk_program(disk, find_library())


async def why_no_vddk() -> str:
    """Return what is missing to use VDDK on this system; "" if nothing is."""
    try:
        find_library()
    except BackendError as error:
        return explain(error)
    return "" if shutil.which("nbdkit") else "nbdkit is not installed"


def _mode(name: str) -> TransportMode:
    return TransportMode(
        name=name,
        needs="VMware's VDDK (in /opt/vmware-vix-disklib-distrib, or where `VMOUNT_VDDK_LIBDIR` says) and "
        "nbdkit with its vddk plugin; port 902 of the host",
        remarks="nbdkit runs for this mount alone, on a socket that nobody else can reach",
        open=partial(VddkTransport, name),
        why_unusable=why_no_vddk,
        privileges=(DISK_RANDOM_READ, GET_VM_FILES),
        ports=(NFC_PORT,),
    )


MODES = (_mode("nbdssl"), _mode("nbd"))
