"""Temporary folders that are in the journal before they exist."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.state.undo_records import TemporaryFolder

if TYPE_CHECKING:
    from vmount.state.journal import Entry, Journal


def make_folder(prefix: str, journal: Journal | None) -> tuple[Path, Entry | None]:
    """Make a folder that only this user may enter; return it and its entry, to be ended when it is removed.

    Raises VmountError if it cannot be recorded, OSError if it cannot be made.
    """
    path = Path(tempfile.gettempdir()) / f"{prefix}{secrets.token_hex(8)}"
    entry = None if journal is None else journal.begin(TemporaryFolder(str(path)))
    try:
        path.mkdir(0o700)
    except OSError:
        if entry is not None:
            entry.end()
        raise
    return path, entry
