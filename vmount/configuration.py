"""The configuration file, ~/.config/vmount/config.toml: what all its readers share.

default = "lab"                # the profile that is used where nothing else names a server
[profiles.lab]                 # vCenters and hosts: vsphere/profiles.py
[transports.mine]              # programs that serve a disk: transports/configuration.py
[defaults]                     # of options of any command, by their names: commands/defaults.py
"""

from __future__ import annotations

import os
import stat
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

    It names programs to start, so a file that another user may have written is a UsageError too, and
    so is a password that others can read. Raises OSError if it cannot be read; there is none in most places.
    """
    import tomllib  # only for those who have the file

    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid not in _owners() or status.st_mode & stat.S_IWOTH:
                raise UsageError(
                    f"{path}: another user owns it, or every user can write to it",
                    remedy=f"run: chown {os.geteuid()} {path}; chmod 600 {path}",
                )
            config = tomllib.loads(file.read().decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None
    if status.st_mode & (stat.S_IRGRP | stat.S_IROTH) and _holds_password(config):
        raise UsageError(
            f"{path}: it contains a password, and other users can read it",
            remedy="change the password, and use password-command, password-file or keyring = true",
        )
    for key, value in config.items():
        if key not in KEYS:
            raise UsageError(
                f"{path}: unknown key {key!r}", remedy=f"known keys: {', '.join(KEYS)}"
            )
        if not isinstance(value, KEYS[key]):
            raise UsageError(f"{path}: {key}: must be {NAMES[KEYS[key]]}")
    return config


def _owners() -> set[int]:
    """Return whose file it may be: who runs this, root, and who has become root by sudo(8)."""
    sudo = os.environ.get("SUDO_UID", "") if os.geteuid() == 0 else ""
    return {0, os.geteuid(), *([int(sudo)] if sudo.isdecimal() else [])}


def _holds_password(config: dict[str, Any]) -> bool:
    profiles = config.get("profiles", {})
    tables = profiles.values() if isinstance(profiles, dict) else ()
    return any("password" in table for table in (config, *tables) if isinstance(table, dict))


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
