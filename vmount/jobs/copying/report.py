"""The outcome of copying."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmount.volumes.unread import Unread


@dataclass
class NotKept:
    """A property that copies could not be given."""

    count: int
    """Files and directories concerned."""
    example: str
    """The path of the first."""


@dataclass
class CopyReport:
    """What has been copied so far."""

    files: int = 0
    """Everything but directories."""
    bytes: int = 0
    """Bytes written; holes do not count."""
    already_there: int = 0
    """Files that an earlier copy has brought."""
    verified: int = 0
    problems: list[str] = field(default_factory=list)
    """One line for each file that is not, or not wholly, there."""
    not_read: list[Unread] = field(default_factory=list)
    """The disks and volumes that could not be read."""
    lost: list[str] = field(default_factory=list)
    """One line for each attribute or stream, content of its own, that the target does not take."""
    not_kept: dict[tuple[str, str], NotKept] = field(default_factory=dict)
    """By what it is and why it was not kept."""

    def miss(self, what: str, reason: str, path: str) -> None:
        """Note that a copy has not got a property of its original."""
        known = self.not_kept.setdefault((what, reason), NotKept(0, path))
        known.count += 1

    def as_object(self) -> dict[str, Any]:
        """Return it as something that fits JSON."""
        return {
            "files": self.files,
            "bytes": self.bytes,
            "already_there": self.already_there,
            "verified": self.verified,
            "problems": self.problems,
            "not_read": [item.as_object() for item in self.not_read],
            "lost": self.lost,
            "not_kept": [
                {"what": what, "reason": reason, "count": kept.count, "example": kept.example}
                for (what, reason), kept in self.not_kept.items()
            ],
        }
