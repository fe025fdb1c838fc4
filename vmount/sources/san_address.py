"""What a source on LUNs names: devices, and a file of a datastore or the datastore itself."""

from __future__ import annotations

from dataclasses import dataclass

from vmount.datastores.path import DatastorePath, DatastorePathError
from vmount.errors import UsageError

SAN = "san:"
FORM = (
    "the form is san:/dev/sdb[,/dev/sdc]:/folder/disk.vmdk, san:'[datastore] folder/disk.vmdk', "
    "or san:/dev/sdb: to browse"
)


@dataclass(frozen=True)
class SanAddress:
    """What such a source names."""

    luns: tuple[str, ...]
    """Paths of devices; empty: they are to be looked for."""
    path: DatastorePath | None
    """A disk or a .vmx; None: the datastore itself. Its datastore is "" where it is the only one."""


def split_san(source: str) -> tuple[str, str]:
    """Return the devices and the path of a source on LUNs, as they are written; one or both may be empty.

    The path is "[datastore] folder/file", or /folder/file of the only datastore. Names of devices may hold
    colons (/dev/disk/by-path), so the path begins at a bracket or at the last ":/".
    """
    text = source.removeprefix(SAN)
    devices, bracket, rest = text.partition("[")
    if bracket:
        return devices, bracket + rest
    devices, colon, rest = text.rpartition(":/")
    if colon:
        return f"{devices}:", f"/{rest}" if rest.strip("/") else ""
    return text, ""


def parse_san(source: str) -> SanAddress:
    """Take a source apart. Raises UsageError."""
    devices, path = split_san(source)
    if path and devices and not devices.endswith(":"):
        raise UsageError(f"{source}: no colon before the path in the datastore", remedy=FORM)
    luns = tuple(name for name in devices.removesuffix(":").split(",") if name)
    if not path:
        if not luns:
            raise UsageError(f"{source}: contains neither a device nor a datastore", remedy=FORM)
        return SanAddress(luns, None)
    try:
        if path.startswith("/"):
            return SanAddress(luns, DatastorePath("", path.strip("/")))
        return SanAddress(luns, DatastorePath.parse(path))
    except DatastorePathError as error:
        raise UsageError(f"{source}: {error}", remedy=FORM) from error
