"""VMFS-5 and VMFS-6 as a `Filesystem`.

Strategy: the resource files' maps are kept from their first use; descriptors and directories are read
each time, because a datastore is written to while it is read. A file's number is its descriptor's
address.

Source: reverse engineered, vmfs-tools and dissect.vmfs (vmfs.py).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vmount.parsers.batch import read_pieces, read_runs
from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.model import (
    Attrs,
    DirEntry,
    FileData,
    FilesystemInfo,
    Inline,
    Ino,
    Runs,
    XAttr,
)
from vmount.parsers.reader import Reader
from vmount.parsers.runs import RunList
from vmount.parsers.vmfs.address import (
    ROOT,
    SYSTEM_CLUSTER,
    SYSTEM_DESCRIPTORS,
    Kind,
    decode_descriptor_address,
)
from vmount.parsers.vmfs.block_map import file_runs
from vmount.parsers.vmfs.descriptor import Addressing, Descriptor, Type, decode_descriptor
from vmount.parsers.vmfs.directory import (
    MAX_DIRECTORY,
    DescriptorEntry,
    decode_directory_5,
    decode_directory_6,
)
from vmount.parsers.vmfs.errors import Damage
from vmount.parsers.vmfs.fs_info import FS_INFO, FS_INFO_OFFSET, FsInfo, decode_fs_info
from vmount.parsers.vmfs.resource_table import ResourceTable
from vmount.parsers.vmfs.volume import DatastoreExtent, LogicalVolume, open_volume

_MAX_LINK = 4096
"""The kernel's PATH_MAX."""
_KINDS: dict[int, int] = {
    Type.DIRECTORY: stat.S_IFDIR,
    Type.FILE: stat.S_IFREG,
    Type.SYMLINK: stat.S_IFLNK,
    Type.RDM: stat.S_IFREG,
}


class DeviceRun(NamedTuple):
    """A part of a file that is in one piece on a device. In bytes."""

    offset: int
    """In the file."""
    length: int
    device: int | None
    """Index of the reader among those that the volume was opened with; None: a hole of zeros."""
    start: int
    """In the device; 0 for a hole."""


async def open_vmfs(readers: Sequence[Reader]) -> Vmfs:
    """Open the VMFS datastore on these devices, one reader an extent, in any order.

    A reader is over what ESXi has formatted: as a rule a partition of the LUN. Raises NotRecognised if one
    of them is no VMFS, Unsupported for a version that cannot be read and for missing extents, Corrupt for
    damage beyond use.
    """
    volume = await open_volume(readers)
    info = decode_fs_info(await volume.read(FS_INFO_OFFSET, FS_INFO.size))
    filesystem = Vmfs(volume, info)
    root = await filesystem.attrs(ROOT)
    if not stat.S_ISDIR(root.mode):
        raise Corrupt(Damage.ROOT_IS_NO_DIRECTORY, actual=root.mode)
    return filesystem


