"""Inodes.

Strategy: this is the hot place of a listing. One `struct` call decodes the fields, one CRC call checks
them, and the result is made in one go; everything that depends on the volume only is worked out once,
in `InodeDecoder`.
Source: Linux kernel documentation, filesystems/ext4, "Inode Table", "Inode Timestamps" and "Checksums".
"""

from __future__ import annotations

import os
import stat
import struct
from enum import IntEnum
from typing import NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.ext.checksum import crc32c
from vmount.parsers.ext.errors import Damage
from vmount.parsers.ext.features import Incompat, RoCompat
from vmount.parsers.ext.superblock import GOOD_OLD_INODE_SIZE, Superblock
from vmount.parsers.layout import Field, Layout
from vmount.parsers.model import Attrs, checked_attrs

INODE = Layout(
    "ext4 inode",
    Field("mode", "H", at=0x00),
    Field("uid_low", "H", at=0x02),
    Field("size_low", "I", at=0x04, note="bytes"),
    Field("atime", "i", at=0x08, note="seconds since 1970, as the other times"),
    Field("ctime", "i", at=0x0C),
    Field("mtime", "i", at=0x10),
    Field(
        "dtime", "I", at=0x14, note="time of deletion; of an orphan: the next orphan's inode number"
    ),
    Field("gid_low", "H", at=0x18),
    Field("links_count", "H", at=0x1A),
    Field(
        "blocks_low", "I", at=0x1C, note="of 512 bytes, or of the volume's with EXT4_HUGE_FILE_FL"
    ),
    Field("flags", "I", at=0x20, note="EXT4_..._FL"),
    Field("version_low", "I", at=0x24, note="osd1: l_i_version"),
    Field(
        "block",
        "60s",
        at=0x28,
        note="i_block[15]: block numbers, the root of an extent tree, or the data",
    ),
    Field("generation", "I", at=0x64, note="for NFS, and the seed of checksums"),
    Field("xattr_block_low", "I", at=0x68, note="i_file_acl_lo: block of the attributes"),
    Field("size_high", "I", at=0x6C),
    Field("fragment", "I", at=0x70, note="i_obso_faddr: not used"),
    Field("blocks_high", "H", at=0x74),
    Field("xattr_block_high", "H", at=0x76, note="l_i_file_acl_high"),
    Field("uid_high", "H", at=0x78),
    Field("gid_high", "H", at=0x7A),
    Field("checksum_low", "H", at=0x7C),
    Field("reserved", "2x", at=0x7E),
    Field(
        "extra_isize",
        "H",
        at=0x80,
        note="bytes from here that are in use; inodes of 128 bytes end before it",
    ),
    Field("checksum_high", "H", at=0x82),
    Field(
        "ctime_extra",
        "I",
        at=0x84,
        note="2 bits of seconds above the 32, then 30 of nanoseconds, as the others",
    ),
    Field("mtime_extra", "I", at=0x88),
    Field("atime_extra", "I", at=0x8C),
    Field("btime", "i", at=0x90, note="i_crtime: time of creation"),
    Field("btime_extra", "I", at=0x94),
    Field("version_high", "I", at=0x98),
    Field("project", "I", at=0x9C, note="i_projid"),
    size=160,
    source="Linux fs/ext4/ext4.h struct ext4_inode",
)
"""The fields up to `reserved` make the 128 bytes that every inode has."""

BASE_FIELDS = (
    "mode",
    "uid_low",
    "size_low",
    "atime",
    "ctime",
    "mtime",
    "gid_low",
    "links_count",
    "blocks_low",
    "flags",
    "block",
    "generation",
    "xattr_block_low",
    "size_high",
    "blocks_high",
    "xattr_block_high",
    "uid_high",
    "gid_high",
    "checksum_low",
)
EXTRA_FIELDS = (
    "extra_isize",
    "checksum_high",
    "ctime_extra",
    "mtime_extra",
    "atime_extra",
    "btime",
    "btime_extra",
)


class InodeFlag(IntEnum):
    """Flags that change how a file is read."""

    IMMUTABLE = 0x10
    APPEND = 0x20
    ENCRYPT = 0x800
    INDEX = 0x1000
    HUGE_FILE = 0x40000
    EXTENTS = 0x80000
    EA_INODE = 0x200000
    INLINE_DATA = 0x10000000
    CASEFOLD = 0x40000000


