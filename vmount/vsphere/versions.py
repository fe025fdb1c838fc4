"""Which version of the API to speak: the newest that both sides know (R61)."""

from __future__ import annotations

from http.client import HTTPSConnection
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from vmount.vsphere.errors import ConnectError

if TYPE_CHECKING:
    import ssl

    from vmount.vsphere.settings import ConnectionSettings

PATH = "/sdk/vimServiceVersions.xml"
LARGEST = 1 << 20
"""Bytes. The list is a few KiB."""
COMMON = "vim.version.version9"
"""5.5, which every newer server still speaks: for one that names no version known here."""


def read_versions(settings: ConnectionSettings, context: ssl.SSLContext) -> set[str]:
    """Return the versions that a server speaks, as in "8.0.2.0"; blocks.

    Raises ConnectError for what is no vCenter or ESXi host, OSError, HTTPException.
    """
    connection = HTTPSConnection(
        settings.host, settings.port, timeout=settings.connect_timeout, context=context
    )
    try:
        connection.request("GET", PATH)
        answer = connection.getresponse()
        text = answer.read(LARGEST)
    finally:
        connection.close()
    try:
        root = ElementTree.fromstring(text) if answer.status == 200 else None  # noqa: S314 (bounded)
    except ElementTree.ParseError:
        root = None
    if root is None or root.tag != "namespaces":
        raise ConnectError(
            f"{settings.address}: not a vCenter or ESXi host "
            f"({PATH}: {answer.status} {answer.reason})",
            remedy="check the address and the port",
        )
    return {
        version.text or ""
        for namespace in root.iter("namespace")
        if namespace.findtext("name") == "urn:vim25"
        for version in namespace.iter("version")
    }


def choose_version(offered: set[str]) -> str:
    """Return pyvmomi's name of the newest version that a server offers and pyvmomi knows."""
    from pyVmomi import VmomiSupport

    for name in VmomiSupport.GetServiceVersions("vim25"):  # newest first
        if VmomiSupport.versionIdMap[name] in offered:
            return str(name)
    return COMMON
