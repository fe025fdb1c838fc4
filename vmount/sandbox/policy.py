"""What a confined process may do. Everything that is not named is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CAP_CHOWN = 0
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_FOWNER = 3
CAP_FSETID = 4
CAP_SYS_ADMIN = 21
CAP_MKNOD = 27
CAP_SETFCAP = 31
"""<linux/capability.h>."""

READING = frozenset({CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH})
"""What lets root open sources that belong to others."""
COPYING = frozenset({CAP_FOWNER, CAP_FSETID, CAP_MKNOD})
"""What root needs to write beside the files of others, with modes, times and device nodes."""
RESTORING = frozenset({CAP_CHOWN, CAP_SETFCAP, CAP_SYS_ADMIN})
"""What gives files the owners and attributes that they had, besides."""


@dataclass(frozen=True)
class Policy:
    """The rights of one process. A path stands for itself and for all that is below it."""

    readable: tuple[Path, ...] = ()
    """Files and folders. A path that does not exist is passed over."""
    writable: tuple[Path, ...] = ()
    """Files and folders in which everything may be read, made, written and removed."""
    removable: tuple[Path, ...] = ()
    """Folders out of which files may be removed, and nothing else done."""
    devices: tuple[Path, ...] = ()
    """Devices, and folders of them, that may be opened for reading and asked for their properties."""
    ports: frozenset[int] = frozenset()
    """TCP ports that may be connected to; empty: no connection at all."""
    asks_for_names: bool = False
    """Whether names of servers are looked up, which takes UDP."""
    unix_sockets: bool = False
    """Whether stream sockets of this machine may be connected to and listened on."""
    starts_programs: bool = False
    """Whether programs are started. They inherit what is refused, so that much less is."""
    changes_attributes: bool = False
    """Whether owners, modes, times and extended attributes of files are set."""
    capabilities: frozenset[int] = READING
    """Those that are kept, if the process has them."""
