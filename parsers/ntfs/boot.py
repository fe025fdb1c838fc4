"""The boot sector: the geometry of a volume and where its MFT begins.

Source: the BIOS parameter block of NTFS as Microsoft's "NTFS Boot Sector" and the ntfs.sys documentation
of the Linux kernel (Documentation/filesystems/ntfs3.rst and its predecessor) describe it.
"""

from __future__ import annotations

from typing import NamedTuple

from vmount.parsers.errors import Corrupt, NotRecognised
from vmount.parsers.layout import Field, Layout
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.reader import Buffer

BOOT_SECTOR = Layout(
    "NTFS boot sector",
    Field("jump", "3s", at=0x00),
    Field("oem_id", "8s", at=0x03, note="NTFS and four spaces"),
    Field("bytes_per_sector", "H", at=0x0B),
    Field("sectors_per_cluster", "B", at=0x0D, note="from 0x80 on: minus the log2 of it"),
    Field(
        "reserved_sectors",
        "H",
        at=0x0E,
        note="0, as all of FAT's fields from here to sectors_per_fat",
    ),
    Field("fats", "B", at=0x10),
    Field("root_entries", "H", at=0x11),
    Field("sectors_16", "H", at=0x13),
    Field("media", "B", at=0x15),
    Field("sectors_per_fat", "H", at=0x16),
    Field("sectors_per_track", "H", at=0x18, note="for the BIOS only"),
    Field("heads", "H", at=0x1A),
    Field("hidden_sectors", "I", at=0x1C, note="for the BIOS only"),
    Field("sectors_32", "I", at=0x20),
    Field(
        "drive",
        "4s",
        at=0x24,
        note="physical_drive, current_head, extended_boot_signature, reserved",
    ),
    Field(
        "total_sectors",
        "Q",
        at=0x28,
        note="number_of_sectors: without the backup boot sector behind them",
    ),
    Field("mft_lcn", "Q", at=0x30, note="first cluster of $MFT"),
    Field("mirror_lcn", "Q", at=0x38, note="mftmirr_lcn: first cluster of $MFTMirr"),
    Field(
        "record_size_code",
        "b",
        at=0x40,
        note="clusters_per_mft_record: clusters, or if negative minus the log2 of bytes",
    ),
    Field("pad1", "3x", at=0x41),
    Field(
        "index_size_code", "b", at=0x44, note="clusters_per_index_record: coded as record_size_code"
    ),
    Field("pad2", "3x", at=0x45),
    Field("serial", "Q", at=0x48, note="volume_serial_number"),
    size=80,
    source=(
        "reverse engineered: Linux-NTFS documentation (Russon, Fledel), $Boot; "
        "ntfs-3g layout.h NTFS_BOOT_SECTOR"
    ),
)

OEM_ID = b"NTFS    "

SECTOR_SIZES = (256, 512, 1024, 2048, 4096)

MIN_CLUSTER = 512
MAX_CLUSTER = 2 << 20
"""Windows 10 formats up to 2 MiB; the signed encoding could say more."""

MIN_RECORD = 1024
MAX_RECORD = 4096
"""Windows writes records of 1 KiB, and of 4 KiB on disks with 4 KiB sectors."""


class Boot(NamedTuple):
    """The geometry of a volume. Sizes and offsets are in bytes from its start."""

    sector_size: int
    cluster_size: int
    clusters: int
    record_size: int
    mft_offset: int
    mirror_offset: int
    """Of the copy of the first four MFT records."""
    serial: int

    @property
    def size(self) -> int:
        """Bytes that the clusters of the volume cover."""
        return self.clusters * self.cluster_size


def decode_boot(sector: Buffer) -> Boot:
    """Decode a boot sector (its first 80 bytes).

    Raises NotRecognised where it is not one of NTFS, Corrupt where it is and makes no sense.
    """
    boot = BOOT_SECTOR.parse(sector)
    if boot.oem_id != OEM_ID:
        raise NotRecognised("not an NTFS boot sector: no NTFS OEM ID")
    if boot.bytes_per_sector not in SECTOR_SIZES:
        raise Corrupt(
            Damage.BYTES_PER_SECTOR, 11, expected=SECTOR_SIZES, actual=boot.bytes_per_sector
        )
    if boot.reserved_sectors or boot.fats or boot.root_entries or boot.sectors_per_fat:
        raise Corrupt(Damage.BOOT_SECTOR_HAS_FIELDS_OF_FAT_THAT_ARE_NOT_ZERO, 14)
    cluster_size = boot.bytes_per_sector * _sectors_per_cluster(boot.sectors_per_cluster)
    if not MIN_CLUSTER <= cluster_size <= MAX_CLUSTER:
        raise Corrupt(Damage.CLUSTER_SIZE, 13, expected="512 bytes to 2 MiB", actual=cluster_size)
    record_size = _coded_size(boot.record_size_code, cluster_size)
    if not MIN_RECORD <= record_size <= MAX_RECORD or record_size & (record_size - 1):
        raise Corrupt(Damage.MFT_RECORD_SIZE, 64, expected="1, 2 or 4 KiB", actual=record_size)
    clusters = boot.total_sectors * boot.bytes_per_sector // cluster_size
    for name in ("mft_lcn", "mirror_lcn"):
        if not 0 < boot[name] < clusters:
            where = BOOT_SECTOR.offset(name)
            raise Corrupt(name, where, expected=f"below {clusters:#x}", actual=boot[name])
    return Boot(
        boot.bytes_per_sector,
        cluster_size,
        clusters,
        record_size,
        boot.mft_lcn * cluster_size,
        boot.mirror_lcn * cluster_size,
        boot.serial,
    )


def _sectors_per_cluster(code: int) -> int:
    """Return sectors in a cluster: a power of two up to 128, or a negative exponent of two."""
    count = code if code <= 0x80 else 1 << min(0x100 - code, 31)
    if count == 0 or count & (count - 1):
        raise Corrupt(Damage.SECTORS_PER_CLUSTER, 13, expected="a power of two", actual=code)
    return count


def _coded_size(code: int, cluster_size: int) -> int:
    """Return a size given in clusters (positive) or as a power of two of bytes (negative)."""
    return code * cluster_size if code > 0 else 1 << min(-code, 31)
