"""ext2, ext3 and ext4 as a `Filesystem`.

Strategy: what the volume says once (superblock, group descriptors) is kept; inodes are fetched in
batches and cached by number (`inode_table`); maps are walked when a file is opened and then known
whole (`mapping`). Nothing is cached that a caller could keep.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence

from vmount.parsers.errors import Corrupt, NotRecognised, ParseError, Unsupported
from vmount.parsers.ext.acl import system_acl
from vmount.parsers.ext.checksum import crc32c
from vmount.parsers.ext.directory_reader import DirectoryReader
from vmount.parsers.ext.errors import Damage
from vmount.parsers.ext.features import Incompat, RoCompat
from vmount.parsers.ext.inline_data import inline_file
from vmount.parsers.ext.inode import ROOT_INODE, Inode, InodeFlag
from vmount.parsers.ext.inode_table import InodeTable
from vmount.parsers.ext.journal import read_journal
from vmount.parsers.ext.locate import read_superblock
from vmount.parsers.ext.mapping import file_runs
from vmount.parsers.ext.no_key import link_size, link_target
from vmount.parsers.ext.superblock import (
    SUPERBLOCK,
    SUPERBLOCK_OFFSET,
    Superblock,
    decode_superblock,
)
from vmount.parsers.ext.volume import Volume
from vmount.parsers.ext.xattr import (
    ACL_ACCESS,
    ACL_DEFAULT,
    MAX_VALUES,
    PREFIXES,
    SYSTEM,
    StoredAttribute,
    check_attribute_block,
    decode_attribute_block,
    decode_inode_attributes,
    hash_with_inode,
)
from vmount.parsers.inode_entry import KINDS
from vmount.parsers.model import Attrs, DirEntry, FileData, FilesystemInfo, Inline, Ino, XAttr
from vmount.parsers.reader import BlockSource, Span, let_others_run

_NAMES_A_TURN = (1 << 12) - 1
"""A mask: after this number of names, a listing lets other tasks run."""
_MAX_LINK = 4096
"""The kernel's PATH_MAX; the zero byte at the end counts."""
_NOT_OF_LINKS = InodeFlag.IMMUTABLE | InodeFlag.APPEND
"""Flags that no system call gives to a symbolic link."""


async def open_ext(reader: BlockSource) -> ExtFilesystem:
    """Open the ext2, ext3 or ext4 file system in `reader`.

    Raises NotRecognised if it is none, Corrupt if it is damaged beyond use, Unsupported for a feature that
    cannot be read.
    """
    superblock, warnings = await read_superblock(reader)
    volume = Volume(reader, superblock)
    if warnings:
        warnings.append(
            "a copy of the superblock does not show whether the journal must be replayed"
        )
    elif superblock.has_incompat(Incompat.RECOVER):
        volume, warnings = await _replayed(volume)
    else:
        warnings = _state_warnings(superblock)
    if superblock.size > reader.size:
        warnings.append(
            f"the file system has {superblock.size} bytes, its volume {reader.size}: the rest is missing"
        )
    filesystem = ExtFilesystem(volume, tuple(warnings))
    root = await filesystem.attrs(ROOT_INODE)
    if not stat.S_ISDIR(root.mode):
        raise Corrupt(Damage.ROOT_IS_NOT_DIRECTORY, actual=root.mode)
    return filesystem


async def _replayed(volume: Volume) -> tuple[Volume, list[str]]:
    """Return the volume with its journal replayed, and warnings if that failed."""
    superblock = volume.superblock
    try:
        if not superblock.journal_inode:
            raise Unsupported("a journal on another device")
        inode = await InodeTable(volume, reserved=superblock.journal_inode).get(
            superblock.journal_inode
        )
        runs = await file_runs(volume, inode)
        overlay = await read_journal(volume.reader, volume.block_size, runs)
        volume = Volume(volume.reader, superblock, overlay)
        newer = decode_superblock(await volume.read(SUPERBLOCK_OFFSET, SUPERBLOCK.size))
    except (Corrupt, Unsupported, NotRecognised) as error:
        reason = f"{error}: the journal has not been replayed: the last changes may be missing"
        return Volume(volume.reader, superblock), [reason]
    warnings = _state_warnings(newer)
    if overlay.problem:
        warnings.append(f"{overlay.problem}: the last changes may be missing")
    return Volume(volume.reader, newer, overlay), warnings


