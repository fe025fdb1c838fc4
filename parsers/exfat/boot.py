"""The boot region: the geometry of a volume, its checksum, and where its backup is.

Source: Microsoft's "exFAT file system specification" 1.00 ("the specification" in this package),
section 3. Offsets and sizes below are in bytes from the start of the volume.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vmount.parsers.errors import Corrupt, NotRecognised, Unsupported
from vmount.parsers.layout import Field, Layout

if TYPE_CHECKING:
    from vmount.parsers.reader import Buffer

BOOT_SECTOR = Layout(
    "exFAT boot sector",
    Field("jump", "3s", at=0x00, note="JumpBoot: EB 76 90"),
    Field("name", "8s", at=0x03, note="FileSystemName: EXFAT and three spaces"),
    Field("must_be_zero", "53s", at=0x0B, note="MustBeZero: FAT's BPB"),
    Field("partition_offset", "Q", at=0x40, note="sectors; 0: not known"),
    Field("volume_length", "Q", at=0x48, note="sectors"),
    Field("fat_offset", "I", at=0x50, note="sectors"),
    Field("fat_length", "I", at=0x54, note="sectors"),
    Field("heap_offset", "I", at=0x58, note="ClusterHeapOffset: sectors"),
    Field("clusters", "I", at=0x5C, note="ClusterCount"),
    Field("root_cluster", "I", at=0x60, note="FirstClusterOfRootDirectory"),
    Field("serial", "I", at=0x64, note="VolumeSerialNumber"),
    Field("revision", "H", at=0x68, note="FileSystemRevision: major in the upper byte"),
    Field(
        "flags",
        "H",
        at=0x6A,
        note="VolumeFlags: 1: the second FAT is active; 2: dirty; 4: media failure",
    ),
    Field("sector_shift", "B", at=0x6C, note="BytesPerSectorShift: log2"),
    Field("cluster_shift", "B", at=0x6D, note="SectorsPerClusterShift: log2"),
    Field("fats", "B", at=0x6E, note="NumberOfFats"),
    Field("drive", "B", at=0x6F),
    Field("percent_in_use", "B", at=0x70, note="0xFF: not known"),
    Field("reserved", "7x", at=0x71),
    Field("boot_code", "390s", at=0x78),
    Field("signature", "2s", at=0x1FE, note="BootSignature: 0x55 0xAA"),
    size=512,
    source="Microsoft exFAT specification, 3.1 (Main and Backup Boot Sector)",
)

BOOT_SIZE = 512
"""Bytes that are decoded, whatever the size of a sector."""

NAME = b"EXFAT   "
SIGNATURE = b"\x55\xaa"

REGION_SECTORS = 12
"""In each of the two boot regions; the last one has nothing but the checksum of the others."""
BACKUP_SECTOR = 12

MIN_SECTOR_SHIFT = 9
MAX_SECTOR_SHIFT = 12
MAX_CLUSTER_SHIFT = 25
"""Clusters of 32 MiB."""
MAX_CLUSTERS = 0xFFFF_FFF5
MAX_VOLUME = 1 << 52
"""Bytes: 4 PiB. What is beyond has no number for its files; disks of VMware end at 62 TiB."""

VOLUME_DIRTY = 0x0002
MEDIA_FAILURE = 0x0004

_NOT_SUMMED = (106, 107, 112)
"""Bytes of the boot sector that change while the volume is in use: its flags, the percentage."""


class Boot(NamedTuple):
    """The geometry of a volume."""

    sector_size: int
    cluster_size: int
    clusters: int
    """Their numbers begin at 2."""
    fat_offset: int
    heap_offset: int
    """Of the first cluster."""
    root_cluster: int
    size: int
    serial: int
    flags: int


def decode_boot(sector: Buffer) -> Boot:
    """Decode a boot sector (its first `BOOT_SIZE` bytes).

    Raises NotRecognised where it is not one of exFAT, Corrupt where it is and makes no sense, Unsupported
    for TexFAT and for other versions.
    """
    raw = BOOT_SECTOR.parse(sector)
    if raw.name != NAME or raw.signature != SIGNATURE or any(raw.must_be_zero):
        raise NotRecognised("not an exFAT boot sector")
    if raw.revision >> 8 != 1:
        raise Unsupported(f"exFAT version {raw.revision >> 8}.{raw.revision & 0xFF:02}")
    if raw.fats == 2:
        raise Unsupported("TexFAT (transaction-safe exFAT with two FATs)")
    if raw.fats != 1:
        raise Corrupt("number of FATs", 110, expected=1, actual=raw.fats)
    if not MIN_SECTOR_SHIFT <= raw.sector_shift <= MAX_SECTOR_SHIFT:
        raise Corrupt(
            "sector size as a power of 2", 108, expected="9 to 12", actual=raw.sector_shift
        )
    if raw.sector_shift + raw.cluster_shift > MAX_CLUSTER_SHIFT:
        expected = f"at most {MAX_CLUSTER_SHIFT - raw.sector_shift}"
        raise Corrupt(
            "sectors per cluster as a power of 2", 109, expected=expected, actual=raw.cluster_shift
        )
    sector_size = 1 << raw.sector_shift
    cluster_size = sector_size << raw.cluster_shift
    size = raw.volume_length * sector_size
    if size > MAX_VOLUME:
        raise Unsupported(f"exFAT volume of more than {MAX_VOLUME >> 50} PiB")
    fat_size = raw.fat_length * sector_size
    fat_end = raw.fat_offset + raw.fat_length
    sectors = raw.clusters << raw.cluster_shift
    if raw.clusters > MAX_CLUSTERS or raw.heap_offset + sectors > raw.volume_length:
        raise Corrupt("clusters beyond the volume", 92, actual=raw.clusters)
    if raw.fat_offset < 2 * REGION_SECTORS or fat_end > raw.heap_offset:
        raise Corrupt("place of the FAT", 80, actual=raw.fat_offset)
    if fat_size < (raw.clusters + 2) * 4:
        raise Corrupt("FAT too short for the clusters", 84, actual=raw.fat_length)
    if not 2 <= raw.root_cluster < raw.clusters + 2:
        expected = f"2 to {raw.clusters + 1:#x}"
        raise Corrupt("root directory's cluster", 96, expected=expected, actual=raw.root_cluster)
    return Boot(
        sector_size,
        cluster_size,
        raw.clusters,
        raw.fat_offset * sector_size,
        raw.heap_offset * sector_size,
        raw.root_cluster,
        size,
        raw.serial,
        raw.flags,
    )


def check_region(region: Buffer, sector_size: int) -> None:
    """Raise Corrupt unless the checksum in the last sector of a boot region is that of the others."""
    expected = boot_checksum(region[: (REGION_SECTORS - 1) * sector_size])
    stored = bytes(region[(REGION_SECTORS - 1) * sector_size :])
    if stored != expected.to_bytes(4, "little") * (sector_size // 4):
        actual = int.from_bytes(stored[:4], "little")
        raise Corrupt("checksum of the boot region", expected=expected, actual=actual)


def boot_checksum(sectors: Buffer) -> int:
    """Return the checksum of all sectors of a boot region but its last."""
    total = 0
    for index, byte in enumerate(sectors):
        if index not in _NOT_SUMMED:
            total = ((total << 31 | total >> 1) + byte) & 0xFFFF_FFFF
    return total
