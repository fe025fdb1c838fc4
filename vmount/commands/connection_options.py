"""Options that say which vCenter or host to talk to, for every command that does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vmount.vsphere import passwords
from vmount.vsphere.address import parse_address
from vmount.vsphere.layer import Layer, with_address
from vmount.vsphere.thumbprint import Thumbprint

if TYPE_CHECKING:
    import argparse


def add_connection_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments. None of them is a password: everybody can read a command line."""
    group = parser.add_argument_group(
        "vCenter or ESXi host",
        "GOVC_URL and its like, and profiles in the configuration file, do too.",
    )
    group.add_argument("--vcenter", metavar="HOST[:PORT]", help="the server")
    group.add_argument("--user", metavar="NAME", help="who logs in")
    group.add_argument(
        "--password-file", type=Path, metavar="FILE", help="its first line is the password"
    )
    group.add_argument(
        "--thumbprint", metavar="HEX", help="trust the server with this certificate, and no other"
    )
    group.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="trust servers that this authority has signed"
    )
    group.add_argument("--profile", metavar="NAME", help="of the configuration file")


def connection_layer(arguments: argparse.Namespace) -> Layer:
    """Return what the arguments say. Raises UsageError."""
    layer = Layer(
        "command line",
        user=arguments.user,
        password=None
        if arguments.password_file is None
        else passwords.from_file(arguments.password_file),
        thumbprint=None if arguments.thumbprint is None else Thumbprint.parse(arguments.thumbprint),
        ca_file=arguments.ca_file,
    )
    if arguments.vcenter is not None:
        layer = with_address(layer, parse_address(arguments.vcenter, "--vcenter"))
    return layer
