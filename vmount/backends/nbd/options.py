"""How to talk to an NBD server: limits, deadlines, TLS."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from vmount.backends.base import BackendError
from vmount.backends.channel import Tls
from vmount.backends.nbd.uri import NbdUri
from vmount.backends.retry import Backoff

CA_CERTIFICATE = "ca-cert.pem"
CLIENT_CERTIFICATE = "client-cert.pem"
CLIENT_KEY = "client-key.pem"


@dataclass(frozen=True)
class NbdOptions:
    """Choices that have a good default. What a URI says of TLS wins over what is said here."""

    connect_timeout: float = 10.0
    """Seconds for one connection, handshakes included."""
    reply_timeout: float = 30.0
    """Seconds that a server which owes a reply may be silent before its connection is given up."""
    total_timeout: float = 60.0
    """Seconds for a read, reconnections and repetitions included."""
    max_connections: int = 4
    """Connections to a server that says that several see the same disk."""
    max_in_flight: int = 16
    """Requests on one connection that have no reply yet."""
    max_request: int = 1 << 20
    """Bytes that one request asks for at most; the server may want less."""
    max_errors: int = 5
    """Times that a read is repeated after the server answered it with an error."""
    backoff: Backoff = field(default_factory=Backoff)
    """Waits between attempts to reconnect, and before a read is repeated."""
    keepalive_interval: float | None = None
    """Seconds without traffic after which a small read keeps the connection in use; None: never.
    TCP's own keep-alive is always on."""
    tls_certificates: Path | None = None
    """Folder with ca-cert.pem and perhaps client-cert.pem and client-key.pem, as libnbd and qemu name
    them. None: the system's authorities, no client certificate."""
    tls_hostname: str | None = None
    """Name to check the server's certificate against, if it is not the host of the URI."""
    tls_verify_peer: bool = True
    """False: encrypt without knowing with whom."""


def make_tls(uri: NbdUri, options: NbdOptions) -> Tls:
    """Prepare TLS as the URI and the options want it.

    Raises BackendError if the certificates cannot be used.
    """
    folder = uri.tls_certificates or options.tls_certificates
    verify = options.tls_verify_peer if uri.tls_verify_peer is None else uri.tls_verify_peer
    hostname = uri.tls_hostname or options.tls_hostname or uri.host
    if hostname is not None:
        hostname = hostname.partition("%")[0]  # a scope is no part of an address's name
    try:
        context = ssl.create_default_context(
            cafile=None if folder is None else folder / CA_CERTIFICATE
        )
        if folder is not None and (folder / CLIENT_CERTIFICATE).exists():
            context.load_cert_chain(folder / CLIENT_CERTIFICATE, folder / CLIENT_KEY)
    except OSError as error:
        raise BackendError(
            f"{uri}: the certificates in {folder} cannot be used: {error}; "
            f"{CA_CERTIFICATE}, {CLIENT_CERTIFICATE} and {CLIENT_KEY} are searched for",
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify or hostname is None:
        context.check_hostname = False
    if not verify:
        context.verify_mode = ssl.CERT_NONE
    return Tls(context, hostname)
