"""Programs of the configuration file that serve a disk over NBD.

[transports.mine]
command = ["my-server", "--socket", "{socket}", "--vm", "{vm}", "--disk", "{disk}"]
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from vmount.configuration import read_config_if_any
from vmount.errors import UsageError
from vmount.transports.registry import TRANSPORTS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def read_programs(path: Path) -> Mapping[str, tuple[str, ...]]:
    """Return the commands by their names; none if there is no file. Raises UsageError."""
    tables = read_config_if_any(path).get("transports", {})
    return {
        name: _command(f"{path}: transports.{name}", name, said) for name, said in tables.items()
    }


def _command(place: str, name: str, said: Any) -> tuple[str, ...]:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{place}: invalid name; use a-z, 0-9, - and _")
    if name in TRANSPORTS:
        raise UsageError(f"{place}: this name is taken by a built-in transport")
    if not isinstance(said, dict) or set(said) != {"command"}:
        raise UsageError(f"{place}: must have the key command and no other key")
    words = said["command"]
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise UsageError(f"{place}: command: must be a list of strings")
    return tuple(words)
