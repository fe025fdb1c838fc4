"""Opening a volume: its boot region or the backup of it, its up-case table, what it says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, NotRecognised, ParseError
from vmount.parsers.exfat.boot import (
    BACKUP_SECTOR,
    BOOT_SIZE,
    MAX_SECTOR_SHIFT,
    MEDIA_FAILURE,
    MIN_SECTOR_SHIFT,
    REGION_SECTORS,
    VOLUME_DIRTY,
    Boot,
    check_region,
    decode_boot,
)
from vmount.parsers.exfat.entry import (
    BITMAP,
    BITMAP_ENTRY,
    LABEL,
    UPCASE,
    UPCASE_ENTRY,
    decode_label,
    find_entry,
)
from vmount.parsers.exfat.filesystem import ExfatFilesystem
from vmount.parsers.exfat.upcase import MAX_TABLE, Upcase, decode_upcase
from vmount.parsers.exfat.volume import Volume
from vmount.parsers.fat.clusters import read_all
from vmount.parsers.model import FilesystemInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.model import Run
    from vmount.parsers.reader import BlockSource, Buffer


async def open_exfat(reader: BlockSource, *, utc_offset: int = 0) -> ExfatFilesystem:
    """Open the exFAT volume that `reader` holds.

    `utc_offset` is what a time that does not tell its zone is ahead of UTC, in minutes.

    A boot region that is damaged is replaced by its backup in sectors 12 to 23, with a sentence in
    `info.warnings`. A volume that was formatted again can still have that backup: probe for other formats first.

    Raises NotRecognised if this is not exFAT, Corrupt if it is and cannot be opened, Unsupported for TexFAT
    and for versions other than 1.
    """
    warnings: list[str] = []
    boot = await _boot(reader, warnings)
    if boot.flags & VOLUME_DIRTY:
        warnings.append("the volume is dirty: the last changes may be missing")
    if boot.flags & MEDIA_FAILURE:
        warnings.append("the guest recorded errors of the medium")
    if reader.size < boot.size:
        warnings.append(f"the volume has {boot.size} bytes, but only {reader.size} of them exist")
    volume = Volume(reader, boot)
    root, runs = await _root(volume, warnings)
    upcase = await _upcase(volume, root, warnings)
    info = FilesystemInfo(
        "exfat",
        _label(root, warnings),
        f"{boot.serial >> 16:04X}-{boot.serial & 0xFFFF:04X}" if boot.serial else "",
        boot.size,
        0,
        boot.cluster_size,
        case_sensitive=False,
        warnings=tuple(warnings),
    )
    return ExfatFilesystem(
        volume,
        upcase,
        await _bitmap(volume, root),
        info,
        root_size=sum(run.length for run in runs),
        utc_offset=utc_offset,
    )


async def _boot(reader: BlockSource, warnings: list[str]) -> Boot:
    if reader.size < BOOT_SIZE:
        raise NotRecognised("too small for exFAT")
    try:
        return await _region(reader, 0)
    except ParseError as error:
        for shift in range(MIN_SECTOR_SHIFT, MAX_SECTOR_SHIFT + 1):
            where = BACKUP_SECTOR << shift
            try:
                boot = await _region(reader, where)
            except ParseError:
                continue
            if boot.sector_size == 1 << shift:
                warnings.append(f"the boot region is damaged ({error}): its backup is used")
                return boot
        raise


async def _region(reader: BlockSource, where: int) -> Boot:
    """Return what the boot region at `where` says, if its checksum is right."""
    boot = decode_boot(await reader.read(where, BOOT_SIZE))
    region = await reader.read(where, REGION_SECTORS * boot.sector_size)
    check_region(region, boot.sector_size)
    return boot


async def _root(volume: Volume, warnings: list[str]) -> tuple[Buffer, Sequence[Run]]:
    try:
        return await volume.read_directory(None)
    except Corrupt as error:
        warnings.append(f"the root directory cannot be read: {error}")
        return b"", ()


async def _upcase(volume: Volume, root: Buffer, warnings: list[str]) -> Upcase:
    try:
        entry = find_entry(root, UPCASE)
        if entry is None:
            raise Corrupt("no up-case table")
        raw = UPCASE_ENTRY.parse(entry)
        if raw.length > MAX_TABLE:
            expected = f"at most {MAX_TABLE:#x}"
            raise Corrupt("size of the up-case table", expected=expected, actual=raw.length)
        runs = await volume.runs(raw.first_cluster, raw.length)
        return decode_upcase(await read_all(volume.reader, runs), raw.checksum)
    except ParseError as error:
        warnings.append(f"names in another case are found only by the rules of Unicode: {error}")
        return Upcase(None)


def _label(root: Buffer, warnings: list[str]) -> str:
    entry = find_entry(root, LABEL)
    if entry is None:
        return ""
    try:
        return decode_label(entry)
    except Corrupt as error:
        warnings.append(f"the label is unknown: {error}")
        return ""


async def _bitmap(volume: Volume, root: Buffer) -> Sequence[Run]:
    """Return where the allocation bitmap is; nothing where it is damaged, for only `free_bytes` needs it."""
    entry = find_entry(root, BITMAP)
    if entry is None:
        return ()
    raw = BITMAP_ENTRY.parse(entry)
    try:
        return await volume.runs(
            raw.first_cluster, min(raw.length, (volume.boot.clusters + 7) // 8)
        )
    except Corrupt:
        return ()
