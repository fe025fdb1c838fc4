"""Whom a session trusts, and that nobody else is told anything."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.vsphere.controls import Controls
from tests.support.vsphere.forwarder import forwarding
from tests.system.vsphere.conftest import Vcenter
from vmount.errors import UsageError
from vmount.vsphere.errors import CertificateError, ConnectError
from vmount.vsphere.session import Session, connected
from vmount.vsphere.settings import ConnectionSettings
from vmount.vsphere.thumbprint import Thumbprint


def der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def openssl_thumbprint(path: Path, algorithm: str) -> str:
    """Return the thumbprint as OpenSSL has it."""
    command = ["openssl", "x509", "-noout", "-fingerprint", f"-{algorithm}", "-in", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip().partition("=")[2]


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return another certificate for the same address, and its key."""
    folder = tmp_path_factory.mktemp("other")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    subject = ["-subj", "/CN=vcsim", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command.split(), *subject, "-keyout", key, "-out", cert], check=True)
    return cert, key


@contextmanager
def impostor(cert: Path, key: Path) -> Iterator[int]:
    """Run a server of TLS with a certificate; give its port."""
    with subprocess.Popen(
        ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", cert, "-key", key, "-www"],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            lines = (line for line in server.stdout if line.startswith("ACCEPT"))
            yield int(next(lines).rpartition(":")[2])
        finally:
            server.kill()


def pinned(settings: ConnectionSettings, text: str) -> ConnectionSettings:
    return replace(settings, ca_file=None, thumbprint=Thumbprint.parse(text))


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
@pytest.mark.parametrize("colons", [True, False])
async def test_a_pinned_certificate(
    vcenter: Vcenter, settings: ConnectionSettings, algorithm: str, colons: bool
) -> None:
    text = openssl_thumbprint(vcenter.certificate, algorithm)
    assert str(Thumbprint.of(der(vcenter.certificate), algorithm)) == text
    async with connected(pinned(settings, text if colons else text.replace(":", "").lower())):
        pass


async def test_a_certificate_that_nobody_vouches_for(
    vcenter: Vcenter, settings: ConnectionSettings
) -> None:
    with pytest.raises(CertificateError, match="self-signed certificate") as caught:
        await Session.open(replace(settings, ca_file=None))
    told = openssl_thumbprint(vcenter.certificate, "sha256")
    assert f"if the server's thumbprint is {told}, add --thumbprint" in caught.value.as_command()
    assert Controls(vcenter).called() == {}, "nothing was said to it"


async def test_the_wrong_pin(
    vcenter: Vcenter, settings: ConnectionSettings, other: tuple[Path, Path]
) -> None:
    text = openssl_thumbprint(other[0], "sha1")
    with pytest.raises(CertificateError, match=f"not {text}; the connection is intercepted"):
        await Session.open(pinned(settings, text))
    assert Controls(vcenter).called() == {}


@pytest.mark.parametrize("is_pinned", [True, False])
async def test_a_certificate_that_is_exchanged_later(
    vcenter: Vcenter, settings: ConnectionSettings, other: tuple[Path, Path], is_pinned: bool
) -> None:
    """Each new connection of a session is verified, as pyvmomi's own pinning does not."""
    if is_pinned:
        settings = pinned(settings, openssl_thumbprint(vcenter.certificate, "sha256"))
    with impostor(*other) as port, forwarding((vcenter.host, vcenter.port)) as forwarder:
        async with connected(replace(settings, port=forwarder.port)) as session:
            forwarder.target = ("127.0.0.1", port)
            forwarder.cut()
            with pytest.raises(CertificateError, match="not trusted"):
                await session.read(lambda: session.vm("vm-57").name)


async def test_insecure_is_said(
    settings: ConnectionSettings, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(replace(settings, ca_file=None, insecure=True)):
        pass
    assert "the certificate is not verified, as requested" in caplog.text


async def test_no_authority_in_the_file(settings: ConnectionSettings, tmp_path: Path) -> None:
    for path in (tmp_path / "none", Path("/dev/null")):
        with pytest.raises(ConnectError, match="contains no certificates"):
            await Session.open(replace(settings, ca_file=path))


@pytest.mark.parametrize("text", ["", "00:11", "zz" * 20, "0" * 41])
def test_what_is_no_thumbprint(text: str) -> None:
    with pytest.raises(UsageError, match="invalid thumbprint"):
        Thumbprint.parse(text)
