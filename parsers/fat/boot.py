"""The boot sector: the geometry of a volume and which of the three kinds of FAT it has.

Source: Microsoft Extensible Firmware Initiative FAT32 File System Specification 1.03 ("the specification"
in this package), sections "Boot Sector and BPB" and "FAT Type Determination".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from vmount.parsers.errors import Corrupt, NotRecognised
from vmount.parsers.fat.table import FAT12, FAT16, FAT32, Kind
from vmount.parsers.layout import Field, Layout

if TYPE_CHECKING:
    from vmount.parsers.reader import Buffer

_BPB = (
    Field("jump", "3s", at=0x00),
    Field("oem_name", "8s", at=0x03, note="BS_OEMName: not evidence of anything"),
    Field("bytes_per_sector", "H", at=0x0B),
    Field("sectors_per_cluster", "B", at=0x0D, note="BPB_SecPerClus"),
    Field("reserved_sectors", "H", at=0x0E, note="BPB_RsvdSecCnt: before the first FAT"),
    Field("fats", "B", at=0x10, note="BPB_NumFATs"),
    Field("root_entries", "H", at=0x11, note="BPB_RootEntCnt; 0 in FAT32"),
    Field("sectors_16", "H", at=0x13, note="BPB_TotSec16; 0: sectors_32 counts"),
    Field("media", "B", at=0x15),
    Field("sectors_per_fat_16", "H", at=0x16, note="BPB_FATSz16; 0 in FAT32"),
    Field("sectors_per_track", "H", at=0x18),
    Field("heads", "H", at=0x1A),
    Field("hidden_sectors", "I", at=0x1C, note="BPB_HiddSec: before the partition"),
    Field("sectors_32", "I", at=0x20, note="BPB_TotSec32"),
)


def _extended(start: int) -> tuple[Field, ...]:
    """Return the extended boot record, which is at another offset in FAT32."""
    return (
        Field("drive", "B", at=start, note="BS_DrvNum"),
        Field("state", "B", at=start + 0x01, note="BS_Reserved1: Windows' dirty flags"),
        Field(
            "extended_signature",
            "B",
            at=start + 0x02,
            note="BS_BootSig: 0x29: what follows is valid",
        ),
        Field("serial", "I", at=start + 0x03, note="BS_VolID"),
        Field(
            "label",
            "11s",
            at=start + 0x07,
            note="BS_VolLab; the root directory's is the one that counts",
        ),
        Field(
            "type_name",
            "8s",
            at=start + 0x12,
            note="BS_FilSysType: not evidence of anything",
        ),
    )


BOOT_SECTOR_16 = Layout(
    "FAT12/FAT16 boot sector",
    *_BPB,
    *_extended(0x24),
    Field("boot_code", "448s", at=0x3E),
    Field("signature", "2s", at=0x1FE, note="0x55 0xAA"),
    size=512,
    source="Microsoft FAT specification (fatgen103), Boot Sector and BPB",
)

BOOT_SECTOR_32 = Layout(
    "FAT32 boot sector",
    *_BPB,
    Field("sectors_per_fat_32", "I", at=0x24, note="BPB_FATSz32"),
    Field(
        "fat_flags",
        "H",
        at=0x28,
        note="BPB_ExtFlags: 0x80: one FAT only, its number in the low 4 bits",
    ),
    Field("version", "H", at=0x2A, note="BPB_FSVer: 0"),
    Field("root_cluster", "I", at=0x2C, note="BPB_RootClus"),
    Field("info_sector", "H", at=0x30, note="BPB_FSInfo"),
    Field("backup_sector", "H", at=0x32, note="BPB_BkBootSec"),
    Field("reserved", "12x", at=0x34),
    *_extended(0x40),
    Field("boot_code", "420s", at=0x5A),
    Field("signature", "2s", at=0x1FE, note="0x55 0xAA"),
    size=512,
    source="Microsoft FAT specification (fatgen103), Boot Sector and BPB, FAT32",
)

BOOT_SIZE = 512
"""Bytes that are decoded, whatever the size of a sector."""

SIGNATURE = b"\x55\xaa"
BACKUP_SECTOR = 6
"""Where the specification wants the backup of a FAT32 boot sector."""

SECTOR_SIZES = (512, 1024, 2048, 4096)
MAX_FATS = 4
"""There are two as a rule, one on some cards; mkfs.fat makes up to four."""

MAX_CLUSTER = 256 << 10
"""Bytes. The specification ends at 32 KiB; Windows formats up to 64 KiB, and 256 KiB on 4K sectors."""

MAX_CLUSTERS_12 = 4084
MAX_CLUSTERS_16 = 65524
MAX_CLUSTERS_32 = 0x0FFFFFF5
"""The greatest number of a cluster is below the mark of a bad one."""

ENTRY_SIZE = 32
"""Bytes of an entry of a directory."""

_EXTENDED_SIGNATURE = 0x29
_EXTENDED_SIGNATURE_OLD = 0x28
"""Followed by a serial number only."""

_STATE_DIRTY = 1
_MIRRORING_OFF = 0x80
_ACTIVE_FAT = 0x0F
_BAD_INFO_SECTORS = (0, 0xFFFF)


class Boot(NamedTuple):
    """The geometry of a volume. Sizes and offsets are in bytes from its start."""

    kind: Kind
    sector_size: int
    cluster_size: int
    clusters: int
    """Their numbers begin at 2."""
    fat_offset: int
    fat_size: int
    fats: int
    active_fat: int | None
    """The one that counts where they are not kept equal, else None."""
    media: int
    root_offset: int
    """Of the root directory of FAT12 and FAT16, which has no clusters."""
    root_size: int
    """Of the same; 0 with FAT32."""
    root_cluster: int
    """Of FAT32; else 0."""
    data_offset: int
    """Of the first cluster."""
    size: int
    """Bytes that the volume's sectors make."""
    info_offset: int | None
    """Of FAT32's FSInfo sector."""
    backup_sector: int
    """Of the boot sector; 0: none."""
    serial: int | None
    label: bytes
    """As it is in the boot sector, 11 bytes; the one in the root directory goes before it."""
    dirty: bool

    @property
    def data_size(self) -> int:
        """Bytes that all clusters make."""
        return self.clusters * self.cluster_size


