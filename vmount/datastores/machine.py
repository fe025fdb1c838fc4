"""A machine's configuration in a datastore: which disks it has, and where they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmount.datastores.opener import VOLUMES, DatastoreOpener
from vmount.datastores.path import DatastorePath
from vmount.errors import SourceError
from vmount.parsers.vmdk.vmx import MAX_VMX, parse_vmx

if TYPE_CHECKING:
    import trio

    from vmount.cache import CacheOptions
    from vmount.datastores.base import DatastoreBackend


@dataclass(frozen=True)
class MachineDisk:
    """A disk that a .vmx names."""

    name: str
    """Its controller address: "scsi0-0"."""
    shown: str
    """The file as it stands in the .vmx."""
    file: str
    """The same as "[datastore] folder/file.vmdk"."""


async def read_machine(
    backend: DatastoreBackend, path: DatastorePath, nursery: trio.Nursery, cache: CacheOptions
) -> list[MachineDisk]:
    """Return the disks of the machine of a .vmx.

    Raises OSError, ParseError; SourceError if it is too large or has no disks.
    """
    opener = DatastoreOpener(backend, nursery, cache)
    try:
        source = (await opener.open(opener.name_of(path), None)).source
        if source.size > MAX_VMX:
            raise SourceError(f"{path}: too large to be a .vmx")
        machine = parse_vmx(bytes(await source.read(0, source.size)))
    finally:
        await opener.aclose()
    disks = [
        MachineDisk(
            device.address.replace(":", "-"), device.file_name, _place_of(device.file_name, path)
        )
        for device in machine.disks
        if device.present
    ]
    if not disks:
        raise SourceError(f"{path}: has no virtual disk")
    return disks


def _place_of(file_name: str, machine: DatastorePath) -> str:
    if file_name.startswith(VOLUMES):
        volume, _, rest = file_name.removeprefix(VOLUMES).partition("/")
        return f"[{volume}] {rest}"
    return f"[{machine.datastore}] {machine.folder}/{file_name}".replace("] /", "] ")
