"""The configuration file, ~/.config/vmount/config.toml: what all its readers share.

default = "lab"                # the profile that is used where nothing else names a server
[profiles.lab]                 # vCenters and hosts: vsphere/profiles.py
[transports.mine]              # programs that serve a disk: transports/configuration.py
[defaults]                     # of options of any command, by their names: commands/defaults.py
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmount.errors import UsageError, explain

if TYPE_CHECKING:
    from collections.abc import Mapping

TABLES = {"profiles": dict, "transports": dict, "defaults": dict}
KEYS = {"default": str, **TABLES}
"""What may stand at the top, and as what."""
NAMES = {str: "a string", dict: "a table"}


def config_path(environment: Mapping[str, str]) -> Path:
    """Return where the configuration file is, if there is one."""
    base = environment.get("XDG_CONFIG_HOME") or environment.get("HOME", "/") + "/.config"
    return Path(base) / "vmount" / "config.toml"


def read_config(path: Path) -> dict[str, Any]:
    """Return what the file says. Raises UsageError for a key that is unknown or of the wrong type.

    Raises OSError if it cannot be read; there is none in most places.
    """
    import tomllib  # only for those who have the file

    try:
        config = tomllib.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None
    for key, value in config.items():
        if key not in KEYS:
            raise UsageError(
                f"{path}: unknown key {key!r}", remedy=f"known keys: {', '.join(KEYS)}"
            )
        if not isinstance(value, KEYS[key]):
            raise UsageError(f"{path}: {key}: must be {NAMES[KEYS[key]]}")
    return config


def read_config_if_any(path: Path) -> dict[str, Any]:
    """Return what the file says, nothing if there is none or it is another user's, as with sudo -u.

    Raises UsageError if it cannot be read.
    """
    try:
        return read_config(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except OSError as error:
        raise UsageError(explain(error)) from None
