"""The FSInfo sector of FAT32: how many clusters are free.

Source: the specification, section "FAT32 FSInfo Sector Structure and Backup Boot Sector".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.parsers.layout import Field, Layout

if TYPE_CHECKING:
    from vmount.parsers.reader import Buffer

INFO_SECTOR = Layout(
    "FSInfo sector",
    Field("lead_signature", "I"),
    Field("reserved1", "480x"),
    Field("signature", "I"),
    Field("free_clusters", "I"),
    Field("next_free", "I"),
    Field("reserved2", "12x"),
    Field("trail_signature", "I"),
)

_SIGNATURES = (0x41615252, 0x61417272, 0xAA550000)


def decode_free_clusters(sector: Buffer, clusters: int) -> int | None:
    """Return how many of `clusters` are free, None if the sector does not know.

    It is what the last driver left there: not to be relied on for more than a display.
    """
    raw = INFO_SECTOR.parse(sector)
    if (raw.lead_signature, raw.signature, raw.trail_signature) != _SIGNATURES:
        return None
    free: int = raw.free_clusters
    return free if free <= clusters else None
