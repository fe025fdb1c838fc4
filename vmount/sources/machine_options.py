"""How a virtual machine that is given as a source is found and read, and what is a name of one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.datastores.lun_choice import LunChoice
from vmount.errors import UsageError
from vmount.transports.base import TransportOptions
from vmount.vsphere.access_options import AccessOptions
from vmount.vsphere.layer import Layer

if TYPE_CHECKING:
    from vmount.disks.remote import RemoteOptions
    from vmount.vsphere.settings import ConnectionSettings

FORCE = "to read it all the same: --force"
FILES = (".vmdk", ".vmx", ".img", ".raw", ".iso")
"""Endings of sources that name a file, whether it is there or not."""


@dataclass(frozen=True)
class MachineOptions:
    """How machines are found and read."""

    connection: ConnectionSettings | None = None
    """None: a source can be no machine."""
    problem: str = ""
    """Why there is no connection, and what to do about it."""
    access: AccessOptions = field(default_factory=AccessOptions)
    transports: tuple[str, ...] = ()
    """Names, the first to be tried first; empty: all that are known."""
    datastores: Mapping[str, Path] = field(default_factory=dict)
    """Folders of this machine by the names of the datastores that are mounted there."""
    programs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Commands that serve a disk over NBD, by the names that the configuration file gives them."""
    luns: LunChoice = field(default_factory=LunChoice)
    """The devices that may be read as LUNs of datastores."""
    proxy_vm: str = ""
    """The machine that vmount runs in, as moRef, UUID or inventory path; empty: the firmware tells."""

    def reading(self, remote: RemoteOptions, *, force: bool) -> TransportOptions:
        """Return what transports are told."""
        return TransportOptions(
            self.transports,
            self.datastores,
            self.programs,
            remote,
            force,
            self.luns,
            self.proxy_vm,
        )


def with_connection(
    options: MachineOptions,
    sources: Sequence[str],
    chosen: Layer | None = None,
    profile: str | None = None,
) -> MachineOptions:
    """Return the options with the connection that is needed if one of the sources is a machine.

    `chosen` is what the command line says, `profile` the one that it names. The password is asked for, if
    it must be. Raises UsageError for a configuration that is wrong.
    """
    if options.connection is not None or not any(map(is_machine, sources)):
        return options
    layer = Layer("caller") if chosen is None else chosen
    # Imported here: other sources need none of it.
    from vmount.vsphere.settings import resolve

    try:
        settings = resolve(layer, os.environ, profile)
    except UsageError as error:
        if layer.host is not None or profile is not None:
            raise
        return replace(options, problem=str(error))
    return replace(options, connection=settings.with_password_read())


def is_machine(source: str) -> bool:
    """Say whether a source that is no URI names a machine: what is no file, and not called like one."""
    is_named_so = source.lower().endswith(FILES) or source.startswith("raw:") or "://" in source
    return not is_named_so and not Path(source).exists()
