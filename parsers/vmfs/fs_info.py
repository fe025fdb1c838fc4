"""The file system's header ("FS3 descriptor") at 2 MiB of a VMFS volume.

Source: reverse engineered, vmfs-tools and dissect.vmfs (c_vmfs.py, FS3_Descriptor).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from vmount.parsers.errors import Corrupt, NotRecognised, Unsupported
from vmount.parsers.layout import Field, Layout
from vmount.parsers.reader import Buffer
from vmount.parsers.vmfs.errors import Damage
from vmount.parsers.vmfs.identity import uuid_text

FS_INFO_OFFSET = 2 << 20
MAGIC = 0x2FABF15E
MAGIC_LOCAL = 0x2FABF15F
"""VMFS-L: ESXi's own system partitions."""

_KIB = 1 << 10
_MIB = 1 << 20
_HEARTBEAT_AREA = 3 * _MIB
_HEARTBEATS = 1 << 10
_MAX_LABEL = 128


class Version(enum.IntEnum):
    """The major version on disk of what is supported."""

    VMFS5 = 14
    VMFS6 = 24


class Config(enum.IntFlag):
    """Those flags of the header that change how the disk is read."""

    DENSE_SUB_BLOCKS = 0x4


_KNOWN_CONFIG = 0x7FFF
"""Flags that ESXi is known to set. Those not in Config say who may use the volume, and what for."""

FS_INFO = Layout(
    "VMFS file-system header",
    Field("magic", "I", at=0x00, note="0x2FABF15E, VMFS-L 0x2FABF15F"),
    Field("major_version", "I", at=0x04, note="Version"),
    Field("minor_version", "B", at=0x08),
    Field("uuid", "16s", at=0x09, note="UUID (identity)"),
    Field("config", "I", at=0x19, note="flags: Config"),
    Field("label", "128s", at=0x1D, note="fsLabel: ends at a zero byte"),
    Field("sector_size", "I", at=0x9D, note="diskBlockSize: bytes"),
    Field("block_size", "Q", at=0xA1, note="fileBlockSize: bytes; VMFS-6's small file blocks"),
    Field("created", "I", at=0xA9, note="seconds since 1970"),
    Field("snapshot_id", "I", at=0xAD, note="snapID"),
    Field(
        "volume_id", "32s", at=0xB1, note="volInfo: UUID of the LVM volume in its first 16 bytes"
    ),
    Field("fdc_group_offset", "I", at=0xD1, note="fdcClusterGroupOffset: bytes"),
    Field("fdc_clusters_per_group", "I", at=0xD5),
    Field("sub_block_size", "I", at=0xD9, note="bytes"),
    Field("journal_slots", "I", at=0xDD, note="maxJournalSlotsPerTxn"),
    Field("pb2_offset", "Q", at=0xE1, note="pb2VolAddr: bytes in the volume"),
    Field("pb2_descriptor", "I", at=0xE9, note="pb2FDAddr: address"),
    Field("host", "16s", at=0xED, note="hostUuid"),
    Field("generation", "Q", at=0xFD, note="gblGeneration"),
    Field("sdd_offset", "Q", at=0x105, note="sddVolAddr"),
    Field("sdd_descriptor", "I", at=0x10D, note="sddFDAddr"),
    Field("checksum_type", "B", at=0x111),
    Field("unmap_priority", "H", at=0x112),
    Field("reserved", "4x", at=0x114),
    Field("checksum_generation", "Q", at=0x118, note="checksumGen"),
    Field("checksum", "16s", at=0x120, note="value and generation"),
    Field("physical_sector_size", "I", at=0x130, note="physDiskBlockSize: bytes"),
    Field("alignment", "I", at=0x134, note="mdAlignment: bytes; VMFS-6 only, as what follows"),
    Field(
        "large_block_shift",
        "H",
        at=0x138,
        note="sfbToLfbShift: log2 of small file blocks in a large one",
    ),
    Field("reserved_2", "4x", at=0x13A),
    Field("pointer_block_shift", "H", at=0x13E, note="ptrBlockShift"),
    Field("small_block_address_bits", "H", at=0x140, note="sfbAddrBits"),
    Field("reserved_3", "2x", at=0x142),
    Field("zero_granularity", "I", at=0x144, note="tbzGranularity"),
    size=328,
    source="reverse engineered: vmfs-tools; dissect.vmfs c_vmfs.py FS3_Descriptor",
)


