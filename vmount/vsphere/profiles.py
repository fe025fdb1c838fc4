"""The configuration file: named profiles of vCenters and hosts, in TOML.

default = "lab"                                  # used where nothing else names a server

[profiles.lab]
host = "vcenter.lab.example"
user = "backup@vsphere.local"
password-command = ["pass", "show", "vcenter"]   # or password-file, or keyring = true
thumbprint = "0A:1B:..."                         # or ca-file
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmount.configuration import read_config
from vmount.errors import UsageError, explain
from vmount.vsphere.address import join_host_port, parse_address
from vmount.vsphere.layer import Layer, with_address
from vmount.vsphere.passwords import Password, from_command, from_file
from vmount.vsphere.thumbprint import Thumbprint

if TYPE_CHECKING:
    pass

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


def from_profile(path: Path, name: str | None) -> tuple[str, Layer] | None:
    """Return a profile's name and what it says; without a name, the default's, or None for no default.

    Raises UsageError for a profile that does not exist, and for anything that is wrong with it.
    """
    try:
        config = read_config(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        if name is None:
            return None
        raise UsageError(f"no profile {name!r}: {explain(error)}") from None
    except OSError as error:
        raise UsageError(explain(error)) from None
    profiles = config.get("profiles", {})
    wanted = config.get("default") if name is None else name
    if wanted is None:
        return None
    if not isinstance(profiles.get(wanted), dict):
        known = ", ".join(profiles) or "none"
        raise UsageError(f"{path}: no profile {wanted!r}", remedy=f"profiles: {known}")
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
            raise UsageError(
                f"{origin}: unknown key {key!r}", remedy=f"known keys: {', '.join(KEYS)}"
            )
        if not isinstance(value, KEYS[key]) or (isinstance(value, bool) and bool not in KEYS[key]):
            raise UsageError(f"{origin}: {key}: {value!r} must be {_kinds(KEYS[key])}")
        if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
            raise UsageError(f"{origin}: {key}: {value!r} must be greater than zero")
        if isinstance(value, list) and not all(isinstance(word, str) for word in value):
            raise UsageError(f"{origin}: {key}: must be a list of strings")
    if values.get("port", 1) >= 1 << 16:
        raise UsageError(f"{origin}: port: {values['port']} is not a port number")


def _kinds(types: tuple[type, ...]) -> str:
    names = {str: "a string", list: "a list", bool: "true or false", int: "a number"}
    return " or ".join(names[kind] for kind in types if kind in names)


def _password(values: dict[str, Any], origin: str) -> Password | None:
    ways = [key for key in ("password-command", "password-file", "keyring") if values.get(key)]
    if len(ways) > 1:
        raise UsageError(f"{origin}: {' and '.join(ways)} exclude each other")
    if "password-command" in ways:
        return from_command(values["password-command"])
    if "password-file" in ways:
        return from_file(Path(values["password-file"]).expanduser())
    return None


def _no_password_here(origin: str) -> UsageError:
    return UsageError(
        f"{origin}: a password must not be stored in this file",
        remedy="use password-command, password-file or keyring = true",
    )
