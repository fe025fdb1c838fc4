"""The $Volume file: label, version of the format, whether it was unmounted.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "$VOLUME_INFORMATION".
"""

from __future__ import annotations

from vmount.parsers.errors import Unsupported
from vmount.parsers.layout import Field, Layout

VOLUME_INFO = Layout(
    "$VOLUME_INFORMATION",
    Field("reserved", "Q", at=0x00),
    Field("major", "B", at=0x08, note="major_ver: of NTFS: 3"),
    Field("minor", "B", at=0x09, note="minor_ver"),
    Field("flags", "H", at=0x0A, note="1: VOLUME_IS_DIRTY"),
    size=12,
    source=(
        "reverse engineered: Linux-NTFS documentation (Russon, Fledel), $VOLUME_INFORMATION; "
        "ntfs-3g layout.h VOLUME_INFORMATION"
    ),
)

DIRTY = 0x0001

VERSIONS = {(1, 1), (1, 2), (3, 0), (3, 1)}
"""NT 3.5, NT 4, 2000, XP and all since."""


def decode_volume_information(value: bytes) -> tuple[tuple[int, int], int]:
    """Return the version and the flags. Raises Unsupported for a version not known here."""
    info = VOLUME_INFO.parse(value)
    version = (info.major, info.minor)
    if version not in VERSIONS:
        raise Unsupported(f"NTFS version {info.major}.{info.minor}")
    return version, info.flags
