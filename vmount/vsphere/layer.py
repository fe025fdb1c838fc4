"""What one place says about a connection: the command line, govc's environment, or a profile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.vsphere.address import HTTPS_PORT, Address, join_host_port
from vmount.vsphere.passwords import Password, known

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmount.vsphere.thumbprint import Thumbprint


@dataclass(frozen=True)
class Layer:
    """None and empty values: it says nothing of that."""

    origin: str
    host: str | None = None
    port: int | None = None
    user: str | None = None
    password: Password | None = None
    keyring: str | None = None
    """The service under which the keyring has the password."""
    thumbprint: Thumbprint | None = None
    known_hosts: Mapping[str, Thumbprint] | None = None
    """Thumbprints by HOST:PORT."""
    ca_file: Path | None = None
    insecure: bool | None = None
    connect_timeout: float | None = None
    timeout: float | None = None

    def speaks_of(self, host: str, port: int) -> bool:
        """Say whether what it says may be used for a server: nobody's password goes to another one."""
        return self.host is None or (self.host, self.port or HTTPS_PORT) == (host, port)

    def thumbprint_of(self, host: str, port: int) -> Thumbprint | None:
        """Return the thumbprint that a server's certificate must have."""
        if self.thumbprint is not None:
            return self.thumbprint
        return (self.known_hosts or {}).get(join_host_port(host, port))


def with_address(layer: Layer, address: Address) -> Layer:
    """Return a layer that says in addition what an address does; its own user and password prevail."""
    password = layer.password
    if password is None and address.password is not None:
        password = known(layer.origin, address.password)
    return Layer(
        **{
            **vars(layer),
            "host": address.host,
            "port": address.port or layer.port,
            "user": layer.user or address.user,
            "password": password,
        }
    )
