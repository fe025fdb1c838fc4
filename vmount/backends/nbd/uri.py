"""NBD URIs: nbd://host:10809/export and its relatives.

Source: "The NBD Uniform Resource Indicator (URI) format", NetworkBlockDevice/nbd doc/uri.md. The
parameter tls-certificates is libnbd's (libnbd_set_uri_allow_tls, nbd_connect_uri(3)).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote_to_bytes, urlsplit

DEFAULT_PORT = 10809
MAX_EXPORT_NAME = 4096
"""Bytes that a string may have in the NBD protocol."""
SCHEMES = ("nbd", "nbds", "nbd+unix", "nbds+unix")

_TRUE, _FALSE = ("1", "true"), ("0", "false")


class NbdUriError(ValueError):
    """A URI that is not an NBD URI, or asks for something that is not supported."""

    def __init__(self, uri: str, problem: str) -> None:
        super().__init__(f"{uri}: {problem}")


@dataclass(frozen=True)
class NbdUri:
    """A parsed URI. `str` gives it back in a normal form, without a user name."""

    tls: bool
    host: str | None = None
    """Name or address, IPv6 without brackets and perhaps with a %scope. None for a Unix socket."""
    port: int = DEFAULT_PORT
    socket: str | None = None
    """Path of a Unix socket; one that starts with NUL is in Linux's abstract namespace."""
    export: str = ""
    tls_certificates: Path | None = None
    """Folder with ca-cert.pem and perhaps client-cert.pem and client-key.pem."""
    tls_hostname: str | None = None
    """Name to check the certificate against, if not `host`."""
    tls_verify_peer: bool | None = None

    def __str__(self) -> str:
        scheme = ("nbds" if self.tls else "nbd") + ("+unix" if self.socket is not None else "")
        authority = ""
        if self.host is not None:
            authority = f"[{self.host.replace('%', '%25')}]" if ":" in self.host else self.host
            authority += f":{self.port}" if self.port != DEFAULT_PORT else ""
        parameters = []
        if self.socket is not None:
            parameters.append(f"socket={quote(self.socket, errors='surrogateescape')}")
        if self.tls_certificates is not None:
            parameters.append(f"tls-certificates={quote(str(self.tls_certificates))}")
        if self.tls_hostname is not None:
            parameters.append(f"tls-hostname={quote(self.tls_hostname)}")
        if self.tls_verify_peer is not None:
            parameters.append(f"tls-verify-peer={int(self.tls_verify_peer)}")
        query = "?" + "&".join(parameters) if parameters else ""
        return f"{scheme}://{authority}/{quote(self.export)}{query}"


def parse_nbd_uri(uri: str) -> NbdUri:
    """Parse a URI; raises NbdUriError."""
    if any(ord(character) <= 0x20 or ord(character) == 0x7F for character in uri):
        raise NbdUriError(
            ascii(uri)[1:-1], "a blank or control character: write it as %20, %09 ..."
        )
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise NbdUriError(uri, str(error)) from None
    scheme = parts.scheme
    if scheme not in SCHEMES:
        raise NbdUriError(
            uri, f"scheme {scheme!r} is not supported; use one of {', '.join(SCHEMES)}"
        )
    if "#" in uri:
        raise NbdUriError(uri, "fragments are not supported: write # as %23")
    if parts.username is not None or parts.password is not None:
        shown = uri.replace(parts.netloc, parts.netloc.rpartition("@")[2], 1)
        raise NbdUriError(
            shown, "a user name implies TLS with pre-shared keys, which is not supported"
        )
    unix, tls = scheme.endswith("+unix"), scheme.startswith("nbds")
    parameters = _parameters(uri, parts, tls=tls)
    socket = parameters.get("socket")
    if unix and not socket:
        raise NbdUriError(uri, f"{scheme} needs ?socket=PATH")
    if unix and parts.netloc:
        raise NbdUriError(uri, f"{scheme} has no host: write {scheme}:///export?socket=PATH")
    if not unix and socket is not None:
        raise NbdUriError(uri, f"a socket= needs {scheme}+unix")
    return NbdUri(
        tls=tls,
        host=None if unix else _host(uri, parts),
        port=DEFAULT_PORT if port is None else port,
        socket=socket,
        export=_export(uri, parts.path),
        tls_certificates=(
            Path(parameters["tls-certificates"]) if "tls-certificates" in parameters else None
        ),
        tls_hostname=parameters.get("tls-hostname"),
        tls_verify_peer=_boolean(uri, parameters.get("tls-verify-peer")),
    )


def _host(uri: str, parts: SplitResult) -> str:
    host = parts.hostname
    if not host:
        raise NbdUriError(uri, f"no host: write {parts.scheme}://HOST/export")
    if parts.port == 0:
        raise NbdUriError(uri, "port 0")
    try:
        return unquote_to_bytes(host).decode()
    except UnicodeDecodeError:
        raise NbdUriError(uri, "the host is not UTF-8") from None


def _export(uri: str, path: str) -> str:
    raw = unquote_to_bytes(path.removeprefix("/"))
    if b"\0" in raw:
        raise NbdUriError(uri, "NUL in the export name")
    if len(raw) > MAX_EXPORT_NAME:
        raise NbdUriError(uri, f"an export name of {len(raw)} bytes: at most {MAX_EXPORT_NAME}")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise NbdUriError(uri, "the export name is not UTF-8") from None


def _parameters(uri: str, parts: SplitResult, *, tls: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    query = parts.query.replace("+", "%2B")  # a plus is a plus outside HTML forms
    for name, value in parse_qsl(query, keep_blank_values=True, errors="surrogateescape"):
        if name in found:
            raise NbdUriError(uri, f"{name}= given twice")
        if name == "tls-type" and value != "x509":
            raise NbdUriError(uri, f"tls-type={value} is not supported: x509 is")
        if name in ("tls-psk-file", "tls-username"):
            raise NbdUriError(uri, f"{name}: pre-shared keys are not supported, certificates are")
        if name not in ("socket", "tls-type") and not name.startswith("tls-"):
            raise NbdUriError(uri, f"parameter {name!r} is not known")
        if name.startswith("tls-"):
            if name[4:] not in ("type", "certificates", "hostname", "verify-peer"):
                raise NbdUriError(uri, f"parameter {name!r} is not known")
            if not tls:
                raise NbdUriError(uri, f"{name}= needs {parts.scheme.replace('nbd', 'nbds', 1)}")
        found[name] = value
    return found


def _boolean(uri: str, value: str | None) -> bool | None:
    if value is None:
        return None
    if value.lower() in _TRUE + _FALSE:
        return value.lower() in _TRUE
    raise NbdUriError(uri, f"tls-verify-peer={value}: write 1 or 0")
