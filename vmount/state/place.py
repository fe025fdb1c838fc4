"""Where the folder of the journals is."""

from __future__ import annotations

import os
from pathlib import Path


def default_state_dir() -> Path:
    """Return the folder for records of what must be undone: a snapshot outlives a reboot, so do they.

    Where the user has no home that can be written to, they last as long as there is nothing better.
    """
    if os.getuid() == 0:
        return Path("/var/lib/vmount")
    home = os.environ.get("HOME", "")
    wanted = os.environ.get("XDG_STATE_HOME") or (f"{home}/.local/state" if home else "")
    if wanted and _can_be_made(Path(wanted) / "vmount"):
        return Path(wanted) / "vmount"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "vmount" if runtime else Path(f"/tmp/vmount-{os.getuid()}")  # noqa: S108


def _can_be_made(path: Path) -> bool:
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    return path.is_absolute() and os.access(existing, os.W_OK | os.X_OK)
