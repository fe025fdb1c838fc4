"""The outcome of a scan, for people and for programs, and for a later scan that goes on from it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from vmount.errors import UsageError, explain

if TYPE_CHECKING:
    from pathlib import Path

    from vmount.volumes.unread import Unread

FORMAT = 1


class Seen(NamedTuple):
    """What a file was like when it was scanned: it is scanned again if any of it differs."""

    number: int
    """Inode number on its volume."""
    size: int
    mtime: int
    ctime: int
    """Nanoseconds."""


@dataclass
class ScanReport:
    """What was scanned and what was found. Paths are those of the mount."""

    sources: tuple[str, ...]
    engine: str
    began: str
    """UTC, ISO 8601."""
    seconds: float = 0.0
    scanned: int = 0
    """Files whose content has been looked at, each content once."""
    bytes: int = 0
    same_content: int = 0
    """Files whose content was scanned under another name."""
    unchanged: int = 0
    """Files that are as they were at the scan that this one goes on from."""
    found: list[tuple[str, str]] = field(default_factory=list)
    """Path and signature."""
    not_scanned: list[Unread] = field(default_factory=list)
    """Disks, volumes, directories and files that were not scanned, or not to their end."""
    excluded: int = 0
    """Files that were left out at the user's wish."""
    clean: dict[str, Seen] = field(default_factory=dict)
    """What was scanned and found clean, by path."""

    def summary(self) -> dict[str, Any]:
        """Return all but the list of what is clean; fits JSON."""
        return {
            "format": FORMAT,
            "sources": list(self.sources),
            "engine": self.engine,
            "began": self.began,
            "seconds": round(self.seconds, 3),
            "scanned": self.scanned,
            "bytes": self.bytes,
            "same_content": self.same_content,
            "unchanged": self.unchanged,
            "found": [{"path": path, "signature": name} for path, name in self.found],
            "not_scanned": [item.as_object() for item in self.not_scanned],
            "excluded": self.excluded,
        }

    def write(self, path: Path) -> None:
        """Write all of it, for a later scan. Raises OSError."""
        values = self.summary() | {"clean": {name: list(seen) for name, seen in self.clean.items()}}
        scratch = path.with_name(path.name + ".new")
        # Names that are not UTF-8 are escaped, so ASCII it is.
        scratch.write_text(json.dumps(values, ensure_ascii=True), "ascii")
        scratch.replace(path)


def read_clean(path: Path) -> tuple[str, dict[str, Seen]]:
    """Return the engine's version and the clean files of an earlier report. Raises UsageError."""
    try:
        values = json.loads(path.read_text("ascii"))
        if values["format"] != FORMAT:
            raise UsageError(f"{path}: written by another version of vmount")
        clean = {str(name): Seen(*map(int, seen)) for name, seen in values["clean"].items()}
        return str(values["engine"]), clean
    except OSError as error:
        raise UsageError(explain(error)) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not a report of vmount scan --report") from error