class Inode(NamedTuple):
    """A file's inode."""

    attrs: Attrs
    flags: int
    generation: int
    xattr_block: int
    """Block with extended attributes, 0 for none."""
    block: bytes
    """The 60 bytes that hold the root of the block map or extent tree, or the file itself."""
    extra: bytes
    """The space for extended attributes in the inode."""
    where: int
    """Its offset in the volume."""

    @property
    def number(self) -> int:
        """The inode number."""
        return self.attrs.ino

    def checksum_seed(self, superblock: Superblock) -> int:
        """Return the start of the checksums of everything that belongs to this inode."""
        return crc32c(superblock.checksum_seed, _pack_seed(self.attrs.ino, self.generation))


_pick_base = INODE.picker(*BASE_FIELDS).unpack_from
_pick_all = INODE.picker(*BASE_FIELDS, *EXTRA_FIELDS).unpack_from
_pack_seed = struct.Struct("<II").pack
_NO_EXTRA = (0,) * len(EXTRA_FIELDS)

_CHECKSUM_LOW_AT = INODE.offset("checksum_low")
_CHECKSUM_HIGH_AT = INODE.offset("checksum_high")
_KNOWN_EXTRA = INODE.size - GOOD_OLD_INODE_SIZE
_CTIME_END, _MTIME_END, _ATIME_END, _BTIME_END, _BTIME_EXTRA_END = (
    INODE.offset(name) + 4 - GOOD_OLD_INODE_SIZE
    for name in ("ctime_extra", "mtime_extra", "atime_extra", "btime", "btime_extra")
)
_CHECKSUM_HIGH_END = _CHECKSUM_HIGH_AT + 2 - GOOD_OLD_INODE_SIZE

_FORMAT = 0o170000
_DIRECTORY = stat.S_IFDIR
_REGULAR = stat.S_IFREG
_HUGE = int(InodeFlag.HUGE_FILE)
_INLINE = int(InodeFlag.INLINE_DATA)
_TWO_LAYOUTS = int(InodeFlag.INLINE_DATA | InodeFlag.EXTENTS)
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
ROOT_INODE = 2
_MAX_SIZE = (1 << 63) - 1
"""What the kernel's loff_t holds."""


