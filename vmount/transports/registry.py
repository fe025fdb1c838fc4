"""Which transports exist, in the order in which they are tried when the user names none.

A new transport is a module with its `MODES`, and a line here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from vmount.transports.base import TransportMode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vmount.disks.disk import OpenedDisk
    from vmount.transports.base import ReadyVm, Transport

TRANSPORTS: Mapping[str, str] = {
    "file": "file",
    "san": "san",
    "hotadd": "hotadd",
    "nbdssl": "vddk",
    "nbd": "vddk",
    "https": "https",
}
"""The module of each transport, in this folder. Modules are loaded when they are used: with pyvmomi or an HTTP
client they take longer than a copy of some files."""


def mode_of(name: str) -> TransportMode:
    """Return a transport by its name: one of TRANSPORTS, or a command of the configuration file."""
    if name not in TRANSPORTS:
        from vmount.transports.program import configured_mode

        return configured_mode(name)
    module = importlib.import_module(f"vmount.transports.{TRANSPORTS[name]}")
    modes: Iterable[TransportMode] = module.MODES
    return next(mode for mode in modes if mode.name == name)


def all_modes() -> list[TransportMode]:
    """Return all transports but those of the configuration file, in order."""
    return [mode_of(name) for name in TRANSPORTS]


def known_transports(programs: Mapping[str, object]) -> Sequence[str]:
    """Return the names that `--transport` takes; `programs` are those of the configuration file."""
    return [*TRANSPORTS, *programs]


def transports_for(machine: ReadyVm) -> list[Transport[OpenedDisk]]:
    """Return the wanted transports in order. Datastores that are mounted here come first in any case."""
    options = machine.options
    if options.transports:
        modes = [mode_of(name) for name in options.transports]
    else:
        modes = [mode for mode in all_modes() if mode.by_default]
    if options.datastores and "file" not in options.transports:
        modes.insert(0, mode_of("file"))
    return [mode.open(machine) for mode in modes]
