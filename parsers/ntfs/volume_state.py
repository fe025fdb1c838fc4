"""Whether a volume was dismounted, or lies as a running or sleeping Windows left it.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "$Volume" and "$LogFile"; the
hibernation file's signatures as ntfs-3g knows them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, ParseError
from vmount.parsers.ntfs.attribute import DATA
from vmount.parsers.ntfs.directory import Directory
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.ntfs.logfile import DEFAULT_PAGE, latest_restart, restart_pages_size
from vmount.parsers.ntfs.record import INO_MASK, matches
from vmount.parsers.ntfs.stream import Stream, select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.ntfs.boot import Boot
    from vmount.parsers.ntfs.mft import Mft
    from vmount.parsers.reader import Reader

LOG_FILE = 2
ROOT = 5

HIBERNATION_FILE = "hiberfil.sys".encode("utf-16-le")
HIBERNATED = b"hibr"
"""In lower or upper case. A Windows that goes on from there changes it; one that was started overwrites it."""

_LOG_IN_USE = "its log is in use"
_LOG_OF_2_0 = "its log is in use, or Windows left it for a fast start"
_HIBERNATED = "Windows is hibernated, or was shut down for a fast start"


async def unclean_reasons(
    reader: Reader, boot: Boot, mft: Mft, upcase: Sequence[int] | None
) -> list[str]:
    """Return why the volume may lack its last changes, in a few words each; nothing if it is clean.

    What cannot be decoded counts as a reason.
    """
    reasons = []
    try:
        reasons.append(await _log(reader, boot, mft))
    except ParseError as error:
        reasons.append(f"its log is damaged: {error}")
    try:
        reasons.append(await _hibernation(reader, boot, mft, upcase))
    except ParseError as error:
        reasons.append(f"hiberfil.sys cannot be read: {error}")
    return [reason for reason in reasons if reason]


async def _log(reader: Reader, boot: Boot, mft: Mft) -> str:
    extents = select(await mft.attributes(await mft.record(LOG_FILE)), DATA)
    if not extents:
        raise Corrupt(Damage.LOGFILE_HAS_NO_DATA)
    log = Stream(extents, boot)
    head = await log.read(reader, 0, 2 * DEFAULT_PAGE)
    size = restart_pages_size(head)
    page = latest_restart(head if size == len(head) else await log.read(reader, 0, size))
    if page is None:
        return ""
    if page.version >= (2, 0):
        return _LOG_OF_2_0
    return "" if page.closed else _LOG_IN_USE


async def _hibernation(reader: Reader, boot: Boot, mft: Mft, upcase: Sequence[int] | None) -> str:
    if upcase is None:
        return ""
    root = Directory(reader, boot, await mft.attributes(await mft.record(ROOT)))
    for entry in await root.candidates(HIBERNATION_FILE, upcase):
        record = await mft.record(entry.reference & INO_MASK)
        if not matches(record, entry.reference):
            continue
        data = select(await mft.attributes(record), DATA)
        stream = Stream(data, boot) if data else None
        if stream is None or stream.size < len(HIBERNATED):
            continue
        if (await stream.read(reader, 0, len(HIBERNATED))).lower() == HIBERNATED:
            return _HIBERNATED
    return ""
