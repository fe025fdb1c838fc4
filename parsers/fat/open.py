"""Opening a volume: its boot sector or the backup of it, the FAT to use, what it says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, NotRecognised, ParseError
from vmount.parsers.fat.boot import BACKUP_SECTOR, BOOT_SIZE, SECTOR_SIZES, Boot, decode_boot
from vmount.parsers.fat.directory import find_label
from vmount.parsers.fat.filesystem import FatFilesystem
from vmount.parsers.fat.info_sector import INFO_SECTOR, decode_free_clusters
from vmount.parsers.fat.names import DEFAULT_CODE_PAGE, KANJI_E5
from vmount.parsers.fat.table import FAT12, FAT32, Table
from vmount.parsers.fat.volume import Volume
from vmount.parsers.model import FilesystemInfo

if TYPE_CHECKING:
    from vmount.parsers.reader import BlockSource

NO_LABEL = b"NO NAME    "


async def open_fat(
    reader: BlockSource, *, code_page: str = DEFAULT_CODE_PAGE, utc_offset: int = 0
) -> FatFilesystem:
    """Open the FAT volume that `reader` holds.

    `code_page` is a Python codec for short names: that of the guest's OEM code page, "cp850" for much of
    Europe, "cp932" for Japan. FAT keeps local time and does not say whose: `utc_offset` is what it
    is ahead of UTC, in minutes; by default the guest's clock is taken to show UTC.

    A FAT32 boot sector that is damaged is replaced by its backup in sector 6, and a first FAT that does not
    begin as a FAT by the next one that does, with a sentence in `info.warnings`. A volume that was
    formatted again can still have that backup: probe for other formats first.

    Raises NotRecognised if this is not FAT, Corrupt if it is and cannot be opened.
    """
    warnings: list[str] = []
    boot = await _boot(reader, warnings)
    table = await _table(reader, boot, warnings)
    if boot.dirty or await _is_dirty(boot, table):
        warnings.append("the volume is dirty: the last changes may be missing")
    if reader.size < boot.size:
        warnings.append(f"the volume has {boot.size} bytes, but only {reader.size} of them exist")
    volume = Volume(reader, boot, table)
    info = FilesystemInfo(
        "vfat",
        await _label(volume, code_page, warnings),
        f"{boot.serial >> 16:04X}-{boot.serial & 0xFFFF:04X}" if boot.serial else "",
        boot.size,
        await _free(reader, boot),
        boot.cluster_size,
        case_sensitive=False,
        warnings=tuple(warnings),
    )
    return FatFilesystem(volume, info, code_page=code_page, utc_offset=utc_offset)


async def _boot(reader: BlockSource, warnings: list[str]) -> Boot:
    if reader.size < BOOT_SIZE:
        raise NotRecognised("too small for FAT")
    try:
        return decode_boot(await reader.read(0, BOOT_SIZE))
    except ParseError as error:
        backup = await _backup(reader)
        if backup is None:
            raise
        warnings.append(f"the boot sector is damaged ({error}): its backup is used")
        return backup


async def _backup(reader: BlockSource) -> Boot | None:
    """Return the boot sector in sector 6 if it says that it is there, and a FAT is where it says."""
    for sector_size in SECTOR_SIZES:
        where = BACKUP_SECTOR * sector_size
        if where + BOOT_SIZE > reader.size:
            break
        try:
            boot = decode_boot(await reader.read(where, BOOT_SIZE))
            if boot.sector_size != sector_size or boot.backup_sector != BACKUP_SECTOR:
                continue
            if await _first_good(reader, boot) is not None:
                return boot
        except ParseError:
            continue
    return None


async def _table(reader: BlockSource, boot: Boot, warnings: list[str]) -> Table:
    if boot.active_fat is not None:
        return _nth_table(reader, boot, boot.active_fat)
    good = await _first_good(reader, boot)
    if good is None:
        warnings.append("no FAT begins with the volume's media type: the first one is used")
    elif good:
        warnings.append(f"the first FAT is damaged: number {good + 1} is used")
    return _nth_table(reader, boot, good or 0)


async def _first_good(reader: BlockSource, boot: Boot) -> int | None:
    """Return which FAT is the first that has the media type in its first entry and all ones above it."""
    for number in range(boot.fats):
        table = _nth_table(reader, boot, number)
        if await table.entry(0) == boot.kind.mask & ~0xFF | boot.media:
            return number
    return None


def _nth_table(reader: BlockSource, boot: Boot, number: int) -> Table:
    return Table(reader, boot.kind, boot.fat_offset + number * boot.fat_size, boot.clusters)


async def _is_dirty(boot: Boot, table: Table) -> bool:
    """Tell whether the bit that means "shut down cleanly" is missing in the second entry of the FAT."""
    if boot.kind is FAT12:
        return False
    second = await table.entry(1)
    return second != 0 and not second & (boot.kind.mask + 1) >> 1


async def _label(volume: Volume, code_page: str, warnings: list[str]) -> str:
    """Return the label in the root directory, or else in the boot sector."""
    try:
        data, _ = await volume.read_directory(None)
    except Corrupt as error:
        warnings.append(f"the root directory cannot be read: {error}")
        raw = None
    else:
        raw = find_label(data)
    raw = raw or volume.boot.label
    if raw == NO_LABEL:
        return ""
    if raw[:1] == bytes([KANJI_E5]):
        raw = b"\xe5" + raw[1:]
    return raw.rstrip(b" \0").decode(code_page, "replace")


async def _free(reader: BlockSource, boot: Boot) -> int:
    if boot.kind is not FAT32 or boot.info_offset is None:
        return 0
    if boot.info_offset + INFO_SECTOR.size > boot.fat_offset:
        return 0
    sector = await reader.read(boot.info_offset, INFO_SECTOR.size)
    return (decode_free_clusters(sector, boot.clusters) or 0) * boot.cluster_size
