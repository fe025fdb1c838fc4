"""NBD URIs, with the examples of the specification and those that libnbd's manual gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmount.backends.nbd.uri import NbdUri, NbdUriError, parse_nbd_uri


@pytest.mark.requirement("R16")
@pytest.mark.parametrize(
    ("uri", "export"),
    [
        ("nbd://example.com/disk", "disk"),
        ("nbd+unix:///disk?socket=sock", "disk"),
        ("nbd://example.com/", ""),
        ("nbd://example.com", ""),
        ("nbd://example.com//disk", "/disk"),
        ("nbd://example.com/hello%20world", "hello world"),
        ("nbd://example.com/a%2Fb%3Fc%23d%25%2B+", "a/b?c#d%++"),
        ("nbd://example.com/%C3%A4/%5Bds@1%5D%20a", "ä/[ds@1] a"),
    ],
)
def test_export_names(uri: str, export: str) -> None:
    assert parse_nbd_uri(uri).export == export


@pytest.mark.requirement("R40")
@pytest.mark.parametrize(
    ("uri", "host", "port"),
    [
        ("nbd://localhost", "localhost", 10809),
        ("nbd://localhost:1", "localhost", 1),
        ("nbd://192.0.2.1:65535/x", "192.0.2.1", 65535),
        ("nbd://[2001:db8::1]", "2001:db8::1", 10809),
        ("nbd://[2001:db8::1]:443/x", "2001:db8::1", 443),
        ("nbds://[fe80::1%25eth0]:2", "fe80::1%eth0", 2),
        ("nbd://[::ffff:192.0.2.1]/", "::ffff:192.0.2.1", 10809),
    ],
)
def test_hosts(uri: str, host: str, port: int) -> None:
    parsed = parse_nbd_uri(uri)
    assert (parsed.host, parsed.port) == (host, port)


def test_unix_sockets() -> None:
    assert parse_nbd_uri("nbd+unix:///?socket=/tmp/a%20b+c").socket == "/tmp/a b+c"
    assert parse_nbd_uri("nbd+unix:///?socket=%00/abstract").socket == "\0/abstract"


def test_tls_parameters() -> None:
    parsed = parse_nbd_uri(
        "nbds://h/x?tls-type=x509&tls-certificates=/etc/pki&tls-hostname=srv&tls-verify-peer=0"
    )
    assert parsed == NbdUri(
        tls=True,
        host="h",
        export="x",
        tls_certificates=Path("/etc/pki"),
        tls_hostname="srv",
        tls_verify_peer=False,
    )


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("http://host/", "scheme 'http' is not supported"),
        ("nbd+vsock://2/", "scheme 'nbd\\+vsock'"),
        ("host:10809", "scheme 'host'"),
        ("nbd:///disk", "no host"),
        ("nbd://host:0/", "port 0"),
        ("nbd://host:99999/", "range"),
        ("nbd://[::1/", "IPv6"),
        ("nbd+unix:///disk", "needs \\?socket=PATH"),
        ("nbd+unix://host/disk?socket=s", "has no host"),
        ("nbd://host/?socket=s", "needs nbd\\+unix"),
        ("nbd://host/a#b", "%23"),
        ("nbd://host/a b", "%20"),
        ("nbd://host/a%00", "NUL"),
        ("nbd://host/%FF", "UTF-8"),
        ("nbd://host/" + "a" * 4097, "4096"),
        ("nbds://host/?tls-type=psk", "tls-type=psk is not supported"),
        ("nbds://host/?tls-psk-file=keys", "pre-shared keys are not supported"),
        ("nbds://user@host/", "pre-shared keys, which is not supported"),
        ("nbds://host/?tls-verify-peer=maybe", "write 1 or 0"),
        ("nbds://host/?tls-priority=NORMAL", "'tls-priority' is not known"),
        ("nbds://host/?colour=red", "'colour' is not known"),
        ("nbds://host/?tls-hostname=a&tls-hostname=b", "given twice"),
        ("nbd://host/?tls-hostname=a", "needs nbds"),
    ],
)
def test_what_is_refused(uri: str, problem: str) -> None:
    with pytest.raises(NbdUriError, match=problem):
        parse_nbd_uri(uri)


@pytest.mark.requirement("R19")
def test_a_password_is_not_repeated() -> None:
    with pytest.raises(NbdUriError) as caught:
        parse_nbd_uri("nbds://user:hunter2@host/")
    assert "hunter2" not in str(caught.value)


@given(st.text())
def test_anything_is_parsed_or_refused(text: str) -> None:
    for uri in (text, "nbd://h/" + text, "nbds+unix:///?socket=" + text):
        try:
            parsed = parse_nbd_uri(uri)
        except NbdUriError:
            continue
        assert parse_nbd_uri(str(parsed)) == parsed
