"""Programs of the configuration file that serve a disk over NBD.

[transports.mine]
command = ["my-server", "--socket", "{socket}", "--vm", "{vm}", "--disk", "{disk}"]
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

from vmount.errors import UsageError, explain
from vmount.transports.registry import TRANSPORTS
from vmount.vsphere.profiles import read_config

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def read_programs(path: Path) -> Mapping[str, tuple[str, ...]]:
    """Return the commands by their names; none if there is no file. Raises UsageError."""
    try:
        tables = read_config(path).get("transports", {})
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UsageError(explain(error)) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None
    if not isinstance(tables, dict):
        raise UsageError(f"{path}: transports: a table of tables is meant")
    return {
        name: _command(f"{path}: transports.{name}", name, said) for name, said in tables.items()
    }


def _command(place: str, name: str, said: Any) -> tuple[str, ...]:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{place}: a name is made of a-z, 0-9, - and _")
    if name in TRANSPORTS:
        raise UsageError(f"{place}: is a transport of vmount's own")
    if not isinstance(said, dict) or set(said) != {"command"}:
        raise UsageError(f"{place}: it has a command, and nothing else")
    words = said["command"]
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise UsageError(f"{place}: command: a list of words is meant")
    return tuple(words)
