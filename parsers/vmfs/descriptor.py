"""File descriptors: what VMFS has for inodes.

A descriptor is a lock, which hosts that only read pass over, and the metadata with either the file's
bytes or the addresses of its blocks. VMFS-5 keeps both in the last kilobyte; VMFS-6 begins the bytes right
behind the metadata and aligns the addresses to the descriptor's end.

Source: reverse engineered, vmfs-tools and dissect.vmfs (c_vmfs.py, FS3_FileDescriptor); what is
a guess says so.
"""

from __future__ import annotations

import enum
import stat
import struct
from typing import NamedTuple

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.layout import Field, Layout
from vmount.parsers.model import Attrs, checked_attrs
from vmount.parsers.reader import Buffer
from vmount.parsers.vmfs.errors import Damage
from vmount.parsers.vmfs.fs_info import FsInfo

SIGNATURE = 0x66646D64
MAX_FILE = 64 << 40
"""Bytes: VMFS ends a file at 62 TiB."""
_KNOWN_FLAGS = 0x9
"""Files with large blocks, and files whose blocks are kept together; neither changes how they are read."""
_METADATA_SIZE = 512
_NANOSECONDS = 1_000_000_000

DESCRIPTOR_METADATA = Layout(
    "VMFS file metadata",
    Field("address", "I", at=0x00, note="of this descriptor"),
    Field("generation", "I", at=0x04),
    Field("links", "I", at=0x08, note="numLinks"),
    Field("type", "I", at=0x0C, note="Type"),
    Field("flags", "I", at=0x10, note="guess: 0x1 large blocks, 0x8 blocks kept together"),
    Field("length", "Q", at=0x14, note="bytes"),
    Field("block_size", "Q", at=0x1C, note="of the volume, in bytes"),
    Field("blocks", "Q", at=0x24, note="numBlocks: allocated"),
    Field("mtime", "I", at=0x2C, note="seconds since 1970, as the other times"),
    Field("ctime", "I", at=0x30, note="creationTime in dissect.vmfs; its meaning is unconfirmed"),
    Field("atime", "I", at=0x34),
    Field("uid", "I", at=0x38),
    Field("gid", "I", at=0x3C),
    Field("mode", "I", at=0x40, note="permission bits"),
    Field("addressing", "I", at=0x44, note="zla: Addressing"),
    Field("zeroed_low", "I", at=0x48, note="tbzLo: blocks that are to be zeroed"),
    Field("cow_low", "I", at=0x4C, note="cowLo"),
    Field("new_low", "I", at=0x50, note="newSinceEpochLo"),
    Field("zeroed_high", "I", at=0x54, note="tbzHi"),
    Field("cow_high", "I", at=0x58, note="cowHi"),
    Field("pointer_blocks", "I", at=0x5C, note="numPointerBlocks"),
    Field("new_high", "I", at=0x60, note="newSinceEpochHi"),
    Field(
        "signature",
        "I",
        at=0x64,
        note="unknown in dissect.vmfs; found on volumes that ESXi wrote: fdmd, VMFS-6 only",
    ),
    Field("affinity", "I", at=0x68, note="affinityFD"),
    Field(
        "zero_granularity",
        "I",
        at=0x6C,
        note="tbzGranularityShift: log2 of bytes that a bit of the to-be-zeroed bitmap stands for",
    ),
    Field("parent", "I", at=0x70, note="parentFD"),
    Field("last_cluster", "I", at=0x74, note="lastSFBClusterNum"),
    Field("unknown", "8s", at=0x78, note="meaning unconfirmed"),
    Field("affinity_bitmap", "I", at=0x80, note="guess, unconfirmed"),
    Field("preallocated", "B", at=0x84, note="numPreAllocBlocks"),
    Field("unknown_2", "4s", at=0x85, note="meaning unconfirmed"),
    Field(
        "block_shift",
        "B",
        at=0x89,
        note="blockOffsetShift: log2 of bytes that an address stands for",
    ),
    size=138,
    source="reverse engineered: vmfs-tools; dissect.vmfs c_vmfs.py FS3_FileDescriptor",
)
_METADATA = DESCRIPTOR_METADATA.picker(
    "address",
    "generation",
    "links",
    "type",
    "flags",
    "length",
    "block_size",
    "blocks",
    "mtime",
    "ctime",
    "atime",
    "uid",
    "gid",
    "mode",
    "addressing",
    "signature",
    "zero_granularity",
    "block_shift",
)


class Type(enum.IntEnum):
    """What a descriptor is of."""

    VOLUME = 1
    DIRECTORY = 2
    FILE = 3
    SYMLINK = 4
    SYSTEM = 5
    """A file, or a directory if the mode says so."""
    RDM = 6
    """A raw device mapping: the disk's bytes are on another LUN."""


class Addressing(enum.IntEnum):
    """What the descriptor's addresses point to (the zero level address type, ZLA)."""

    NONE = 0
    FILE_BLOCK = 1
    SUB_BLOCK = 2
    POINTER_BLOCK = 3
    POINTER_BLOCK_2 = 5
    DOUBLE_POINTER_BLOCK = 0x10D0
    """Pointer blocks of addresses of pointer blocks."""
    RESIDENT = 0x10D1
    """None: the bytes are in the descriptor."""


