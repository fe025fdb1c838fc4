"""Which server to talk to, as whom, and how it is known to be the right one.

Each value is taken from the first of these that has it: the command line; the profile that it names;
govc's environment; the default profile; for the password also the keyring and the terminal. What one of
them says of one server is not used for another one: no password goes where it was not meant to.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmount.configuration import config_path
from vmount.errors import Remedy, UsageError
from vmount.vsphere import passwords
from vmount.vsphere.address import HTTPS_PORT, join_host_port
from vmount.vsphere.govc import from_environment
from vmount.vsphere.layer import Layer
from vmount.vsphere.profiles import from_profile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmount.vsphere.passwords import Password
    from vmount.vsphere.thumbprint import Thumbprint

CONNECT_TIMEOUT = 20.0
"""Seconds for connecting, and for each step of the TLS handshake."""
CALL_TIMEOUT = 120.0
"""Seconds for the answer to a call. vCenter takes tens of seconds for what is large or busy."""


@dataclass(frozen=True)
class ConnectionSettings:
    """A connection to a vCenter or ESXi host."""

    host: str
    """Without brackets."""
    user: str
    password: Password
    port: int = HTTPS_PORT
    thumbprint: Thumbprint | None = None
    """The one certificate that is trusted; None: whatever `ca_file` or the system trusts."""
    ca_file: Path | None = None
    insecure: bool = False
    """Trust any certificate."""
    connect_timeout: float = CONNECT_TIMEOUT
    timeout: float = CALL_TIMEOUT
    profile: str = ""
    """The profile that was used, if one was."""

    @property
    def address(self) -> str:
        """Host and port as they are written."""
        return join_host_port(self.host, self.port)

    def with_password_read(self) -> ConnectionSettings:
        """Return the same with the password known, asking for it if it must be; blocks.

        To be called before a process goes to the background. Raises UsageError.
        """
        known = passwords.known(self.password.origin, self.password.read())
        return replace(self, password=known)


def resolve(
    chosen: Layer, environment: Mapping[str, str], profile: str | None = None
) -> ConnectionSettings:
    """Return the settings. `chosen` is what the command line says, `profile` the one that it names.

    Raises UsageError where something is wrong or missing; it says which ways there are to tell.
    """
    if importlib.util.find_spec("pyVmomi") is None:
        raise UsageError(
            "vCenter and ESXi need pyvmomi, which is not installed",
            remedy="run: pip install pyvmomi",
        )
    named = from_profile(config_path(environment), profile)
    govc = from_environment(environment)
    layers = [chosen, *([named[1], govc] if named and profile else [govc])]
    if named and not profile:
        layers.append(named[1])
    host, port = _server(layers)
    layers = [layer for layer in layers if layer.speaks_of(host, port)]
    user = _first(layers, "user")
    if user is None:
        raise UsageError(
            f"no user name for {join_host_port(host, port)}",
            remedy=Remedy(
                "use --user, GOVC_USERNAME or a profile", "set GOVC_USERNAME, or use a profile"
            ),
        )
    trusting = next((layer for layer in layers if _says_whom_to_trust(layer, host, port)), chosen)
    return ConnectionSettings(
        host=host,
        port=port,
        user=user,
        password=_password(layers, user, host, port),
        thumbprint=trusting.thumbprint_of(host, port),
        ca_file=trusting.ca_file,
        insecure=bool(trusting.insecure),
        connect_timeout=_first(layers, "connect_timeout") or CONNECT_TIMEOUT,
        timeout=_first(layers, "timeout") or CALL_TIMEOUT,
        profile=named[0] if named and named[1] in layers else "",
    )


def _server(layers: list[Layer]) -> tuple[str, int]:
    for layer in layers:
        if layer.host is not None:
            return layer.host, layer.port or HTTPS_PORT
    raise UsageError(
        "no vCenter or ESXi host given",
        remedy=Remedy(
            "use --vcenter HOST, GOVC_URL, or a profile in the configuration file",
            "set GOVC_URL, or add a profile to the configuration file",
        ),
    )


def _says_whom_to_trust(layer: Layer, host: str, port: int) -> bool:
    """Whether a layer decides on trust. They are not mixed: a pin is not undone by a lower layer."""
    return (
        layer.thumbprint_of(host, port) is not None
        or layer.ca_file is not None
        or bool(layer.insecure)
    )


def _password(layers: list[Layer], user: str, host: str, port: int) -> Password:
    default_service = f"vmount:{join_host_port(host, port)}"
    for layer in layers:
        if layer.user not in (None, user):
            continue
        if layer.password is not None:
            return layer.password
        if layer.keyring is not None:
            return passwords.from_keyring(layer.keyring, user)
    return passwords.from_keyring_or_terminal(default_service, user, host)


def _first(layers: list[Layer], field: str) -> Any:
    return next((value for layer in layers if (value := getattr(layer, field)) is not None), None)
