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
    Field("lead_signature", "I", at=0x00, note="RRaA"),
    Field("reserved1", "480x", at=0x04),
    Field("signature", "I", at=0x1E4, note="FSI_StrucSig: rrAa"),
    Field("free_clusters", "I", at=0x1E8, note="FSI_Free_Count; all bits set: not known"),
    Field("next_free", "I", at=0x1EC, note="FSI_Nxt_Free: a hint"),
    Field("reserved2", "12x", at=0x1F0),
    Field("trail_signature", "I", at=0x1FC),
    size=512,
    source="Microsoft FAT specification (fatgen103), FAT32 FSInfo Sector Structure",
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
