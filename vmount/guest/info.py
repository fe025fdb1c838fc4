"""Facts about a guest's operating system."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GuestInfo:
    """An operating system found on a volume. What is not known is empty."""

    family: str
    """ "windows" or "linux"."""
    name: str
    """As it calls itself: "Windows 10 Pro", "Debian GNU/Linux 12 (bookworm)"."""
    version: str
    """Windows: that of NT ("10.0"). Linux: the distribution's."""
    build: str
    """Windows: with its revision ("19045.3803")."""
    bits: int | None
    """32 or 64; None if it is not known."""
    edition: str
    vendor: str
    """Linux: the distribution's short name ("debian")."""
    system_folder: str
    r"""As the guest names it: "C:\Windows", "/"."""
    volume: str
    """The name of the volume that it is on."""
