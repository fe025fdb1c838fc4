"""Say what a volume holds, by its magic numbers alone.

This labels what no parser here opens, so it decides nothing but words: a name, a label and a UUID as
`blkid` prints them. Where several match, members of volume managers come before file systems, because
what they hold shows through.

Strategy: a few windows of the volume are read, the probes are plain functions over them.
Source: the magic numbers' own specifications, on-disk headers of the Linux kernel's documentation.
"""

from __future__ import annotations

import itertools
import struct
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from vmount.parsers.reader import Span

if TYPE_CHECKING:
    from vmount.parsers.reader import Buffer, Reader

KIB = 1 << 10
MIB = 1 << 20

HEAD = 72 * KIB
"""Reaches behind the superblocks of btrfs and GFS2 at 64 KiB."""

TAIL = 128 * KIB
"""The RAID superblock 0.90 lies in the last but one 64 KiB at the earliest."""

ZFS_UBERBLOCKS = Span(128 * KIB, 128 * KIB)
VMFS_HEADERS = (Span(1 * MIB, 4 * KIB), Span(2 * MIB, 4 * KIB))


class Signature(NamedTuple):
    """What a volume holds."""

    name: str
    """As `blkid` prints TYPE; where it has no name: "ldm", "storage_spaces"."""
    label: str
    """Empty if there is none, or if it is not kept beside the magic number."""
    uuid: str
    """In the form that `blkid` gives it; empty as `label` is."""


class Windows:
    """The parts of a volume that were read."""

    def __init__(self, size: int) -> None:
        self.size = size
        """Bytes of the volume."""
        self._parts: list[tuple[int, bytes]] = []

    def add(self, offset: int, data: Buffer) -> None:
        """Add a part."""
        self._parts.append((offset, bytes(data)))

    def get(self, offset: int, length: int) -> bytes:
        """Return bytes of the volume; none where no one part has all of them."""
        for start, data in self._parts:
            if start <= offset and offset + length <= start + len(data):
                return data[offset - start : offset - start + length]
        return b""

    def has(self, offset: int, magic: bytes) -> bool:
        """Return whether these bytes are there."""
        return self.get(offset, len(magic)) == magic

    def text(self, offset: int, length: int, encoding: str = "utf-8") -> str:
        """Return text up to its NUL, without the spaces behind it."""
        decoded = self.get(offset, length).decode(encoding, "replace")
        return decoded.partition("\0")[0].rstrip()

    def unpack(self, code: str, offset: int) -> tuple[int, ...]:
        """Return numbers, by their `struct` code; zeros where the volume ends before."""
        length = struct.calcsize(code)
        return struct.unpack(code, self.get(offset, length) or bytes(length))

    def uuid(self, offset: int) -> str:
        """Return 16 bytes as a UUID; an empty string for none or zeros."""
        raw = self.get(offset, 16)
        return str(uuid.UUID(bytes=raw)) if any(raw) else ""


Probe: TypeAlias = Callable[[Windows], Signature | None]


async def identify(reader: Reader) -> Signature | None:
    """Return what a volume holds, None if nothing is recognised."""
    tail = max(HEAD, reader.size - TAIL)
    near = (Span(0, min(HEAD, reader.size)), Span(tail, max(0, reader.size - tail)))
    return await _probe(reader, near, _NEAR) or await _probe(
        reader, (ZFS_UBERBLOCKS, *VMFS_HEADERS), _FAR
    )


def identify_boot_sector(sector: Buffer) -> Signature | None:
    """Return the file system whose boot sector this is; None if it is not one's."""
    windows = Windows(len(sector))
    windows.add(0, sector)
    return _first(windows, _BOOT_SECTORS)


async def _probe(
    reader: Reader, spans: tuple[Span, ...], probes: tuple[Probe, ...]
) -> Signature | None:
    inside = [span for span in spans if span.length and sum(span) <= reader.size]
    reader.prefetch(inside)
    windows = Windows(reader.size)
    for span in inside:
        windows.add(span.offset, await reader.read(*span))
    return _first(windows, probes)


def _first(windows: Windows, probes: tuple[Probe, ...]) -> Signature | None:
    for probe in probes:
        found = probe(windows)
        if found is not None:
            return found
    return None


def _magic(
    name: str,
    *places: tuple[int, bytes],
    uuid_at: int | None = None,
    label_at: tuple[int, int] | None = None,
    label_encoding: str = "utf-8",
) -> Probe:
    """Make the probe of a format that has a constant at one of some places.

    `uuid_at`: the offset of 16 bytes; `label_at`: offset and length of a text.
    """

    def probe(volume: Windows) -> Signature | None:
        if not any(volume.has(offset, magic) for offset, magic in places):
            return None
        label = volume.text(*label_at, encoding=label_encoding) if label_at else ""
        return Signature(name, label, "" if uuid_at is None else volume.uuid(uuid_at))

    return probe


