"""What a command was asked to do, as frozen values."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from pathlib import Path

from vmount.sources import OpenOptions


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
    allow_other: bool = False
    foreground: bool = False
    volumes: tuple[str, ...] | None = None
    """The volumes to be shown at first; None: all."""


def default_state_dir() -> Path:
    """Return the folder for records of what is mounted: on a file system that a reboot empties."""
    if os.getuid() == 0:
        return Path("/run/vmount")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "vmount" if runtime else Path(f"/tmp/vmount-{os.getuid()}")  # noqa: S108
