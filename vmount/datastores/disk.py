"""Opening the disk that a descriptor in a datastore stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vmount.datastores.opener import DatastoreOpener
from vmount.disks.disk import ChainLink, OpenedDisk
from vmount.disks.remote import statistics
from vmount.parsers.errors import NotRecognised
from vmount.parsers.vmdk.disk import open_vmdk

if TYPE_CHECKING:
    import trio

    from vmount.cache import CacheOptions
    from vmount.datastores.base import DatastoreBackend
    from vmount.datastores.path import DatastorePath


@dataclass(frozen=True)
class DatastoreReading:
    """How disks in datastores are read."""

    cache: CacheOptions
    force: bool = False
    """Open a chain whose parent has changed since."""
    volumes: Mapping[str, str] = field(default_factory=dict)
    """Names of datastores by what an ESXi host calls their volumes."""


class DistantFiles:
    """The files of a disk, as far as they are distant. A Distant."""

    def __init__(self, opener: DatastoreOpener) -> None:
        self._opener = opener

    def describe(self) -> dict[str, Any]:
        """Return what a user may want to know of the connections."""
        return {
            "files": [
                {"name": name} | dict(transport.describe())
                for name, transport, _ in self._opener.distant
            ]
        }

    def stats(self) -> dict[str, Any]:
        """Return the counters of all files together."""
        return statistics(
            [(cached.stats(), transport.stats()) for _, transport, cached in self._opener.distant]
        )


async def open_datastore_disk(
    backend: DatastoreBackend,
    file: DatastorePath,
    nursery: trio.Nursery | None,
    reading: DatastoreReading,
    *,
    raw: bool = False,
) -> OpenedDisk:
    """Open a disk by its descriptor.

    With `raw`, a file that is not a VMDK is a raw image. Raises OSError, ParseError; then nothing stays
    open.
    """
    opener = DatastoreOpener(backend, nursery, reading.cache, reading.volumes)
    try:
        try:
            vmdk = await open_vmdk(opener, opener.name_of(file), force=reading.force)
        except NotRecognised:
            if not raw:
                raise
            await opener.aclose()
            opener = DatastoreOpener(backend, nursery, reading.cache)
            opened = await opener.open(opener.name_of(file), None)
            return OpenedDisk(
                "raw",
                opened.source,
                opener.aclose,
                (ChainLink(str(file), "raw"),),
                DistantFiles(opener) if opener.distant else None,
            )
    except BaseException:
        await opener.aclose()
        raise
    return OpenedDisk(
        vmdk.format,
        vmdk,
        opener.aclose,
        tuple(ChainLink(link.name, link.descriptor.create_type) for link in vmdk.links),
        DistantFiles(opener) if opener.distant else None,
        vmdk.warnings,
    )
