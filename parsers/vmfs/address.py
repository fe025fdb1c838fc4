"""Addresses of VMFS: 32 or 64 bits that say what kind of block it is, and which.

The three lowest bits are the kind. VMFS-5 has 32 bits, VMFS-6 has 64 (but 32 for file descriptors). Most
kinds live in a resource file and are told by cluster and number in the cluster; file blocks are told by
their place in the volume. Bits that nothing is known of must be zero, else the address is refused. One bit, 0x20 (VMFS-5's file
blocks: 0x10), says that a writer must copy the block first; it changes nothing for a reader.

Source: reverse engineered, vmfs-tools and dissect.vmfs (address.py).
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.vmfs.errors import Damage
from vmount.parsers.vmfs.fs_info import FsInfo


class Kind(enum.IntEnum):
    """The three lowest bits of an address."""

    NONE = 0
    FILE_BLOCK = 1
    """VMFS-6: a small file block."""
    SUB_BLOCK = 2
    POINTER_BLOCK = 3
    FILE_DESCRIPTOR = 4
    POINTER_BLOCK_2 = 5
    JOURNAL_BLOCK = 6
    LARGE_FILE_BLOCK = 7


class ResourceAddress(NamedTuple):
    """A place in a resource file."""

    kind: Kind
    cluster: int
    number: int


class FileBlock(NamedTuple):
    """A file block, which is where it is in the volume."""

    start: int
    """In the volume, in bytes."""
    length: int
    zeroed: bool
    """To be zeroed: reads as zeros whatever is there."""


SYSTEM_CLUSTER = 0
SYSTEM_DESCRIPTORS = 11
"""The root directory and the system files; they are the first of the first cluster."""
KIND_MASK = 0x7
VMFS5_STEP = 1 << 6
"""From the address of a file block to that of the next one."""
VMFS6_STEP = 1 << 51
"""From the address of a small file block to that of the next one in its cluster."""


def kind_of(address: int) -> Kind:
    """Return what an address is of."""
    return Kind(address & KIND_MASK)


def descriptor_address(cluster: int, number: int) -> int:
    """Return the address of a file descriptor."""
    return Kind.FILE_DESCRIPTOR | cluster << 6 | number << 22


ROOT = descriptor_address(SYSTEM_CLUSTER, 0)
FBB = descriptor_address(SYSTEM_CLUSTER, 1)
FDC = descriptor_address(SYSTEM_CLUSTER, 2)
PBC = descriptor_address(SYSTEM_CLUSTER, 3)
SBC = descriptor_address(SYSTEM_CLUSTER, 4)
PB2 = descriptor_address(SYSTEM_CLUSTER, 6)


def decode_descriptor_address(address: int) -> ResourceAddress:
    """Decode the address of a file descriptor: 16 bits of cluster, 10 of number."""
    if address & KIND_MASK != Kind.FILE_DESCRIPTOR or not 0 <= address < 1 << 32 or address & 0x38:
        raise Corrupt(Damage.ADDRESS_OF_FILE_DESCRIPTOR, actual=address)
    return ResourceAddress(Kind.FILE_DESCRIPTOR, address >> 6 & 0xFFFF, address >> 22)


def decode_resource_address(address: int, info: FsInfo) -> ResourceAddress:
    """Decode the address of a sub-block or a pointer block.

    Raises Unsupported for another kind, and for bits that are not known.
    """
    kind = kind_of(address)
    if kind not in (Kind.SUB_BLOCK, Kind.POINTER_BLOCK, Kind.POINTER_BLOCK_2):
        raise Unsupported(f"VMFS address of a {kind.name.lower()} here ({address:#x})")
    if info.is_vmfs6:
        _refuse_unknown(address, 0x00FF_FC00_0000_0018)
        return ResourceAddress(kind, address >> 6 & 0xF_FFFF_FFFF, address >> 56)
    number = address >> 28
    if kind is Kind.SUB_BLOCK and info.dense_sub_blocks:
        number |= (address & 0x18) << 1
    else:
        _refuse_unknown(address, 0x18)
    return ResourceAddress(kind, address >> 6 & 0x3F_FFFF, number)


def decode_file_block(address: int, info: FsInfo, zero_granule: int) -> FileBlock:
    """Decode the address of a file block, small or large.

    `zero_granule`: bytes that a bit of VMFS-6's to-be-zeroed bitmap stands for in this file. A bitmap that
    sets only a part of the block apart is refused.
    """
    kind = address & KIND_MASK
    if kind == Kind.FILE_BLOCK and not info.is_vmfs6:
        _refuse_unknown(address, 0x08)
        return FileBlock((address >> 6) * info.block_size, info.block_size, bool(address & 0x20))
    if kind == Kind.FILE_BLOCK:
        _refuse_unknown(address, 0x0007_C000_0000_0058)
        cluster, number = address >> 15 & 0x7FFF_FFFF, address >> 51
        per_cluster = info.small_blocks_per_cluster
        if number >= per_cluster:
            raise Corrupt(Damage.SMALL_FILE_BLOCK_PAST_CLUSTER, actual=address)
        block = cluster * per_cluster + number
        length = info.block_size
    elif kind == Kind.LARGE_FILE_BLOCK and info.is_vmfs6:
        _refuse_unknown(address, 0xFFFF_C000_0000_0058)
        block = address >> 15 & 0x7FFF_FFFF
        length = info.large_block_size
    else:
        raise Unsupported(f"VMFS address of a {Kind(kind).name.lower()} here ({address:#x})")
    bitmap = address >> 7 & 0xFF
    if bitmap not in (0, 0xFF) and zero_granule < length:
        raise Unsupported(f"VMFS file block that must be zeroed in part ({address:#x})")
    return FileBlock(block * length, length, bool(bitmap))


def _refuse_unknown(address: int, mask: int) -> None:
    if address & mask:
        raise Unsupported(f"VMFS address with unknown bits {address & mask:#x} ({address:#x})")
