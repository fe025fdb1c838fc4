"""How a volume is to be shown.

Source: none, these choices are vmount's.
"""

from __future__ import annotations

from dataclasses import dataclass

from vmount.parsers.ntfs.user_map import UserMap


@dataclass(frozen=True)
class NtfsOptions:
    """How an NTFS volume is to be shown, where there is a choice."""

    show_system: bool = False
    """Show the volume's own files ($MFT ...) in the root directory."""
    ignore_case: bool = False
    """Let a lookup take a name that differs in case where the exact one is not there."""
    streams: bool = False
    """Show alternate streams as files of their own, `file:stream`."""
    users: UserMap | None = None
    """Give files the owner and mode of their security descriptors, with these numbers; None: all belong
    to 0 and may be read by all."""


AS_USUAL = NtfsOptions()
