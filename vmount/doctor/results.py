"""What `vmount doctor` has looked at."""

from __future__ import annotations

import enum
from typing import NamedTuple


class State(enum.StrEnum):
    """How bad it is."""

    OK = "ok"
    OPTIONAL = "optional"
    """Something cannot be used, and there are other ways."""
    PROBLEM = "problem"
    """The machine, or something of it, cannot be read."""
    MISSING = "missing"
    """vmount cannot mount anything here."""


class CheckResult(NamedTuple):
    """One thing that was looked at."""

    name: str
    state: State
    detail: str
    """What was found; where it is not well, what to do about it."""