class ExtFilesystem:
    """An open ext2, ext3 or ext4 file system."""

    def __init__(self, volume: Volume, warnings: tuple[str, ...] = ()) -> None:
        self._volume = volume
        self._superblock = volume.superblock
        self._inodes = InodeTable(volume)
        self._directories = DirectoryReader(volume)
        self._file_types = self._superblock.has_incompat(Incompat.FILETYPE)
        superblock = self._superblock
        self._info = FilesystemInfo(
            fstype=superblock.fstype,
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
        return ROOT_INODE

    async def attrs(self, ino: Ino) -> Attrs:
        """Return a file's attributes."""
        return _shown(await self._inodes.get(ino))

    async def lookup(self, parent: Ino, name: bytes) -> Attrs | None:
        """Return the attributes of the file of this name in a directory, None if there is none.

        In a case-insensitive directory (casefold) any spelling of the name is it.
        """
        ino = await self._directories.find(await self._directory(parent), name)
        return None if ino is None else await self.attrs(ino)

    async def listdir(self, ino: Ino) -> Sequence[DirEntry]:
        """Return a directory's entries in the order of its blocks."""
        entries = await self._directories.entries(await self._directory(ino))
        inodes = await self._inodes.get_many([entry.ino for entry in entries])
        file_types = KINDS if self._file_types else {}
        encrypted = self._superblock.has_incompat(Incompat.ENCRYPT)
        listing: list[DirEntry] = []
        for name, child, file_type in entries:
            if not len(listing) & _NAMES_A_TURN:
                await let_others_run(self._volume.reader)
            inode = inodes[child]
            if isinstance(inode, Corrupt):
                listing.append(DirEntry(name, child, file_types.get(file_type, 0), None))
            else:
                attrs = _shown(inode) if encrypted else inode.attrs
                listing.append(DirEntry(name, child, attrs.mode & 0o170000, attrs))
        return listing

    async def readlink(self, ino: Ino) -> bytes:
        """Return the target of a symbolic link, an encrypted one as it is shown without a key."""
        inode = await self._inodes.get(ino)
        if not stat.S_ISLNK(inode.attrs.mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if inode.flags & InodeFlag.ENCRYPT:
            return link_target(await self._stored_link(inode), inode.where)
        target = await self._stored_link(inode)
        if b"\0" in target:
            raise Corrupt(Damage.SYMBOLIC_LINK_TARGET_HAS_ZERO_BYTE, inode.where, of=ino)
        return target

    async def _stored_link(self, inode: Inode) -> bytes:
        ino = inode.number
        if inode.flags & _NOT_OF_LINKS:
            raise Corrupt(Damage.SYMBOLIC_LINK_FLAGS, inode.where, of=ino, actual=inode.flags)
        size = inode.attrs.size
        if not 0 < size < min(self._superblock.block_size, _MAX_LINK):
            raise Corrupt(Damage.SYMBOLIC_LINK_SIZE, inode.where, of=ino, actual=size)
        if inode.flags & InodeFlag.INLINE_DATA:
            return inline_file(inode)
        if self._is_fast_link(inode):
            # The zero byte after it is stored too.
            if size >= len(inode.block) or inode.block[size]:
                raise Corrupt(Damage.SYMBOLIC_LINK_SIZE, inode.where, of=ino, actual=size)
            return inode.block[:size]
        return await self._read_file(inode)

    def _is_fast_link(self, inode: Inode) -> bool:
        """Tell whether a link's target is in the inode: the inode has no blocks but for attributes."""
        attribute_blocks = self._superblock.cluster_size if inode.xattr_block else 0
        return inode.attrs.allocated == attribute_blocks

    async def xattrs(self, ino: Ino) -> Mapping[bytes, XAttr]:
        """Return a file's extended attributes by name, with the values that getxattr gives.

        One whose value is damaged, or too much with those before it, has its error for a value.
        """
        inode = await self._inodes.get(ino)
        stored = decode_inode_attributes(inode.extra, inode.where)
        if inode.xattr_block:
            where = self._volume.offset(inode.xattr_block)
            data = await self._volume.read_block(inode.xattr_block)
            if self._superblock.metadata_checksums:
                seed = self._superblock.checksum_seed
                check_attribute_block(data, inode.xattr_block, where, seed)
            stored += decode_attribute_block(data, where)
        attributes: dict[bytes, XAttr] = {}
        total = 0
        for attribute in stored:
            # "system.data" is inline data, and the system has no other attributes of its own.
            if attribute.name_index in PREFIXES and attribute.name_index != SYSTEM:
                name = PREFIXES[attribute.name_index] + attribute.name
                if name in attributes:
                    continue
                total += attribute.value_size
                value: bytes | ParseError
                try:
                    if total > MAX_VALUES:
                        raise Unsupported(f"attributes of more than {MAX_VALUES} bytes at one file")
                    value = await self._attribute_value(inode, attribute)
                    if attribute.name_index in (ACL_ACCESS, ACL_DEFAULT):
                        value = system_acl(value)
                except ParseError as error:
                    value = error.with_traceback(None)
                attributes[name] = XAttr(value)
        return attributes

    async def data(self, ino: Ino, stream: bytes = b"") -> FileData:
        """Return where the bytes of a file are. There are no streams."""
        if stream:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), stream)
        inode = await self._inodes.get(ino)
        if stat.S_ISDIR(inode.attrs.mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(inode.attrs.mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        _refuse_encrypted(inode)
        size = inode.attrs.size
        if inode.flags & InodeFlag.INLINE_DATA:
            return FileData(size, size, Inline(inline_file(inode)))
        runs = await file_runs(self._volume, inode)
        return FileData(size, size, await self._volume.layout(runs))

    async def _directory(self, ino: Ino) -> Inode:
        inode = await self._inodes.get(ino)
        if not stat.S_ISDIR(inode.attrs.mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return inode

    async def _read_file(self, inode: Inode) -> bytes:
        """Return the bytes of a small file."""
        parts = []
        for run in await file_runs(self._volume, inode):
            if run.start is None:
                parts.append(bytes(run.length))
            else:
                parts += await self._volume.read_ranges([Span(run.start, run.length)])
        return b"".join(parts)

    async def _attribute_value(self, inode: Inode, attribute: StoredAttribute) -> bytes:
        if not attribute.value_inode:
            return attribute.value
        holder = await self._inodes.get(attribute.value_inode)
        attrs = holder.attrs
        if (
            not holder.flags & InodeFlag.EA_INODE
            or not stat.S_ISREG(attrs.mode)
            or attrs.size != attribute.value_size
        ):
            raise Corrupt(Damage.INODE_IS_NOT_VALUE_OF_ATTRIBUTE, holder.where, of=attrs.ino)
        value = await self._read_file(holder)
        # The hash is kept as the time of access. Lustre's older form names the owner instead.
        stored = attrs.atime // 1_000_000_000 & 0xFFFFFFFF
        owner = attrs.mtime // 1_000_000_000 & 0xFFFFFFFF
        if (owner, holder.generation) == (inode.number, inode.generation):
            return value
        computed = crc32c(self._superblock.checksum_seed, value)
        if stored != computed or attribute.hash != hash_with_inode(attribute.name, computed):
            raise Corrupt(
                Damage.INODE_HASH_OF_ATTRIBUTE_VALUE,
                holder.where,
                of=attrs.ino,
                expected=computed,
                actual=stored,
            )
        return value


def _shown(inode: Inode) -> Attrs:
    """Return the attributes that stat gives: the size of an encrypted link is that of the target shown."""
    attrs = inode.attrs
    if inode.flags & InodeFlag.ENCRYPT and stat.S_ISLNK(attrs.mode):
        return attrs._replace(size=link_size(attrs.size))
    return attrs


def _refuse_encrypted(inode: Inode) -> None:
    if inode.flags & InodeFlag.ENCRYPT:
        raise Unsupported(f"encryption (encrypt), in file {inode.number}")


def _state_warnings(superblock: Superblock) -> list[str]:
    warnings = []
    if not superblock.clean:
        warnings.append("the volume was not unmounted cleanly: the last changes may be missing")
    if superblock.errors:
        warnings.append("the guest found errors in the file system: check it there")
    if superblock.ro_compat & RoCompat.ORPHAN_PRESENT and not superblock.has_incompat(
        Incompat.RECOVER
    ):
        warnings.append("files that were deleted while open have not been cleaned up")
    return warnings
