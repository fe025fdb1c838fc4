"""How a volume is to be shown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NtfsOptions:
    """How an NTFS volume is to be shown, where there is a choice."""

    show_system: bool = False
    """Show the volume's own files ($MFT ...) in the root directory."""
    ignore_case: bool = False
    """Let a lookup take a name that differs in case where the exact one is not there."""
    streams: bool = False
    """Show alternate streams as files of their own, `file:stream`."""


AS_USUAL = NtfsOptions()
