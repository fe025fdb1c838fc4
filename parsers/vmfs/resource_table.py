"""The resource files of an open volume.

Strategy: a file of pointer blocks can itself be reached by pointer blocks of another file, so resource
files are opened when the first address of their kind turns up. Their maps are then kept.

Source: reverse engineered, vmfs-tools and dissect.vmfs (resource.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from vmount.parsers.errors import Corrupt
from vmount.parsers.reader import Reader
from vmount.parsers.runs import RunList
from vmount.parsers.vmfs.address import FDC, PB2, PBC, SBC, Kind, ResourceAddress
from vmount.parsers.vmfs.descriptor import Descriptor
from vmount.parsers.vmfs.errors import Damage
from vmount.parsers.vmfs.fs_info import FsInfo
from vmount.parsers.vmfs.resource import RESOURCE_HEADER, ResourceLayout, decode_resource_header

_NAMES = {
    Kind.FILE_DESCRIPTOR: ".fdc.sf",
    Kind.SUB_BLOCK: ".sbc.sf",
    Kind.POINTER_BLOCK: ".pbc.sf",
    Kind.POINTER_BLOCK_2: ".pb2.sf",
}

MapFile: TypeAlias = Callable[[Descriptor], Awaitable[RunList]]
ReadDescriptor: TypeAlias = Callable[[int], Awaitable[Descriptor]]


class ResourceFile:
    """An open resource file: its layout, and where it is in the volume."""

    def __init__(self, layout: ResourceLayout, runs: RunList) -> None:
        self.layout = layout
        self._runs = runs

    @property
    def resource_size(self) -> int:
        """Bytes of a resource."""
        return self.layout.resource_size

    def place(self, address: ResourceAddress) -> int:
        """Return where a resource is in the volume.

        Raises Corrupt if there is no such one, or none in one piece.
        """
        offset = self.layout.offset(address)
        place = self._runs.place(offset, self.layout.resource_size)
        if place is not None:
            return place
        raise Corrupt(Damage.WITHOUT_BLOCK, of=address.kind.name.lower(), actual=offset)


class ResourceTable:
    """The resource files by the kind of address that leads into them."""

    def __init__(
        self, reader: Reader, info: FsInfo, read_descriptor: ReadDescriptor, map_file: MapFile
    ) -> None:
        self._reader = reader
        self._info = info
        self._read_descriptor = read_descriptor
        self._map_file = map_file
        self._files: dict[Kind, ResourceFile] = {}
        self._opening: set[Kind] = set()
        self._addresses = {
            Kind.FILE_DESCRIPTOR: FDC,
            Kind.SUB_BLOCK: SBC,
            Kind.POINTER_BLOCK: PBC,
            Kind.POINTER_BLOCK_2: PB2 if info.is_vmfs6 else info.pb2_descriptor,
        }

    async def get(self, kind: Kind) -> ResourceFile:
        """Return the resource file of a kind.

        Raises Corrupt if there is none, or if reaching it takes itself.
        """
        if kind in self._files:
            return self._files[kind]
        if kind not in self._addresses or not self._addresses[kind]:
            raise Corrupt(Damage.VOLUME_WITHOUT_FILE_OF_S, of=kind.name.lower())
        if kind in self._opening:
            raise Corrupt(Damage.RESOURCE_FILE_IS_NEEDED_TO_FIND_ITSELF, of=_NAMES[kind])
        self._opening.add(kind)
        try:
            descriptor = await self._read_descriptor(self._addresses[kind])
            self._files[kind] = await self._open(kind, descriptor)
        finally:
            self._opening.discard(kind)
        return self._files[kind]

    async def _open(self, kind: Kind, descriptor: Descriptor) -> ResourceFile:
        name = _NAMES[kind]
        runs = await self._map_file(descriptor)
        if not runs or runs[0].start is None or runs[0].length < RESOURCE_HEADER.size:
            raise Corrupt(Damage.RESOURCE_FILE_HAS_NO_HEADER, descriptor.where, of=name)
        header = await self._reader.read(runs[0].start, RESOURCE_HEADER.size)
        return ResourceFile(decode_resource_header(header, self._info, name), runs)
