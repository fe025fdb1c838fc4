"""Inodes.

Strategy: this is the hot place of a listing. One `struct` call decodes the fields, one CRC call checks
them; everything that depends on the volume only is worked out once, in `InodeDecoder`.
Source: "XFS Algorithms & Data Structures", "On-disk Inode".
"""

from __future__ import annotations

import os
import stat
import struct
import uuid
from enum import IntEnum
from typing import NamedTuple

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.layout import Field, Layout
from vmount.parsers.model import Attrs, checked_attrs
from vmount.parsers.xfs.checksum import check_crc
from vmount.parsers.xfs.errors import Damage
from vmount.parsers.xfs.superblock import Superblock

INODE = Layout(
    "XFS inode",
    Field("magic", "H", at=0x00, note="IN"),
    Field("mode", "H", at=0x02),
    Field("version", "B", at=0x04, note="3 in file systems of version 5"),
    Field("format", "B", at=0x05, note="XFS_DINODE_FMT_...: of the data fork"),
    Field("old_links", "H", at=0x06, note="di_onlink: in version 1; di_metatype later"),
    Field("uid", "I", at=0x08),
    Field("gid", "I", at=0x0C),
    Field("links", "I", at=0x10),
    Field("project_low", "H", at=0x14, note="di_projid_lo"),
    Field("project_high", "H", at=0x16),
    Field(
        "large_extents",
        "Q",
        at=0x18,
        note="di_big_nextents with NREXT64; else padding and di_flushiter",
    ),
    Field(
        "atime",
        "Q",
        at=0x20,
        note="seconds and ns since 1970, or with BIGTIME ns since 1901, as the others",
    ),
    Field("mtime", "Q", at=0x28),
    Field("ctime", "Q", at=0x30),
    Field("size", "Q", at=0x38, note="bytes"),
    Field("blocks", "Q", at=0x40, note="di_nblocks: of data and maps"),
    Field("extent_size", "I", at=0x48, note="di_extsize: hint, in blocks"),
    Field(
        "extents",
        "I",
        at=0x4C,
        note="di_nextents; with NREXT64 di_big_anextents: of the attributes",
    ),
    Field("attr_extents", "H", at=0x50, note="di_anextents"),
    Field(
        "fork_offset", "B", at=0x52, note="di_forkoff: of the attribute fork, in 8 bytes; 0: none"
    ),
    Field("attr_format", "B", at=0x53, note="di_aformat"),
    Field("dmapi_mask", "I", at=0x54, note="di_dmevmask: not used"),
    Field("dmapi_state", "H", at=0x58, note="di_dmstate: not used"),
    Field("flags", "H", at=0x5A, note="XFS_DIFLAG_..."),
    Field("generation", "I", at=0x5C, note="di_gen"),
    Field("next_unlinked", "I", at=0x60, note="in the group's list of orphans"),
    Field("checksum", "I", at=0x64, note="di_crc: little-endian; from here on version 3 only"),
    Field("change_count", "Q", at=0x68, note="di_changecount"),
    Field("lsn", "Q", at=0x70, note="of the last change in the log"),
    Field("flags2", "Q", at=0x78, note="XFS_DIFLAG2_..."),
    Field("cow_extent_size", "I", at=0x80, note="di_cowextsize: hint, in blocks"),
    Field("padding", "12x", at=0x84),
    Field("crtime", "Q", at=0x90, note="time of creation"),
    Field("number", "Q", at=0x98, note="di_ino: of this inode"),
    Field("uuid", "16s", at=0xA0, note="of the file system"),
    byte_order=">",
    size=176,
    source="Linux fs/xfs/libxfs/xfs_format.h struct xfs_dinode",
)
"""The fields up to `next_unlinked` make the 100 bytes of versions 1 and 2; version 3 has all. Then the
forks follow. With NREXT64 `large_extents` and `extents` count the extents of data and attributes."""

MAGIC = 0x494E
CORE_SIZE = {1: 100, 2: 100, 3: INODE.size}
"""Bytes before the forks, by version of the inode."""

_BASE = (
    *("magic", "mode", "version", "format", "old_links", "uid", "gid", "links"),
    *("large_extents", "atime", "mtime", "ctime", "size", "blocks", "extents", "attr_extents"),
    *("fork_offset", "attr_format", "flags"),
)
_pick_old = INODE.picker(*_BASE).unpack_from
_pick_new = INODE.picker(*_BASE, "flags2", "crtime", "number", "uuid").unpack_from
_NO_NEW = (0, 0, 0, b"")
_CHECKSUM_AT = INODE.offset("checksum")


class Format(IntEnum):
    """How a fork holds what it holds."""

    DEVICE = 0
    LOCAL = 1
    EXTENTS = 2
    BTREE = 3
    UUID = 4


class InodeFlag(IntEnum):
    """Flags that change how a file is read."""

    REALTIME = 0x1


_FLAG2_BIGTIME = 0x8
_FLAG2_NREXT64 = 0x10
_BIGTIME_EPOCH = (1 << 31) * 1_000_000_000
"""Nanoseconds from the start of such times to 1970."""


class Fork(NamedTuple):
    """One of the two forks of an inode: data or extended attributes."""

    format: int
    """A Format."""
    extents: int
    """Number of extents, wherever they are kept."""
    data: bytes
    """What the inode has of it."""
    where: int
    """Offset of that in the volume."""


class Inode(NamedTuple):
    """A file's inode."""

    attrs: Attrs
    flags: int
    data_fork: Fork
    attr_fork: Fork | None
    """None: no attributes, and no space for them."""
    where: int
    """Its offset in the volume."""

    @property
    def number(self) -> int:
        """The inode number."""
        return self.attrs.ino


