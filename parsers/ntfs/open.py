"""Opening a volume: its boot sector, its MFT, what it says of itself.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "Files on an NTFS volume".
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, NotRecognised, ParseError, Unsupported
from vmount.parsers.model import FilesystemInfo
from vmount.parsers.notes import Notes
from vmount.parsers.ntfs.attribute import (
    DATA,
    I30,
    INDEX_ALLOCATION,
    VOLUME_INFORMATION,
    VOLUME_NAME,
)
from vmount.parsers.ntfs.boot import BOOT_SECTOR, SECTOR_SIZES, decode_boot
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.ntfs.filesystem import ROOT, NtfsFilesystem
from vmount.parsers.ntfs.logfile import DEFAULT_PAGE
from vmount.parsers.ntfs.mft import open_mft
from vmount.parsers.ntfs.names import UPCASE_SIZE
from vmount.parsers.ntfs.options import AS_USUAL, NtfsOptions
from vmount.parsers.ntfs.stream import Stream, select
from vmount.parsers.ntfs.stream_names import StreamsFilesystem
from vmount.parsers.ntfs.volume import DIRTY, decode_volume_information
from vmount.parsers.ntfs.volume_state import LOG_FILE, unclean_reasons

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.ntfs.boot import Boot
    from vmount.parsers.ntfs.mft import Mft
    from vmount.parsers.reader import BlockSource

VOLUME = 3
UPCASE = 10
SYSTEM_RECORDS = 16

_READ_NEXT = (
    (UPCASE, DATA, b"", 2 * UPCASE_SIZE),
    (LOG_FILE, DATA, b"", 2 * DEFAULT_PAGE),
    (ROOT, INDEX_ALLOCATION, I30, 64 << 10),
)
"""File, type and name of the attribute, bytes."""


async def open_ntfs(reader: BlockSource, options: NtfsOptions = AS_USUAL) -> NtfsFilesystem:
    """Open the NTFS volume that `reader` holds.

    A boot sector that is damaged is replaced by its backup in the last sector, and the first MFT record by
    its mirror, with a sentence in `info.warnings`. An overwritten volume can still have that backup:
    probe for other formats first. Another sentence says if the volume was not dismounted: $LogFile is not
    replayed.

    Raises NotRecognised if this is not NTFS, Corrupt if it is and cannot be opened, Unsupported for a
    version that is not known here.
    """
    warnings: list[str] = []
    boot, mft = await _boot_and_mft(reader, warnings)
    notes = mft.notes = Notes(f"NTFS volume {boot.serial:016X}")
    # One read for all of the volume's own files.
    await mft.records(range(min(SYSTEM_RECORDS, mft.count)))
    await _ask_ahead(reader, boot, mft)
    label, version, flags = await _volume(mft, warnings)
    upcase = await _upcase(reader, boot, mft, warnings)
    unclean = ["its dirty flag is set"] if flags & DIRTY else []
    unclean += await unclean_reasons(reader, boot, mft, upcase)
    if unclean:
        warnings.append(
            f"the volume is dirty ({'; '.join(unclean)}): the last changes may be missing"
        )
    if reader.size < boot.size:
        warnings.append(f"the volume has {boot.size} bytes, but only {reader.size} of them exist")
    info = FilesystemInfo(
        "ntfs",
        label,
        f"{boot.serial:016X}",
        boot.size,
        0,
        boot.cluster_size,
        case_sensitive=not options.ignore_case,
        warnings=tuple(warnings),
    )
    kind = StreamsFilesystem if options.streams else NtfsFilesystem
    return kind(reader, boot, mft, upcase, info, version, options, notes)


async def _boot_and_mft(reader: BlockSource, warnings: list[str]) -> tuple[Boot, Mft]:
    if reader.size < BOOT_SECTOR.size:
        raise NotRecognised("too small for NTFS")
    try:
        boot = decode_boot(await reader.read(0, BOOT_SECTOR.size))
    except ParseError as error:
        backup = await _backup(reader)
        if backup is None:
            raise
        warnings.append(f"the boot sector is damaged ({error}): its backup is used")
        return backup
    try:
        return boot, await open_mft(reader, boot, boot.mft_offset)
    except ParseError as error:
        try:
            mft = await open_mft(reader, boot, boot.mirror_offset)
        except ParseError:
            raise error from None
        warnings.append(f"the first MFT record is damaged ({error}): its mirror is used")
        return boot, mft


async def _backup(reader: BlockSource) -> tuple[Boot, Mft] | None:
    """Return what the boot sector in the last sector leads to.

    It counts only if it is where it says and both copies of the first MFT record are good: a partition that
    was formatted anew may have kept its last sector.
    """
    for sector in SECTOR_SIZES:
        where = reader.size - sector
        if where <= 0:
            continue
        try:
            boot = decode_boot(await reader.read(where, BOOT_SECTOR.size))
            if boot.sector_size != sector or not 0 <= where - boot.size < boot.cluster_size:
                continue
            await open_mft(reader, boot, boot.mirror_offset)
            return boot, await open_mft(reader, boot, boot.mft_offset)
        except ParseError:
            continue
    return None


async def _ask_ahead(reader: BlockSource, boot: Boot, mft: Mft) -> None:
    """Ask at once for what is read next one after the other: nothing of it leads to the rest."""
    spans = []
    for ino, kind, name, most in _READ_NEXT:
        try:
            extents = select(await mft.attributes(await mft.record(ino)), kind, name)
            if extents and extents[0].nonresident:
                stream = Stream(extents, boot)
                spans += stream.map.spans(0, min(most, stream.valid))
        except ParseError:
            # Who reads it will say what is wrong.
            continue
    reader.prefetch([span for span in spans if span.offset + span.length <= reader.size])


async def _volume(mft: Mft, warnings: list[str]) -> tuple[str, tuple[int, int], int]:
    """Return the label, the version of the format and the volume's flags."""
    try:
        attributes = await mft.attributes(await mft.record(VOLUME))
        names = select(attributes, VOLUME_NAME)
        label = names[0].value.decode("utf-16-le", "replace") if names else ""
        infos = select(attributes, VOLUME_INFORMATION)
        if not infos:
            raise Corrupt(Damage.VOLUME_HAS_NO_VERSION)
        version, flags = decode_volume_information(infos[0].value)
    except Unsupported:
        raise
    except ParseError as error:
        warnings.append(f"label and version of the volume are unknown: {error}")
        return "", (0, 0), 0
    return label, version, flags


async def _upcase(
    reader: BlockSource, boot: Boot, mft: Mft, warnings: list[str]
) -> Sequence[int] | None:
    """Return the table that orders names; without it a lookup has to read the whole directory."""
    try:
        data = select(await mft.attributes(await mft.record(UPCASE)), DATA)
        if not data:
            raise Corrupt(Damage.UPCASE_HAS_NO_DATA)
        table = await Stream(data, boot).read_all(reader, 2 * UPCASE_SIZE)
        if len(table) != 2 * UPCASE_SIZE:
            raise Corrupt(Damage.SIZE_OF_UPCASE, expected=2 * UPCASE_SIZE, actual=len(table))
    except ParseError as error:
        warnings.append(f"names are found only in their exact case, and slowly: {error}")
        return None
    return struct.unpack(f"<{UPCASE_SIZE}H", table)
