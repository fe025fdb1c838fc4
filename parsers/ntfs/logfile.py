"""The beginning of $LogFile: whether the volume was dismounted.

The log has two restart pages; the one with the larger LSN counts. Records behind them are not decoded here: what
they would change is missing until Windows, or chkdsk, has mounted the volume. Source: the documentation
of the Linux-NTFS project, "$LogFile"; "Windows Internals", NTFS recovery.
"""

from __future__ import annotations

from dataclasses import dataclass

from vmount.parsers.errors import Corrupt, ParseError
from vmount.parsers.layout import Field, Layout
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.ntfs.fixup import STRIDE, restore
from vmount.parsers.reader import check_bounds

RESTART_PAGE = Layout(
    "restart page",
    Field("magic", "4s", at=0x00, note="RSTR, or CHKD after chkdsk"),
    Field("array_offset", "H", at=0x04, note="usa_ofs"),
    Field("array_count", "H", at=0x06, note="usa_count"),
    Field("chkdsk_lsn", "Q", at=0x08, note="last LSN that chkdsk found"),
    Field("system_page_size", "I", at=0x10, note="bytes"),
    Field("log_page_size", "I", at=0x14, note="bytes"),
    Field("area_offset", "H", at=0x18, note="restart_area_offset: from the start of the page"),
    Field("minor", "h", at=0x1A),
    Field("major", "h", at=0x1C),
    size=30,
    source=(
        "reverse engineered: Linux-NTFS documentation (Russon, Fledel), $LogFile; "
        "ntfs-3g logfile.h RESTART_PAGE_HEADER"
    ),
)

RESTART_AREA = Layout(
    "restart area",
    Field("current_lsn", "Q", at=0x00),
    Field("clients", "H", at=0x08, note="log_clients"),
    Field("client_free_list", "H", at=0x0A, note="0xFFFF: empty"),
    Field("client_in_use_list", "H", at=0x0C, note="0xFFFF: empty: the log is closed"),
    Field("flags", "H", at=0x0E, note="2: the volume is cleanly unmounted"),
    size=16,
    source=(
        "reverse engineered: Linux-NTFS documentation (Russon, Fledel), $LogFile; "
        "ntfs-3g logfile.h RESTART_AREA"
    ),
)

RESTART = b"RSTR"
CHECKED = b"CHKD"
"""Of a page that chkdsk has written."""

NO_CLIENT = 0xFFFF
VOLUME_IS_CLEAN = 0x0002

DEFAULT_PAGE = 4096
LARGEST_PAGE = 64 << 10
"""Bytes: the largest page of memory of a processor that Windows ran on."""

_UNUSED = b"\xff" * 4


@dataclass(frozen=True, slots=True)
class RestartPage:
    """What a restart page says of the log."""

    lsn: int
    """Of the last record when the page was written."""
    version: tuple[int, int]
    """Of the log: (1, 1); (2, 0) while Windows 8 or later has the volume mounted, or as it left it for a fast start."""
    closed: bool
    """Whether nobody had the log open any more."""


def decode_restart_page(page: bytes) -> RestartPage:
    """Decode a restart page, whose size it has itself. Raises Corrupt."""
    check_bounds(0, DEFAULT_PAGE, len(page))
    head = RESTART_PAGE.parse(page)
    if head.magic not in (RESTART, CHECKED):
        raise Corrupt(Damage.SIGNATURE_OF_RESTART_PAGE, 0, expected=RESTART, actual=head.magic)
    size = head.system_page_size
    if not STRIDE <= size <= min(LARGEST_PAGE, len(page)) or size & (size - 1):
        raise Corrupt(Damage.SIZE_OF_RESTART_PAGE, 16, actual=size)
    restored = bytearray(page[:size])
    restore(restored, head.magic, 0)
    area = RESTART_AREA.parse(restored, head.area_offset)
    return RestartPage(
        area.current_lsn,
        (head.major, head.minor),
        area.client_in_use_list == NO_CLIENT or bool(area.flags & VOLUME_IS_CLEAN),
    )


def restart_pages_size(head: bytes) -> int:
    """Return how many bytes both restart pages have, given the first of the log: twice DEFAULT_PAGE or more."""
    size = RESTART_PAGE.parse(head).system_page_size
    return 2 * (size if DEFAULT_PAGE < size <= LARGEST_PAGE else DEFAULT_PAGE)


def latest_restart(pages: bytes) -> RestartPage | None:
    """Return the restart page that counts, given both; None if the log was never used.

    Raises Corrupt if it was and neither page can be decoded.
    """
    found: list[RestartPage] = []
    error: ParseError | None = None
    half = len(pages) // 2
    for page in (pages[:half], pages[half:]):
        if page[:4] == _UNUSED:
            continue
        try:
            found.append(decode_restart_page(page))
        except ParseError as problem:
            error = error or problem
    if found:
        return max(found, key=lambda page: page.lsn)
    if error is not None:
        raise error
    return None
