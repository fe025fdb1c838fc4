"""How files are copied out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vmount.jobs.copying.selection import Selection


@dataclass(frozen=True)
class Owner:
    """To whom copies belong."""

    guest: bool = False
    """To the guest's own users and groups, with all permissions and attributes, as far as this process may
    give them. Else to whoever copies, who is not given set-user-ID bits, capabilities and the like."""
    uids: Mapping[int, int] = field(default_factory=dict)
    """The guest's numbers and what stands for them here; others stay as they are."""
    gids: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CopyOptions:
    """How files are copied out."""

    resume: bool = False
    """Continue an interrupted copy: leave out complete files, and keep the finished part of incomplete ones."""
    verify: bool = False
    """Read each copy again and compare it with what was read from the disk."""
    owner: Owner = field(default_factory=Owner)
    selection: Selection = field(default_factory=Selection)
    """Which files below the paths are copied."""
