"""The environment variables of govc, which people of vSphere have set already."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.errors import UsageError, explain
from vmount.vsphere.address import HTTPS_PORT, join_host_port, parse_address
from vmount.vsphere.layer import Layer, with_address
from vmount.vsphere.passwords import known
from vmount.vsphere.secret import Secret
from vmount.vsphere.thumbprint import Thumbprint

if TYPE_CHECKING:
    from collections.abc import Mapping

TRUE = {"1", "t", "T", "TRUE", "true", "True"}
FALSE = {"", "0", "f", "F", "FALSE", "false", "False"}
"""As Go's strconv.ParseBool has them."""


def from_environment(environment: Mapping[str, str]) -> Layer:
    """Return what GOVC_* say. Raises UsageError."""
    password = environment.get("GOVC_PASSWORD")
    ca_files = _paths(environment.get("GOVC_TLS_CA_CERTS", ""))
    if len(ca_files) > 1:
        raise UsageError(
            "GOVC_TLS_CA_CERTS: vmount supports only one file",
            remedy="concatenate the files into one",
        )
    layer = Layer(
        origin="GOVC_URL",
        user=environment.get("GOVC_USERNAME") or None,
        password=known("GOVC_PASSWORD", Secret(password)) if password else None,
        known_hosts=read_known_hosts(_paths(environment.get("GOVC_TLS_KNOWN_HOSTS", ""))),
        ca_file=ca_files[0] if ca_files else None,
        insecure=_truth(environment.get("GOVC_INSECURE", "")),
    )
    url = environment.get("GOVC_URL")
    return with_address(layer, parse_address(url, "GOVC_URL")) if url else layer


def read_known_hosts(paths: list[Path]) -> dict[str, Thumbprint]:
    """Return thumbprints by HOST:PORT from files with lines of the form `HOST:PORT THUMBPRINT`."""
    found = {}
    for path in paths:
        try:
            lines = path.read_text().splitlines()
        except OSError as error:
            raise UsageError(f"GOVC_TLS_KNOWN_HOSTS: {explain(error)}") from None
        for number, line in enumerate(lines, 1):
            fields = line.split()
            if not fields:
                continue
            what = f"{path}:{number}"
            if len(fields) != 2:
                raise UsageError(f"{what}: expected HOST:PORT THUMBPRINT")
            address = parse_address(fields[0], what)
            name = join_host_port(address.host, address.port or HTTPS_PORT)
            found[name] = Thumbprint.parse(fields[1])
    return found


def _paths(text: str) -> list[Path]:
    return [Path(part).expanduser() for part in text.split(os.pathsep) if part]


def _truth(text: str) -> bool | None:
    if text in FALSE:
        return False if text else None
    if text in TRUE:
        return True
    raise UsageError(f"GOVC_INSECURE: {text!r} is not true or false")
