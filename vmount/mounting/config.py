"""The options of a mount as frozen values."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from vmount.options import OpenOptions
from vmount.sources.web import without_query
from vmount.tree.tree import RAW_MODE


class OwnerMode(enum.StrEnum):
    """To whom the files of a mount belong."""

    ME = "me"
    GUEST = "guest"


@dataclass(frozen=True)
class MountConfig:
    """A mount."""

    sources: tuple[str, ...]
    mountpoint: Path
    """Absolute."""
    options: OpenOptions
    owner: OwnerMode = OwnerMode.ME
    uid: int | None = None
    gid: int | None = None
    """The user and group that all files belong to; None: as `owner` says."""
    umask: int | None = None
    """All files have the permissions 0777 without these bits; None: their own."""
    allow_other: bool = False
    noexec: bool = False
    raw_mode: int = RAW_MODE
    """Of block files."""
    foreground: bool = False
    confined: bool = True
    """Whether the process gives up what it does not need; it must be one that serves and nothing else."""
    volumes: tuple[str, ...] | None = None
    """The volumes to be shown at first; None: all."""

    @property
    def shown_sources(self) -> tuple[str, ...]:
        """The sources as all users may see them."""
        return tuple(map(without_query, self.sources))