class Vmfs:
    """An open VMFS file system."""

    def __init__(self, volume: LogicalVolume, info: FsInfo) -> None:
        self.volume = volume
        """Its bytes: what the runs of `data` count in."""
        self._header = info
        self._resources = ResourceTable(volume, info, self._descriptor, self._map)
        self._info = FilesystemInfo(
            fstype="VMFS",
            label=info.label,
            uuid=info.uuid,
            size=volume.size,
            free=0,
            block_size=info.block_size,
        )

    @property
    def info(self) -> FilesystemInfo:
        """What the file system says of itself."""
        return self._info

    @property
    def label(self) -> str:
        """The datastore's name, as it was given last from a host that writes names to the disk."""
        return self._header.label

    @property
    def uuid(self) -> str:
        """The UUID that /vmfs/volumes on an ESXi has."""
        return self._header.uuid

    @property
    def version(self) -> str:
        """The version as ESXi counts: "5.81", "6.82"."""
        return f"{6 if self._header.is_vmfs6 else 5}.{self._header.minor_version}"

    @property
    def extents(self) -> tuple[DatastoreExtent, ...]:
        """The devices, in the order of the volume."""
        return self.volume.extents

    @property
    def root(self) -> Ino:
        """The root directory."""
        return ROOT

    async def attrs(self, ino: Ino) -> Attrs:
        """Return a file's attributes. A raw device mapping is given as a regular file."""
        return (await self._descriptor(ino)).attrs

    async def lookup(self, parent: Ino, name: bytes) -> Attrs | None:
        """Return the attributes of the file of this name in a directory, None if there is none."""
        for entry in await self._entries(parent):
            if entry.name == name:
                return await self.attrs(entry.address)
        return None

    async def listdir(self, ino: Ino) -> Sequence[DirEntry]:
        """Return a directory's entries in the order of its records."""
        entries = await self._entries(ino)
        descriptors = await self._descriptors([entry.address for entry in entries])
        listing = []
        for name, address, kind in entries:
            descriptor = descriptors.get(address)
            if descriptor is None:
                listing.append(DirEntry(name, address, _KINDS.get(kind, 0), None))
            else:
                attrs = descriptor.attrs
                listing.append(DirEntry(name, address, stat.S_IFMT(attrs.mode), attrs))
        return listing

    async def readlink(self, ino: Ino) -> bytes:
        """Return the target of a symbolic link."""
        descriptor = await self._descriptor(ino)
        attrs = descriptor.attrs
        if not stat.S_ISLNK(attrs.mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if not 0 < attrs.size <= _MAX_LINK:
            raise Corrupt(
                Damage.SYMBOLIC_LINK_SIZE, descriptor.where, of=f"{ino:#x}", actual=attrs.size
            )
        return await self._read(descriptor)

    async def xattrs(self, ino: Ino) -> Mapping[bytes, XAttr]:
        """Return no attributes: VMFS has none."""
        await self._descriptor(ino)
        return {}

    async def data(self, ino: Ino, stream: bytes = b"") -> FileData:
        """Return where the bytes of a file are in `volume`. There are no streams."""
        if stream:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), stream)
        descriptor = await self._file(ino)
        size = descriptor.attrs.size
        if descriptor.addressing == Addressing.RESIDENT:
            descriptor.check_readable()
            return FileData(size, size, Inline(descriptor.data))
        return FileData(size, size, Runs(await self._map(descriptor)))

    async def device_runs(self, ino: Ino) -> tuple[DeviceRun, ...]:
        """Return where the bytes of a file are on the devices, from its start to its size.

        Bytes in the descriptor count as any other. What comes out stays true as long as the file is
        neither moved nor grown: a disk that a snapshot has made read-only is not.
        """
        parts = []
        for run in await self._map(await self._file(ino)):
            if run.start is None:
                parts.append(DeviceRun(run.offset, run.length, None, 0))
                continue
            for piece in self.volume.locate(run.start, run.length):
                offset = run.offset + piece.offset - run.start
                parts.append(DeviceRun(offset, piece.length, piece.device, piece.start))
        return tuple(parts)

    async def _file(self, ino: Ino) -> Descriptor:
        descriptor = await self._descriptor(ino)
        mode = descriptor.attrs.mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return descriptor

    async def _map(self, descriptor: Descriptor) -> RunList:
        return await file_runs(
            self.volume, self.volume.size, self._header, self._resources, descriptor
        )

    async def _read(self, descriptor: Descriptor) -> bytes:
        if descriptor.addressing == Addressing.RESIDENT:
            descriptor.check_readable()
            return descriptor.data
        return await read_runs(self.volume, await self._map(descriptor))

    async def _entries(self, ino: Ino) -> list[DescriptorEntry]:
        descriptor = await self._descriptor(ino)
        if not stat.S_ISDIR(descriptor.attrs.mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if descriptor.attrs.size > MAX_DIRECTORY:
            raise Corrupt(
                Damage.DIRECTORY_SIZE,
                descriptor.where,
                of=f"{ino:#x}",
                expected=f"at most {MAX_DIRECTORY:#x}",
                actual=descriptor.attrs.size,
            )
        data = await self._read(descriptor)
        if self._header.is_vmfs6:
            return decode_directory_6(data, self._header.alignment)
        return decode_directory_5(data)

    async def _descriptor(self, address: int) -> Descriptor:
        where = await self._place(address)
        data = await self.volume.read(where, self._header.descriptor_size)
        return decode_descriptor(data, address, self._header, where)

    async def _descriptors(self, addresses: Sequence[int]) -> dict[int, Descriptor]:
        """Return the descriptors at addresses, but for those that are damaged."""
        places = {}
        for address in addresses:
            try:
                places[address] = await self._place(address)
            except Corrupt:
                continue
        size = self._header.descriptor_size
        pieces = await read_pieces(self.volume, places.values(), size)
        descriptors = {}
        for address, where in places.items():
            try:
                descriptors[address] = decode_descriptor(
                    pieces[where], address, self._header, where
                )
            except (Corrupt, Unsupported):
                continue
        return descriptors

    async def _place(self, address: int) -> int:
        """Return where a descriptor is in the volume.

        System files are at known places, because the file of descriptors may take others to be found.
        """
        info = self._header
        resource = decode_descriptor_address(address)
        size = info.descriptor_size
        if resource.cluster == SYSTEM_CLUSTER and resource.number < SYSTEM_DESCRIPTORS:
            return info.system_descriptors + resource.number * size
        if not info.is_vmfs6 and address == info.pb2_descriptor:
            return info.pb2_offset
        file = await self._resources.get(Kind.FILE_DESCRIPTOR)
        if file.resource_size != size:
            raise Corrupt(Damage.FILE_DESCRIPTORS_SIZE, expected=size, actual=file.resource_size)
        return file.place(resource)