_LEVELS = {
    Addressing.FILE_BLOCK: 0,
    Addressing.SUB_BLOCK: 0,
    Addressing.POINTER_BLOCK: 1,
    Addressing.POINTER_BLOCK_2: 1,
    Addressing.DOUBLE_POINTER_BLOCK: 2,
}
_KINDS = {
    Type.DIRECTORY: stat.S_IFDIR,
    Type.FILE: stat.S_IFREG,
    Type.SYMLINK: stat.S_IFLNK,
    Type.SYSTEM: stat.S_IFREG,
    Type.RDM: stat.S_IFREG,
}


class Descriptor(NamedTuple):
    """A file descriptor."""

    address: int
    generation: int
    type: Type
    attrs: Attrs
    flags: int
    slot_size: int
    """Bytes of the file that one address stands for."""
    addressing: int
    zero_granule: int
    """Bytes that a bit of a to-be-zeroed bitmap stands for."""
    where: int
    """Offset of the descriptor in the volume."""
    resident: int
    """Offset in the volume of the bytes that are kept in the descriptor, if any are."""
    data: bytes
    """As much of the file as is kept in the descriptor; empty unless `addressing` is RESIDENT."""
    addresses: tuple[int, ...]

    @property
    def levels(self) -> int:
        """Levels of pointer blocks between the addresses and the file's blocks.

        Raises Unsupported if the way of addressing is not known.
        """
        try:
            return _LEVELS[Addressing(self.addressing)]
        except (ValueError, KeyError):
            raise Unsupported(
                f"VMFS addressing {self.addressing:#x}, in file {self.address:#x}"
            ) from None

    def check_readable(self) -> None:
        """Raise Unsupported for what says that the bytes are elsewhere or otherwise."""
        if self.type is Type.RDM:
            raise Unsupported(
                f"raw device mapping (RDM), in file {self.address:#x}",
                remedy="its bytes are on the LUN that it maps",
            )
        if self.flags & ~_KNOWN_FLAGS:
            flags = self.flags & ~_KNOWN_FLAGS
            raise Unsupported(f"VMFS file flags {flags:#x}, in file {self.address:#x}")


def decode_descriptor(data: Buffer, address: int, info: FsInfo, where: int) -> Descriptor:
    """Decode a file descriptor.

    Raises Corrupt if it is not that of `address`, or impossible; Unsupported for an unknown type.
    """
    view = memoryview(data)
    metadata = info.alignment
    (
        own,
        generation,
        links,
        number,
        flags,
        length,
        block_size,
        blocks,
        mtime,
        ctime,
        atime,
        uid,
        gid,
        mode,
        addressing,
        signature,
        zero_shift,
        block_shift,
    ) = _METADATA.unpack_from(view, metadata)
    name = f"VMFS file descriptor {address:#x}"
    if own != address:
        raise Corrupt(Damage.ADDRESS, where, of=name, expected=address, actual=own)
    if info.is_vmfs6 and signature != SIGNATURE:
        raise Corrupt(Damage.SIGNATURE, where, of=name, expected=SIGNATURE, actual=signature)
    try:
        file_type = Type(number)
        kind = stat.S_IFMT(mode) or _KINDS[file_type]
    except (ValueError, KeyError):
        raise Unsupported(f"VMFS file type {number}, in file {address:#x}") from None
    if length > MAX_FILE:
        raise Corrupt(
            Damage.LENGTH, where, of=name, expected=f"at most {MAX_FILE:#x}", actual=length
        )
    if not info.is_vmfs6:
        if block_size & (block_size - 1):
            raise Corrupt(Damage.BLOCK_SIZE, where, of=name, actual=block_size)
        block_shift = max(0, block_size.bit_length() - 1)
    if block_shift >= 32:
        raise Corrupt(Damage.BLOCK_SIZE, where, of=name, actual=block_shift)

    resident_size = info.alignment - _METADATA_SIZE if info.is_vmfs6 else 1024
    resident = info.descriptor_size - resident_size
    inline = b""
    addresses: tuple[int, ...] = ()
    if addressing == Addressing.RESIDENT:
        if length > resident_size:
            raise Corrupt(
                Damage.LENGTH_IN_DESCRIPTOR,
                where,
                of=name,
                expected=f"at most {resident_size:#x}",
                actual=length,
            )
        inline = bytes(view[resident : resident + length])
    elif file_type is not Type.RDM and length:
        addresses = _addresses(view, info)
    return Descriptor(
        address=address,
        generation=generation,
        type=file_type,
        attrs=checked_attrs(
            (
                address,
                kind | mode & 0o7777,
                links,
                uid,
                gid,
                length,
                blocks * block_size,
                0,
                atime * _NANOSECONDS,
                mtime * _NANOSECONDS,
                ctime * _NANOSECONDS,
                0,
            ),
            where,
        ),
        flags=flags,
        slot_size=1 << block_shift,
        addressing=addressing,
        zero_granule=1 << min(zero_shift, 63),
        where=where,
        resident=where + resident,
        data=inline,
        addresses=addresses,
    )


def _addresses(view: memoryview, info: FsInfo) -> tuple[int, ...]:
    if not info.is_vmfs6:
        return _VMFS5_ADDRESSES.unpack_from(view, 1024)
    size = max(2560, info.alignment // 2)
    return struct.unpack_from(f"<{size // 8}Q", view, info.descriptor_size - size)


_VMFS5_ADDRESSES = struct.Struct("<256I")
