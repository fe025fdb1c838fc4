"""XFS as a `Filesystem`.

Strategy: the superblock says where every inode is, so that nothing else is read before the root directory; inodes
are fetched in batches and cached by number (`inode_table`); maps are walked when a file is opened and then
known whole (`mapping`). Nothing is cached that a caller could keep.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence

from vmount.parsers.errors import Corrupt, NotRecognised, Unsupported
from vmount.parsers.inode_entry import KINDS
from vmount.parsers.model import Attrs, DirEntry, FileData, FilesystemInfo, Ino, Runs, XAttr
from vmount.parsers.reader import BlockSource, let_others_run
from vmount.parsers.xfs.attribute_reader import read_attributes
from vmount.parsers.xfs.checksum import REMOTE
from vmount.parsers.xfs.directory_reader import DirectoryReader
from vmount.parsers.xfs.errors import Damage
from vmount.parsers.xfs.features import Incompat
from vmount.parsers.xfs.inode import Format, Inode, refuse_realtime
from vmount.parsers.xfs.inode_table import InodeTable
from vmount.parsers.xfs.mapping import file_runs, read_extents
from vmount.parsers.xfs.replay import replay_log
from vmount.parsers.xfs.superblock import MAX_INODE_BITS, MAX_SECTOR, Superblock, decode_superblock
from vmount.parsers.xfs.symlink import MAX_TARGET, decode_part
from vmount.parsers.xfs.volume import Volume

_NAMES_A_TURN = (1 << 12) - 1
"""A mask: others get a turn after so many names of a listing."""
NO_INODE = 0
"""A number that no inode has: the superblock is where it would be."""


async def open_xfs(reader: BlockSource) -> XfsFilesystem:
    """Open the XFS file system in `reader`.

    Raises NotRecognised if it is none, Corrupt if it is damaged beyond use, Unsupported for a feature that
    cannot be read.
    """
    head = await reader.read(0, min(MAX_SECTOR, reader.size))
    superblock = decode_superblock(head)
    volume, warnings = await _replayed(Volume(reader, superblock))
    superblock = volume.superblock
    warnings += _state_warnings(superblock)
    if superblock.size > reader.size:
        warnings.append(
            f"the file system has {superblock.size} bytes, its volume {reader.size}: the rest is missing"
        )
    filesystem = XfsFilesystem(volume, tuple(warnings))
    await filesystem.attrs(filesystem.root)
    return filesystem


async def _replayed(volume: Volume) -> tuple[Volume, list[str]]:
    """Return the volume with its log replayed, and warnings if that failed."""
    try:
        if not volume.superblock.log_start:
            raise Unsupported("a log on another device")
        replayed = await replay_log(volume)
        if replayed is None:
            return volume, []
        newer = Volume(volume.reader, volume.superblock, replayed.overlay)
        head = await newer.read(0, volume.superblock.sector_size)
        superblock = decode_superblock(head, checksum=not newer.replayed(0, len(head)))
    except (Corrupt, Unsupported, NotRecognised) as error:
        reason = f"{error}: the log has not been replayed: the last changes may be missing"
        return volume, [reason]
    warnings = []
    if replayed.unfinished:
        warnings.append(
            "the log has a change that only the guest can finish: the last changes may be missing"
        )
    return Volume(volume.reader, superblock, replayed.overlay), warnings


class XfsFilesystem:
    """An open XFS file system."""

    def __init__(self, volume: Volume, warnings: tuple[str, ...] = ()) -> None:
        self._volume = volume
        self._superblock = volume.superblock
        self._inodes = InodeTable(volume)
        self._directories = DirectoryReader(volume)
        superblock = self._superblock
        self._info = FilesystemInfo(
            fstype="xfs",
            label=superblock.label.decode("utf-8", "replace"),
            uuid=superblock.uuid_text,
            size=superblock.size,
            free=superblock.free_blocks * superblock.block_size,
            block_size=superblock.block_size,
            warnings=warnings,
        )

    @property
    def info(self) -> FilesystemInfo:
        """What the file system says of itself."""
        return self._info

    @property
    def root(self) -> Ino:
        """The root directory."""
        return self._superblock.root_inode

    async def attrs(self, ino: Ino) -> Attrs:
        """Return a file's attributes."""
        return (await self._inodes.get(ino)).attrs

    async def lookup(self, parent: Ino, name: bytes) -> Attrs | None:
        """Return the attributes of the file of this name in a directory, None if there is none.

        Names are compared byte for byte, on volumes made with `-n version=ci` too.
        """
        ino = await self._directories.find(await self._directory(parent), name)
        return None if ino is None else await self.attrs(ino)

    async def listdir(self, ino: Ino) -> Sequence[DirEntry]:
        """Return a directory's entries in the order of its blocks."""
        entries = await self._directories.entries(await self._directory(ino))
        inodes = await self._inodes.get_many([entry.ino for entry in entries])
        listing: list[DirEntry] = []
        for name, child, file_type in entries:
            if not len(listing) & _NAMES_A_TURN:
                await let_others_run(self._volume.reader)
            inode = inodes[child]
            if isinstance(inode, Corrupt):
                # A damaged entry has 64 bits for the number, and the caller room for fewer.
                number = child if child.bit_length() <= MAX_INODE_BITS else NO_INODE
                listing.append(DirEntry(name, number, KINDS.get(file_type, 0), None))
            else:
                attrs = inode.attrs
                listing.append(DirEntry(name, child, attrs.mode & 0o170000, attrs))
        return listing

    async def readlink(self, ino: Ino) -> bytes:
        """Return the target of a symbolic link."""
        inode = await self._inodes.get(ino)
        if not stat.S_ISLNK(inode.attrs.mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        size, fork = inode.attrs.size, inode.data_fork
        if not 0 < size <= MAX_TARGET:
            raise Corrupt(Damage.SYMBOLIC_LINK_SIZE, inode.where, of=ino, actual=size)
        if fork.format != Format.LOCAL:
            return await self._remote_target(inode)
        if size > len(fork.data):
            raise Corrupt(
                Damage.SYMBOLIC_LINK_SIZE,
                inode.where,
                of=ino,
                expected=f"at most {len(fork.data)}",
                actual=size,
            )
        return fork.data[:size]

    async def xattrs(self, ino: Ino) -> Mapping[bytes, XAttr]:
        """Return a file's extended attributes by name, with the values that getxattr gives."""
        attributes = await read_attributes(self._volume, await self._inodes.get(ino))
        return {name: XAttr(value) for name, value in attributes.items()}

    async def data(self, ino: Ino, stream: bytes = b"") -> FileData:
        """Return where the bytes of a file are. There are no streams."""
        if stream:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), stream)
        inode = await self._inodes.get(ino)
        if stat.S_ISDIR(inode.attrs.mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(inode.attrs.mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        refuse_realtime(inode)
        extents = await read_extents(self._volume, inode, inode.data_fork)
        size = inode.attrs.size
        return FileData(size, size, Runs(file_runs(self._volume, extents, size)))

    async def _directory(self, ino: Ino) -> Inode:
        inode = await self._inodes.get(ino)
        if not stat.S_ISDIR(inode.attrs.mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return inode

    async def _remote_target(self, inode: Inode) -> bytes:
        volume, size = self._volume, inode.attrs.size
        target = b""
        for extent in await read_extents(volume, inode, inode.data_fork):
            where = volume.offset(extent.start, extent.blocks)
            length = extent.blocks * volume.block_size
            data = await volume.read(where, min(length, 2 * MAX_SECTOR))
            if self._superblock.checksums:
                volume.check(data, REMOTE, "symbolic link", where, inode.number)
                data = decode_part(data, where, len(target))
            target += data
            if len(target) >= size:
                return target[:size]
        raise Corrupt(
            Damage.SYMBOLIC_LINK_TARGET, of=inode.number, expected=size, actual=len(target)
        )


def _state_warnings(superblock: Superblock) -> list[str]:
    warnings = []
    if superblock.in_progress:
        warnings.append("the file system was not completely created or copied")
    if superblock.has_incompat(Incompat.NEEDSREPAIR):
        warnings.append("the guest marked the file system as damaged: run xfs_repair")
    return warnings