def _linux_raid(volume: Windows) -> Signature | None:
    """Superblocks 1.1, 1.2, 1.0 and 0.90 (linux: Documentation/admin-guide/md.rst, md_p.h)."""
    sectors = volume.size // 512
    for offset in (0, 4 * KIB, ((sectors - 16) & ~7) * 512):
        if volume.has(offset, struct.pack("<II", 0xA92B4EFC, 1)):
            label = volume.text(offset + 32, 32)
            return Signature("linux_raid_member", label, volume.uuid(offset + 16))
    offset = (volume.size // (64 * KIB) - 1) * 64 * KIB
    for order in "<>":
        if volume.has(offset, struct.pack(f"{order}II", 0xA92B4EFC, 0)):
            words = volume.unpack(f"{order}32I", offset)
            raw = struct.pack(">4I", words[5], *words[13:16])
            return Signature("linux_raid_member", "", str(uuid.UUID(bytes=raw)))
    return None


def _lvm2(volume: Windows) -> Signature | None:
    """The label in one of the first four sectors points to the physical volume's header."""
    for offset in range(0, 4 * 512, 512):
        if volume.has(offset, b"LABELONE") and volume.has(offset + 24, b"LVM2 001"):
            (header,) = volume.unpack("<I", offset + 20)
            raw = volume.text(offset + header, 32)
            return Signature("LVM2_member", "", _dashed(raw, 6, 4, 4, 4, 4, 4, 6))
    return None


def _luks(volume: Windows) -> Signature | None:
    if not volume.has(0, b"LUKS\xba\xbe"):
        return None
    label = volume.text(24, 48) if volume.has(6, b"\0\2") else ""
    return Signature("crypto_LUKS", label, volume.text(168, 40))


def _bitlocker(volume: Windows) -> Signature | None:
    on_removable = volume.has(3, b"MSWIN4.1") and volume.has(424, _BITLOCKER_GUID)
    if volume.has(3, b"-FVE-FS-") or on_removable:
        return Signature("BitLocker", "", "")
    return None


def _ntfs(volume: Windows) -> Signature | None:
    """The label is in a file, $Volume."""
    if not volume.has(3, b"NTFS    ") or not _sector_size(volume):
        return None
    (serial,) = volume.unpack("<Q", 72)
    return Signature("ntfs", "", f"{serial:016X}")


def _exfat(volume: Windows) -> Signature | None:
    """The label is in the root directory."""
    if not volume.has(3, b"EXFAT   "):
        return None
    (serial,) = volume.unpack("<I", 100)
    return Signature("exfat", "", _short_serial(serial))


def _vfat(volume: Windows) -> Signature | None:
    """FAT has no magic number: its parameter block has to make sense.

    The label is the one in the boot sector; most systems keep it there and in the root directory.
    """
    if not _sector_size(volume):
        return None
    cluster, reserved, fats, root_entries, small, media, fat16 = volume.unpack("<BHBHHBH", 13)
    large, fat32 = volume.unpack("<II", 32)
    sane = (
        cluster and not cluster & (cluster - 1),
        reserved and 1 <= fats <= 2,
        media == 0xF0 or media >= 0xF8,
        small or large,
        fat16 or (fat32 and not root_entries),
    )
    if not all(sane):
        return None
    at = 39 if fat16 else 67
    label = volume.text(at + 4, 11, "cp437") if volume.has(at - 1, b"\x29") else ""
    (serial,) = volume.unpack("<I", at)
    return Signature("vfat", "" if label == "NO NAME" else label, _short_serial(serial))


def _swap(volume: Windows) -> Signature | None:
    """The magic ends the first page, whatever a page is there."""
    for page in (4 * KIB, 8 * KIB, 16 * KIB, 32 * KIB, 64 * KIB):
        magic = volume.get(page - 10, 10)
        if magic in (b"SWAPSPACE2", b"SWAP-SPACE"):
            return Signature("swap", volume.text(1052, 16), volume.uuid(1036))
        if magic[:9] in (b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND"):
            return Signature("swsuspend", volume.text(1052, 16), volume.uuid(1036))
    return None


def _ext(volume: Windows) -> Signature | None:
    """ext2, 3 and 4 differ in nothing but their features (linux: filesystems/ext4/super.rst)."""
    if not volume.has(1080, b"\x53\xef"):
        return None
    compatible, incompatible, read_only = volume.unpack("<III", 1116)
    if incompatible & 0x8:
        name = "jbd"
    elif incompatible & ~0x16 or read_only & ~0x7:
        name = "ext4"
    else:
        name = "ext3" if compatible & 0x4 or incompatible & 0x4 else "ext2"
    return Signature(name, volume.text(1144, 16), volume.uuid(1128))


def _udf(volume: Windows) -> Signature | None:
    """The volume recognition sequence starts at 32 KiB; ISO 9660 may stand before NSR."""
    names = [volume.get(32 * KIB + 2 * KIB * index + 1, 5) for index in range(16)]
    return Signature("udf", "", "") if b"NSR02" in names or b"NSR03" in names else None


def _iso9660(volume: Windows) -> Signature | None:
    """The UUID is the time of the last change."""
    if not volume.has(32 * KIB + 1, b"CD001"):
        return None
    for offset in (830, 813):
        when = volume.text(32 * KIB + offset, 16)
        if when.strip("0"):
            break
    return Signature("iso9660", volume.text(32 * KIB + 40, 32), _dashed(when, 4, 2, 2, 2, 2, 2, 2))


def _ldm(volume: Windows) -> Signature | None:
    """The private header of a Windows dynamic disk: in sector 6 (MBR), or in the last one."""
    for offset in (6 * 512, volume.size - 512):
        if volume.has(offset, b"PRIVHEAD"):
            return Signature("ldm", volume.text(offset + 240, 32), volume.text(offset + 48, 64))
    return None


def _zfs(volume: Windows) -> Signature | None:
    """An uberblock in the ring of the first label; name and GUID are in a packed list."""
    for offset in range(ZFS_UBERBLOCKS.offset, sum(ZFS_UBERBLOCKS), KIB):
        if volume.get(offset, 8) in (_ZFS_MAGIC, _ZFS_MAGIC[::-1]):
            return Signature("zfs_member", "", "")
    return None


def _dashed(text: str, *lengths: int) -> str:
    """Cut a text into pieces of these lengths; an empty one if it is not that long."""
    ends = list(itertools.accumulate(lengths))
    if len(text) != ends[-1]:
        return ""
    pieces = [text[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    return "-".join(pieces)


def _sector_size(volume: Windows) -> bool:
    """Whether a parameter block has a sector size that exists."""
    return volume.unpack("<H", 11)[0] in (512, 1024, 2048, 4096)


def _short_serial(serial: int) -> str:
    return f"{serial >> 16:04X}-{serial & 0xFFFF:04X}"


_BITLOCKER_GUID = uuid.UUID("4967d63b-2e29-4ad8-8399-f6a339e3d001").bytes_le
_ZFS_MAGIC = (0x00BAB10C).to_bytes(8, "little")
_BCACHE_MAGIC = bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")

_BOOT_SECTORS: tuple[Probe, ...] = (
    _magic("ReFS", (0, b"\0\0\0ReFS\0")),
    _bitlocker,
    _ntfs,
    _exfat,
    _vfat,
)

_NEAR: tuple[Probe, ...] = (
    _linux_raid,
    _magic("bcache", (4120, _BCACHE_MAGIC), uuid_at=4136, label_at=(4168, 32)),
    _magic("ceph_bluestore", (0, b"bluestore block device")),
    _lvm2,
    _magic("DM_verity_hash", (0, b"verity\0\0"), uuid_at=16),
    _magic("DM_integrity", (0, b"integrt\0")),
    _luks,
    _magic("vdo", (0, b"dmvdo001")),
    _magic("stratis", (516, b"!Stra0tis\x86\xff\x02^Arh")),
    _magic("storage_spaces", (0, b"SPACEDB "), (4096, b"SPACEDB ")),
    _ldm,
    *_BOOT_SECTORS,
    _swap,
    _magic("xfs", (0, b"XFSB"), uuid_at=32, label_at=(108, 12)),
    _ext,
    _magic(
        "reiserfs",
        *[(at + 52, magic) for at in (8192, 65536) for magic in (b"ReIsErFs", b"ReIsEr2Fs")],
        (65588, b"ReIsEr3Fs"),
        uuid_at=65620,
        label_at=(65636, 16),
    ),
    _magic("jfs", (32768, b"JFS1"), uuid_at=32904, label_at=(32920, 16)),
    _udf,
    _iso9660,
    _magic("hfsplus", (1024, b"H+\0\4"), (1024, b"HX\0\5"), (1148, b"H+")),
    _magic("hfs", (1024, b"BD")),
    _magic("ufs", (9564, b"\x54\x19\x01\0"), (66908, b"\x19\x01\x54\x19")),
    _magic("oracleasm", (32, b"ORCLDISK")),
    _magic("squashfs", (0, b"hsqs")),
    _magic("btrfs", (65600, b"_BHRfS_M"), uuid_at=65568, label_at=(65835, 256)),
    _magic("nilfs2", (1030, b"\x34\x34"), uuid_at=1176, label_at=(1192, 80)),
    _magic(
        "f2fs",
        (1024, b"\x10\x20\xf5\xf2"),
        uuid_at=1132,
        label_at=(1148, 512),
        label_encoding="utf-16-le",
    ),
    _magic("gfs2", (65536, b"\x01\x16\x19\x70\0\0\0\1")),
    _magic("ocfs2", *[(at, b"OCFSV2") for at in (1024, 2048, 4096, 8192)]),
    _magic("apfs", (32, b"NXSB"), uuid_at=72),
    _magic("erofs", (1024, b"\xe2\xe1\xf5\xe0"), uuid_at=1072, label_at=(1088, 16)),
)

_FAR: tuple[Probe, ...] = (
    _zfs,
    _magic("VMFS_volume_member", (1 * MIB, b"\x0d\xd0\x01\xc0")),
    _magic("VMFS", (2 * MIB, b"\x5e\xf1\xab\x2f")),
)
