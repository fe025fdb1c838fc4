"""The $Volume file: label, version of the format, whether it was unmounted."""

from __future__ import annotations

from vmount.parsers.errors import Unsupported
from vmount.parsers.layout import Field, Layout

VOLUME_INFO = Layout(
    "$VOLUME_INFORMATION",
    Field("reserved", "Q"),
    Field("major", "B"),
    Field("minor", "B"),
    Field("flags", "H"),
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