@dataclass(frozen=True)
class FsInfo:
    """What a VMFS file system says of itself. Sizes in bytes."""

    version: Version
    minor_version: int
    local: bool
    uuid: str
    label: str
    block_size: int
    """Of a file block; VMFS-6 says small file block."""
    sub_block_size: int
    config: int
    pb2_descriptor: int
    """Address of the second pointer-block file's descriptor in VMFS-5; 0 if there is none."""
    pb2_offset: int
    """Where that descriptor is in the volume: anywhere, where VMFS-5 was VMFS-3 before."""
    fdc_group_offset: int
    fdc_clusters_per_group: int
    alignment: int
    """Of metadata: half a file descriptor. VMFS-5 has 512."""
    large_block_shift: int
    """How many small file blocks a large one has, as a power of two."""

    @property
    def is_vmfs6(self) -> bool:
        """Tell VMFS-6 from VMFS-5."""
        return self.version is Version.VMFS6

    @property
    def dense_sub_blocks(self) -> bool:
        """Tell whether sub-block addresses of VMFS-5 have two bits more."""
        return bool(self.config & Config.DENSE_SUB_BLOCKS)

    @property
    def large_block_size(self) -> int:
        """Bytes of a large file block."""
        return self.block_size << self.large_block_shift

    @property
    def small_blocks_per_cluster(self) -> int:
        """Small file blocks that one cluster number of a VMFS-6 address counts."""
        return min(8192, (512 * _MIB) // self.block_size)

    @property
    def descriptor_size(self) -> int:
        """Bytes of a file descriptor."""
        return 2 * self.alignment if self.is_vmfs6 else 2 * _KIB

    @property
    def system_descriptors(self) -> int:
        """Offset in the volume of the system files' descriptors: the first cluster of the first group.

        Before them are the volume header and the heartbeats, in whole blocks (VMFS-5) or MiB (VMFS-6), the
        header of the file of descriptors, and the headers of the group's clusters.
        """
        if self.is_vmfs6:
            base = _round_up(_HEARTBEAT_AREA + _HEARTBEATS * self.alignment, _MIB)
            return base + self.fdc_group_offset + self.fdc_clusters_per_group * 2 * self.alignment
        base = _round_up(4 * _MIB, self.block_size)
        return base + self.fdc_group_offset + self.fdc_clusters_per_group * _KIB


def decode_fs_info(data: Buffer) -> FsInfo:
    """Decode the header.

    Raises NotRecognised if this is none, Unsupported for another version or flag, Corrupt for impossible
    values.
    """
    raw = FS_INFO.parse(data)
    if raw.magic not in (MAGIC, MAGIC_LOCAL):
        raise NotRecognised("not VMFS: no file system header at 2 MiB")
    try:
        version = Version(raw.major_version)
    except ValueError:
        known = "VMFS-3" if raw.major_version < Version.VMFS5 else "VMFS"
        name = f"{known} (file system version {raw.major_version}.{raw.minor_version})"
        raise Unsupported(name, remedy="VMFS-5 and VMFS-6 can be read") from None
    if raw.config & ~_KNOWN_CONFIG:
        raise Unsupported(f"VMFS flag {raw.config & ~_KNOWN_CONFIG:#x} in the header")
    vmfs6 = version is Version.VMFS6
    _check_power("block size", raw.block_size, 64 * _KIB, 8 * _MIB)
    _check_power("sub-block size", raw.sub_block_size, _KIB, _MIB)
    alignment = raw.alignment if vmfs6 else 512
    _check_power("metadata alignment", alignment, 512, 64 * _KIB)
    if vmfs6 and alignment < 4 * _KIB:
        raise Corrupt(Damage.METADATA_ALIGNMENT, FS_INFO_OFFSET, actual=alignment)
    if vmfs6 and not 0 <= raw.large_block_shift <= 16:
        raise Corrupt(Damage.LARGE_FILE_BLOCKS, FS_INFO_OFFSET, actual=raw.large_block_shift)
    if not 0 < raw.fdc_clusters_per_group <= 8192 or raw.fdc_group_offset > 64 * _MIB:
        raise Corrupt(Damage.FILE_DESCRIPTORS_PLACE, FS_INFO_OFFSET, actual=raw.fdc_group_offset)
    return FsInfo(
        version=version,
        minor_version=raw.minor_version,
        local=raw.magic == MAGIC_LOCAL,
        uuid=uuid_text(raw.uuid),
        label=raw.label[:_MAX_LABEL].partition(b"\0")[0].decode("utf-8", "replace"),
        block_size=raw.block_size,
        sub_block_size=raw.sub_block_size,
        config=raw.config,
        pb2_descriptor=raw.pb2_descriptor,
        pb2_offset=raw.pb2_offset,
        fdc_group_offset=raw.fdc_group_offset,
        fdc_clusters_per_group=raw.fdc_clusters_per_group,
        alignment=alignment,
        large_block_shift=raw.large_block_shift if vmfs6 else 0,
    )


def _check_power(what: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most or value & (value - 1):
        raise Corrupt(
            Damage.HEADER,
            FS_INFO_OFFSET,
            of=what,
            expected=f"a power of two from {least:#x} to {most:#x}",
            actual=value,
        )


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