def decode_boot(sector: Buffer) -> Boot:
    """Decode a boot sector (its first `BOOT_SIZE` bytes).

    Raises NotRecognised where there is no BIOS parameter block of FAT, as in an MBR or a boot sector
    of NTFS or exFAT; Corrupt where there is one and makes no sense.
    """
    raw = BOOT_SECTOR_16.parse(sector)
    _recognise(raw)
    has_32 = raw.sectors_per_fat_16 == 0
    if has_32:
        raw = BOOT_SECTOR_32.parse(sector)
        if raw.sectors_per_fat_32 == 0:
            raise NotRecognised("not a FAT boot sector: the FAT has no size")
    sector_size = raw.bytes_per_sector
    cluster_size = sector_size * raw.sectors_per_cluster
    if cluster_size > MAX_CLUSTER:
        raise Corrupt("cluster size", 13, expected=f"at most {MAX_CLUSTER:#x}", actual=cluster_size)
    sectors = raw.sectors_16 or raw.sectors_32
    sectors_per_fat = raw.sectors_per_fat_32 if has_32 else raw.sectors_per_fat_16
    root_offset = (raw.reserved_sectors + raw.fats * sectors_per_fat) * sector_size
    root_size = raw.root_entries * ENTRY_SIZE
    data_offset = -(-(root_offset + root_size) // sector_size) * sector_size
    size = sectors * sector_size
    clusters = (size - data_offset) // cluster_size
    if clusters < 1:
        raise Corrupt("volume too small for its FATs", 32, expected=data_offset, actual=size)
    kind = _kind(clusters, has_32=has_32)
    # What the FAT has no entry for cannot be in use.
    clusters = min(clusters, kind.entries(sectors_per_fat * sector_size) - 2)
    if clusters < 1:
        raise Corrupt("FAT without an entry for a cluster", 22, actual=sectors_per_fat)
    if has_32:
        _check_32(raw, clusters)
    elif root_size == 0:
        raise Corrupt("root directory without entries", 17)
    has_label = raw.extended_signature == _EXTENDED_SIGNATURE
    has_serial = has_label or raw.extended_signature == _EXTENDED_SIGNATURE_OLD
    return Boot(
        kind=kind,
        sector_size=sector_size,
        cluster_size=cluster_size,
        clusters=clusters,
        fat_offset=raw.reserved_sectors * sector_size,
        fat_size=sectors_per_fat * sector_size,
        fats=raw.fats,
        active_fat=raw.fat_flags & _ACTIVE_FAT
        if has_32 and raw.fat_flags & _MIRRORING_OFF
        else None,
        media=raw.media,
        root_offset=0 if has_32 else root_offset,
        root_size=0 if has_32 else root_size,
        root_cluster=raw.root_cluster if has_32 else 0,
        data_offset=data_offset,
        size=size,
        info_offset=raw.info_sector * sector_size
        if has_32 and raw.info_sector not in _BAD_INFO_SECTORS
        else None,
        backup_sector=raw.backup_sector if has_32 else 0,
        serial=raw.serial if has_serial else None,
        label=raw.label if has_label else b"",
        dirty=bool(raw.state & _STATE_DIRTY),
    )


def _recognise(raw: Any) -> None:
    """Raise NotRecognised unless every field of the BIOS parameter block has a value that FAT allows."""
    per_cluster = raw.sectors_per_cluster
    reasons = {
        "its signature": raw.signature != SIGNATURE,
        "its jump": raw.jump[0] not in (0xEB, 0xE9),
        "bytes per sector": raw.bytes_per_sector not in SECTOR_SIZES,
        "sectors per cluster": per_cluster == 0 or per_cluster & (per_cluster - 1) != 0,
        "reserved sectors": raw.reserved_sectors == 0,
        "number of FATs": not 0 < raw.fats <= MAX_FATS,
        "media": raw.media != 0xF0 and raw.media < 0xF8,
        "number of sectors": not (raw.sectors_16 or raw.sectors_32),
        "OEM name": raw.oem_name in (b"NTFS    ", b"EXFAT   "),
    }
    for field, wrong in reasons.items():
        if wrong:
            raise NotRecognised(f"not a FAT boot sector: {field} is invalid")


def _kind(clusters: int, *, has_32: bool) -> Kind:
    """Return the kind of FAT of a volume with this number of clusters.

    A boot sector with FAT32's fields has no size of a FAT for the other kinds, so it is FAT32 however few
    clusters there are; mkfs.fat -F 32 makes such volumes and every driver reads them.
    """
    if has_32:
        if clusters > MAX_CLUSTERS_32:
            raise Corrupt("number of clusters", 32, expected=MAX_CLUSTERS_32, actual=clusters)
        return FAT32
    if clusters > MAX_CLUSTERS_16:
        raise Corrupt("number of clusters of FAT16", 32, expected=MAX_CLUSTERS_16, actual=clusters)
    return FAT12 if clusters <= MAX_CLUSTERS_12 else FAT16


def _check_32(raw: Any, clusters: int) -> None:
    if raw.version != 0:
        raise Corrupt("version of FAT32", 42, expected=0, actual=raw.version)
    if not 2 <= raw.root_cluster < clusters + 2:
        expected = f"2 to {clusters + 1:#x}"
        raise Corrupt("root directory's cluster", 44, expected=expected, actual=raw.root_cluster)
    if raw.fat_flags & _MIRRORING_OFF and raw.fat_flags & _ACTIVE_FAT >= raw.fats:
        raise Corrupt("active FAT", 40, expected=f"below {raw.fats}", actual=raw.fat_flags)
