"""What a user says of how a machine is made ready to be read: `--snapshot`, `--quiesce`, `--lock` ..."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class LockMode(enum.StrEnum):
    """What `--lock` says."""

    AUTO = "auto"
    """Lock where that is possible."""
    REQUIRE = "require"
    """An error if it cannot be locked."""
    NO = "no"


class Quiesce(enum.StrEnum):
    """Whether the guest is asked to bring its disks into order first."""

    NO = "no"
    REQUIRE = "require"
    """An error if it does not."""
    TRY = "try"
    """Without, if it does not."""


@dataclass(frozen=True)
class AccessOptions:
    """How a machine is read."""

    snapshot: str | None = None
    """"current", "new", a moRef, a name or a path; None: new unless the machine is powered off."""
    quiesce: Quiesce = Quiesce.NO
    keep_snapshot: bool = False
    lock: LockMode = LockMode.AUTO
    lock_wait: float = 0.0
    """Seconds to wait for the release of another program's lock."""
