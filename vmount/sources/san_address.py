"""What a source on LUNs names: devices, and a file of a datastore or the datastore itself."""

from __future__ import annotations

from dataclasses import dataclass

from vmount.datastores.path import DatastorePath, DatastorePathError
from vmount.errors import UsageError

SAN = "san:"
FORM = (
    "the form is san:/dev/sdb[,/dev/sdc]:'[datastore] folder/disk.vmdk', or san:/dev/sdb: to browse"
)


@dataclass(frozen=True)
class SanAddress:
    """What such a source names."""

    luns: tuple[str, ...]
    """Paths of devices; empty: they are to be looked for."""
    path: DatastorePath | None
    """A disk or a .vmx; None: the datastore itself."""


def parse_san(source: str) -> SanAddress:
    """Take a source apart. Raises UsageError."""
    text = source.removeprefix(SAN)
    devices, bracket, rest = text.partition("[")
    if bracket and devices and not devices.endswith(":"):
        raise UsageError(f"{source}: no colon before the datastore", remedy=FORM)
    luns = tuple(name for name in devices.removesuffix(":").split(",") if name)
    if not bracket:
        if not luns:
            raise UsageError(f"{source}: names neither a device nor a datastore", remedy=FORM)
        return SanAddress(luns, None)
    try:
        return SanAddress(luns, DatastorePath.parse(bracket + rest))
    except DatastorePathError as error:
        raise UsageError(f"{source}: {error}", remedy=FORM) from error
