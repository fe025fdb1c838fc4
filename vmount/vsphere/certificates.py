"""Whether a server is the right one.

A pinned certificate is read once, compared, and from then on is all that is trusted: pyvmomi's own
checking of thumbprints lets a certificate pass that is exchanged later.
"""

from __future__ import annotations

import logging
import socket
import ssl
from typing import TYPE_CHECKING

from vmount.errors import Remedy
from vmount.vsphere.errors import CertificateError, ConnectError
from vmount.vsphere.thumbprint import Thumbprint

if TYPE_CHECKING:
    from vmount.vsphere.settings import ConnectionSettings

log = logging.getLogger(__name__)

NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, for which `ssl` has no name."""


def context_for(settings: ConnectionSettings) -> ssl.SSLContext:
    """Return the context for all connections to the server. With a pin it connects; blocks.

    Raises CertificateError, ConnectError, OSError.
    """
    if settings.thumbprint is not None:
        leaf = read_leaf(settings)
        if not settings.thumbprint.matches(leaf):
            raise CertificateError(
                f"{settings.address}: its certificate's thumbprint is "
                f"{Thumbprint.of(leaf, settings.thumbprint.algorithm)}, not {settings.thumbprint}",
                remedy="the connection is intercepted, or the certificate was replaced: compare the "
                "thumbprint with the server's own",
            )
        return only(leaf)
    if settings.insecure:
        log.warning("%s: the certificate is not verified, as requested", settings.address)
        return _unverified()
    try:
        return ssl.create_default_context(
            cafile=None if settings.ca_file is None else str(settings.ca_file)
        )
    except (FileNotFoundError, PermissionError, ssl.SSLError) as error:
        raise ConnectError(f"{settings.ca_file}: contains no certificates ({error})") from None


def only(leaf: bytes) -> ssl.SSLContext:
    """Return a context that trusts exactly one certificate (DER), whatever its issuer.

    Its name and dates do not matter: it is this one that was chosen.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags |= NO_CHECK_TIME
    context.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(leaf))
    return context


def read_leaf(settings: ConnectionSettings) -> bytes:
    """Return the server's certificate in DER, whatever it is worth; blocks. Raises OSError."""
    with (
        socket.create_connection((settings.host, settings.port), settings.connect_timeout) as plain,
        _unverified().wrap_socket(plain, server_hostname=settings.host) as wrapped,
    ):
        leaf = wrapped.getpeercert(binary_form=True)
    assert leaf is not None, "a server always sends one"
    return leaf


def not_trusted(
    error: ssl.SSLCertVerificationError, settings: ConnectionSettings
) -> CertificateError:
    """Return the error for a certificate that fails verification, with what to do; blocks."""
    authority = "give the certificate of its authority (ca-file in a profile, GOVC_TLS_CA_CERTS)"
    try:
        found = f"if the server's thumbprint is {Thumbprint.of(read_leaf(settings))}, "
        remedy = Remedy(
            f"{found}add --thumbprint with that; or {authority}",
            f"{found}give it as the thumbprint; or {authority}",
        )
    except OSError:
        remedy = Remedy(authority, authority)
    return CertificateError(
        f"{settings.address}: the certificate is not trusted: {error.verify_message}",
        remedy=remedy,
    )


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