class InodeDecoder:
    """Decodes the inodes of one volume."""

    def __init__(self, superblock: Superblock) -> None:
        self._inode_size = superblock.inode_size
        self._checksums = superblock.metadata_checksums
        self._seed = superblock.checksum_seed
        self._huge_file = bool(superblock.ro_compat & RoCompat.HUGE_FILE)
        self._large_dir = superblock.has_incompat(Incompat.LARGEDIR)
        self._block_size = superblock.block_size
        self._xattr_block_high = superblock.has_incompat(Incompat.BITS_64)

    def decode(self, ino: int, raw: bytes, where: int, *, verify: bool = True) -> Inode:
        """Decode the inode `ino` from exactly its bytes, which lie at `where` in the volume.

        Without `verify` its checksum is not looked at.
        Raises Corrupt if its checksum is wrong or it is no file.
        """
        if self._inode_size > GOOD_OLD_INODE_SIZE:
            fields = _pick_all(raw)
        else:
            fields = _pick_base(raw) + _NO_EXTRA
        # fmt: off
        (
            mode, uid, size, atime, ctime, mtime, gid, links, blocks, flags, block, generation,
            xattr_block, size_high, blocks_high, xattr_block_high, uid_high, gid_high, checksum,
            extra_isize, checksum_high, ctime_extra, mtime_extra, atime_extra, btime, btime_extra,
        ) = fields
        # fmt: on
        if extra_isize & 3 or extra_isize > self._inode_size - GOOD_OLD_INODE_SIZE:
            raise Corrupt(
                Damage.INODE_SIZE_OF_EXTRA_FIELDS,
                where + GOOD_OLD_INODE_SIZE,
                of=ino,
                expected=f"at most {self._inode_size - GOOD_OLD_INODE_SIZE:#x}",
                actual=extra_isize,
            )
        if verify and self._checksums:
            self._check(ino, raw, where, generation, extra_isize, checksum, checksum_high)

        xattr_space = raw[GOOD_OLD_INODE_SIZE + extra_isize :] if extra_isize else b""
        if extra_isize == 0 and self._inode_size > GOOD_OLD_INODE_SIZE:
            # Never set: the kernel takes the space as its own fields.
            extra_isize = _KNOWN_EXTRA
        if extra_isize < _BTIME_EXTRA_END:
            btime_extra = 0
            if extra_isize < _BTIME_END:
                btime = 0
            if extra_isize < _ATIME_END:
                atime_extra = 0
            if extra_isize < _MTIME_END:
                mtime_extra = 0
            if extra_isize < _CTIME_END:
                ctime_extra = 0

        kind = mode & _FORMAT
        rdev = 0
        if kind == _REGULAR or (kind == _DIRECTORY and self._large_dir):
            size |= size_high << 32
            if size > _MAX_SIZE:
                raise Corrupt(Damage.INODE_SIZE, where, of=ino, expected="below 2**63", actual=size)
        elif kind == stat.S_IFCHR or kind == stat.S_IFBLK:
            rdev = _device(block)
        elif kind not in _KINDS:
            raise Corrupt(
                Damage.INODE_TYPE_OF_FILE, where, of=ino, expected="a known type", actual=mode
            )
        if not links and ino != ROOT_INODE:
            raise Corrupt(Damage.INODE_IS_NOT_IN_USE, where, of=ino)
        if flags & _TWO_LAYOUTS == _TWO_LAYOUTS:
            raise Corrupt(Damage.INODE_HAS_INLINE_DATA_AND_EXTENTS, where, of=ino)
        if self._xattr_block_high:
            xattr_block |= xattr_block_high << 32
        sectors_size = 512
        if self._huge_file:
            blocks |= blocks_high << 32
            if flags & _HUGE:
                sectors_size = self._block_size
        allocated = blocks * sectors_size
        if flags & _INLINE and kind == _REGULAR:
            # As the kernel's stat counts what is in the inode.
            allocated += size + 511 & ~511
        return Inode(
            checked_attrs(
                (
                    ino,
                    mode,
                    links,
                    uid | uid_high << 16,
                    gid | gid_high << 16,
                    size,
                    allocated,
                    rdev,
                    (atime + ((atime_extra & 3) << 32)) * 1_000_000_000 + (atime_extra >> 2),
                    (mtime + ((mtime_extra & 3) << 32)) * 1_000_000_000 + (mtime_extra >> 2),
                    (ctime + ((ctime_extra & 3) << 32)) * 1_000_000_000 + (ctime_extra >> 2),
                    (btime + ((btime_extra & 3) << 32)) * 1_000_000_000 + (btime_extra >> 2),
                ),
                where,
            ),
            flags,
            generation,
            xattr_block,
            block,
            xattr_space,
            where,
        )

    def _check(
        self,
        ino: int,
        raw: bytes,
        where: int,
        generation: int,
        extra_isize: int,
        checksum: int,
        checksum_high: int,
    ) -> None:
        covered = _pack_seed(ino, generation) + raw[:_CHECKSUM_LOW_AT] + b"\0\0" + raw[126:128]
        mask = 0xFFFF
        if extra_isize >= _CHECKSUM_HIGH_END:
            covered += raw[128:_CHECKSUM_HIGH_AT] + b"\0\0" + raw[_CHECKSUM_HIGH_AT + 2 :]
            checksum |= checksum_high << 16
            mask = 0xFFFFFFFF
        else:
            covered += raw[128:]
        expected = crc32c(self._seed, covered) & mask
        if expected != checksum:
            raise Corrupt(Damage.INODE_CHECKSUM, where, of=ino, expected=expected, actual=checksum)


def _device(block: bytes) -> int:
    """Return the device number that a device file's block map holds in place of blocks.

    The first word has the old form (8 bits each for major and minor), else the second has the new one.
    """
    old, new = struct.unpack_from("<II", block)
    if old:
        return os.makedev(old >> 8 & 0xFF, old & 0xFF)
    return os.makedev(new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00)
