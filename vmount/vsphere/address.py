"""How a vCenter or host is named: HOST, HOST:PORT, [ADDRESS]:PORT, https://USER:PASSWORD@HOST/sdk."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import unquote

from vmount.errors import UsageError
from vmount.vsphere.secret import Secret

HTTPS_PORT = 443
LONGEST_HOST = 255
"""Characters: what DNS allows."""

_HOST = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class Address:
    """A parsed address; None for what it does not say."""

    host: str
    """Without brackets."""
    port: int | None = None
    user: str | None = None
    password: Secret | None = None


def parse_address(text: str, what: str) -> Address:
    """Parse an address in any of the forms that govc takes for GOVC_URL. `what` names it in errors.

    User and password are percent-decoded. Raises UsageError, which does not show a password.
    """
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        scheme, rest = "https", text.strip()
    if scheme.lower() != "https":
        raise UsageError(
            f"{what}: unsupported scheme {scheme}://", remedy="use https, the only supported scheme"
        )
    userinfo, _, place = rest.rpartition("@")
    user, has_password, password = userinfo.partition(":")
    host, port = _host_and_port(re.split("[/?#]", place, maxsplit=1)[0], what)
    return Address(
        host,
        port,
        unquote(user) or None,
        Secret(unquote(password)) if has_password else None,
    )


def join_host_port(host: str, port: int) -> str:
    """Return an address as text, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host_and_port(text: str, what: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        host = host.replace("%25", "%")
        if not bracket or not _is_ipv6(host) or (rest and not rest.startswith(":")):
            raise UsageError(f"{what}: invalid address {text!r} (expected [IPv6]:PORT)")
        port = rest[1:]
    elif _is_ipv6(text):
        return text.lower(), None
    else:
        host, _, port = text.partition(":")
        if not _HOST.fullmatch(host) or len(host) > LONGEST_HOST:
            raise UsageError(f"{what}: invalid host name {host!r}")
    if not port:
        return host.lower(), None
    if not port.isascii() or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UsageError(f"{what}: invalid port {port!r}")
    return host.lower(), int(port)


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
