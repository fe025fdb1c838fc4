"""A certificate whose time is over."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.system.vsphere.conftest import Vcenter
from vmount.vsphere.errors import CertificateError
from vmount.vsphere.session import Session, connected
from vmount.vsphere.settings import ConnectionSettings
from vmount.vsphere.thumbprint import Thumbprint

AUTHORITY = """\
[ca]
default_ca = c
[c]
database = index
new_certs_dir = .
default_md = sha256
policy = p
rand_serial = yes
x509_extensions = e
[e]
subjectAltName = IP:127.0.0.1
[p]
commonName = supplied
"""


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a certificate of the year 2020, and its key."""
    folder = tmp_path_factory.mktemp("expired")
    (folder / "conf").write_text(AUTHORITY)
    (folder / "index").write_text("")
    make_request = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    sign = "openssl ca -batch -selfsign -notext -config conf -keyfile key -in request -out cert"
    dates = "-startdate 20200101000000Z -enddate 20210101000000Z"
    for command in (f"{make_request} -subj /CN=x -keyout key -out request", f"{sign} {dates}"):
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder / "cert", folder / "key"


async def test_is_refused_unless_it_is_the_one_that_was_named(
    vcenter: Vcenter, settings: ConnectionSettings
) -> None:
    with pytest.raises(CertificateError, match="certificate has expired") as caught:
        await Session.open(settings)
    told = str(caught.value).partition("if the server's thumbprint is ")[2].partition(",")[0]
    named = replace(settings, ca_file=None, thumbprint=Thumbprint.parse(told))
    async with connected(named):
        pass