_FORMAT = 0o170000
_REGULAR = stat.S_IFREG
_KINDS = frozenset(
    (
        stat.S_IFREG,
        stat.S_IFDIR,
        stat.S_IFLNK,
        stat.S_IFCHR,
        stat.S_IFBLK,
        stat.S_IFIFO,
        stat.S_IFSOCK,
    )
)
_MAX_SIZE = (1 << 63) - 1
"""What the kernel's loff_t holds."""


class InodeDecoder:
    """Decodes the inodes of one volume."""

    def __init__(self, superblock: Superblock) -> None:
        self._inode_size = superblock.inode_size
        self._block_size = superblock.block_size
        self._version_5 = superblock.checksums
        self._uuid = superblock.metadata_uuid
        self._root = superblock.root_inode
        self._pick = _pick_new if superblock.checksums else _pick_old

    def decode(self, ino: int, raw: bytes, where: int, *, checksum: bool = True) -> Inode:
        """Decode the inode `ino` from exactly its bytes, which lie at `where` in the volume.

        Raises Corrupt if its checksum is wrong or it is no file.
        """
        fields = self._pick(raw)
        if not self._version_5:
            fields += _NO_NEW
        # fmt: off
        (
            magic, mode, version, fork_format, old_links, uid, gid, links, large_extents, atime,
            mtime, ctime, size, blocks, extents, attr_extents, fork_offset, attr_format, flags,
            flags2, crtime, number, volume_uuid,
        ) = fields
        # fmt: on
        if magic != MAGIC:
            raise Corrupt(Damage.INODE_MAGIC, where, of=ino, expected=MAGIC, actual=magic)
        if self._version_5:
            if checksum:
                check_crc(raw, _CHECKSUM_AT, f"inode {ino}", where)
            self._check_identity(ino, where, version, number, volume_uuid)
        elif version not in (1, 2):
            raise Corrupt(Damage.INODE_VERSION, where, of=ino, expected="1 or 2", actual=version)
        if version == 1:
            links = old_links
        if flags2 & _FLAG2_NREXT64:
            extents, attr_extents = large_extents, extents

        kind = mode & _FORMAT
        if kind not in _KINDS:
            problem = "is not in use" if mode == 0 else "has an unknown type"
            raise Corrupt(f"inode {ino} {problem}", where, actual=mode)
        if not links and ino != self._root:
            raise Corrupt(Damage.INODE_IS_NOT_IN_USE, where, of=ino)
        if size > _MAX_SIZE:
            raise Corrupt(Damage.INODE_SIZE, where, of=ino, expected="below 2**63", actual=size)

        core = CORE_SIZE[version]
        split = core + fork_offset * 8
        if fork_offset and split >= self._inode_size:
            raise Corrupt(Damage.INODE_START_OF_ATTRIBUTES, where, of=ino, actual=fork_offset)
        data_end = split if fork_offset else self._inode_size
        data_fork = Fork(fork_format, extents, raw[core:data_end], where + core)
        attr_fork = None
        if fork_offset:
            attr_fork = Fork(attr_format, attr_extents, raw[split:], where + split)
        rdev = 0
        if fork_format == Format.DEVICE and kind in (stat.S_IFCHR, stat.S_IFBLK):
            rdev = _device(data_fork.data)
        if flags2 & _FLAG2_BIGTIME:
            atime -= _BIGTIME_EPOCH
            mtime -= _BIGTIME_EPOCH
            ctime -= _BIGTIME_EPOCH
            crtime -= _BIGTIME_EPOCH
        else:
            atime, mtime, ctime = _time(atime), _time(mtime), _time(ctime)
            crtime = _time(crtime) if crtime else 0
        return Inode(
            checked_attrs(
                (
                    ino,
                    mode,
                    links,
                    uid,
                    gid,
                    size,
                    blocks * self._block_size,
                    rdev,
                    atime,
                    mtime,
                    ctime,
                    crtime,
                ),
                where,
            ),
            flags,
            data_fork,
            attr_fork,
            where,
        )

    def _check_identity(
        self, ino: int, where: int, version: int, number: int, volume_uuid: bytes
    ) -> None:
        if version != 3:
            raise Corrupt(Damage.INODE_VERSION, where, of=ino, expected=3, actual=version)
        if number != ino:
            raise Corrupt(Damage.INODE_OWN_NUMBER, where, of=ino, expected=ino, actual=number)
        if volume_uuid != self._uuid:
            raise Corrupt(
                Damage.INODE_UUID_OF_VOLUME,
                where,
                of=ino,
                expected=uuid.UUID(bytes=self._uuid),
                actual=uuid.UUID(bytes=volume_uuid),
            )


def refuse_realtime(inode: Inode) -> None:
    """Raise Unsupported for a file whose data is on the realtime device."""
    if inode.flags & InodeFlag.REALTIME and inode.attrs.mode & _FORMAT == _REGULAR:
        raise Unsupported(f"the realtime device, which holds the data of inode {inode.number}")


def _time(stored: int) -> int:
    """Return nanoseconds since 1970 of a time in seconds (signed) and nanoseconds, 32 bits each."""
    seconds = stored >> 32
    if seconds >= 1 << 31:
        seconds -= 1 << 32
    return seconds * 1_000_000_000 + (stored & 0xFFFFFFFF)


def _device(data: bytes) -> int:
    """Return the device number of a device file: 14 bits for the major, 18 for the minor."""
    (stored,) = struct.unpack_from(">I", data)
    return os.makedev(stored >> 18 & 0x3FFF, stored & 0x3FFFF)
