"""The configuration file: named profiles of vCenters and hosts, in TOML.

default = "lab"                                  # used where nothing else names a server

[profiles.lab]
host = "vcenter.lab.example"
user = "backup@vsphere.local"
password-command = ["pass", "show", "vcenter"]   # or password-file, or keyring = true
thumbprint = "0A:1B:..."                         # or ca-file
"""

from __future__ import annotations

import logging
import os
import stat
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmount.errors import UsageError, explain
from vmount.vsphere.address import join_host_port, parse_address
from vmount.vsphere.layer import Layer, with_address
from vmount.vsphere.passwords import Password, from_command, from_file
from vmount.vsphere.thumbprint import Thumbprint

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

KEYS: dict[str, tuple[type, ...]] = {
    "host": (str,),
    "port": (int,),
    "user": (str,),
    "password-command": (str, list),
    "password-file": (str,),
    "keyring": (bool, str),
    "thumbprint": (str,),
    "ca-file": (str,),
    "insecure": (bool,),
    "connect-timeout": (int, float),
    "timeout": (int, float),
}
"""What a profile may say, and as what."""


def config_path(environment: Mapping[str, str]) -> Path:
    """Return where the configuration file is, if there is one."""
    base = environment.get("XDG_CONFIG_HOME") or environment.get("HOME", "/") + "/.config"
    return Path(base) / "vmount" / "config.toml"


def read_config(path: Path) -> dict[str, Any]:
    """Return the configuration. It names programs to be started, so nobody else may have written it.

    Raises OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, and UsageError for a file that belongs to
    another user or that every user may write to.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & stat.S_IWOTH:
            raise UsageError(
                f"{path}: belongs to another user, or every user may write to it",
                remedy=f"run: chown {os.geteuid()} {path}; chmod 600 {path}",
            )
        text = file.read().decode("utf-8")
    if status.st_mode & stat.S_IWGRP:
        log.warning("%s: its group may write to it, and it names programs; chmod 600 it", path)
    config = tomllib.loads(text)
    if status.st_mode & (stat.S_IRGRP | stat.S_IROTH) and _holds_password(config):
        raise UsageError(
            f"{path}: a password does not belong there, and other users can read it",
            remedy="change it, and use password-command, password-file or keyring = true",
        )
    return config


def _holds_password(config: dict[str, Any]) -> bool:
    profiles = config.get("profiles", {})
    tables = profiles.values() if isinstance(profiles, dict) else ()
    return any("password" in table for table in (config, *tables) if isinstance(table, dict))


def from_profile(path: Path, name: str | None) -> tuple[str, Layer] | None:
    """Return a profile's name and what it says; without a name, the default's, or None for no default.

    Raises UsageError for a profile that is not there, and for whatever is wrong with it.
    """
    try:
        config = read_config(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        if name is None:
            return None
        raise UsageError(f"no profile {name!r}: {explain(error)}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f"{path}: {explain(error) if isinstance(error, OSError) else error}"
        ) from None
    profiles = config.get("profiles", {})
    wanted = config.get("default") if name is None else name
    if wanted is None:
        return None
    if not isinstance(profiles, dict) or not isinstance(profiles.get(wanted), dict):
        has = ", ".join(map(repr, profiles)) if isinstance(profiles, dict) else ""
        raise UsageError(f"{path}: no profile {wanted!r}; it has {has or 'none'}")
    return wanted, _layer(profiles[wanted], f"profile {wanted} in {path}")


def _layer(values: dict[str, Any], origin: str) -> Layer:
    _check(values, origin)
    folder_of = Path.expanduser
    layer = Layer(
        origin=origin,
        port=values.get("port"),
        user=values.get("user"),
        password=_password(values, origin),
        thumbprint=Thumbprint.parse(values["thumbprint"]) if "thumbprint" in values else None,
        ca_file=folder_of(Path(values["ca-file"])) if "ca-file" in values else None,
        insecure=values.get("insecure"),
        connect_timeout=values.get("connect-timeout"),
        timeout=values.get("timeout"),
    )
    if "host" in values:
        address = parse_address(values["host"], f"{origin}: host")
        if address.password is not None:
            raise _no_password_here(origin)
        layer = with_address(layer, address)
    service = values.get("keyring")
    if service:
        default = f"vmount:{join_host_port(layer.host or '', layer.port or 443)}"
        layer = Layer(**{**vars(layer), "keyring": default if service is True else service})
    return layer


def _check(values: dict[str, Any], origin: str) -> None:
    if "password" in values:
        raise _no_password_here(origin)
    for key, value in values.items():
        if key not in KEYS:
            raise UsageError(f"{origin}: no such key: {key!r}; there are {', '.join(KEYS)}")
        if not isinstance(value, KEYS[key]) or (isinstance(value, bool) and bool not in KEYS[key]):
            raise UsageError(f"{origin}: {key}: {value!r} is not of the right type")
        if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
            raise UsageError(f"{origin}: {key}: {value!r} is not above zero")
        if isinstance(value, list) and not all(isinstance(word, str) for word in value):
            raise UsageError(f"{origin}: {key}: a list of strings is meant")
    if values.get("port", 1) >= 1 << 16:
        raise UsageError(f"{origin}: port: {values['port']} is no port")


def _password(values: dict[str, Any], origin: str) -> Password | None:
    ways = [key for key in ("password-command", "password-file", "keyring") if values.get(key)]
    if len(ways) > 1:
        raise UsageError(f"{origin}: {' and '.join(ways)}: one is enough")
    if "password-command" in ways:
        return from_command(values["password-command"])
    if "password-file" in ways:
        return from_file(Path(values["password-file"]).expanduser())
    return None


def _no_password_here(origin: str) -> UsageError:
    return UsageError(
        f"{origin}: a password does not belong there",
        remedy="use password-command, password-file or keyring = true",
    )
