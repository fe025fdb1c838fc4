"""Options that say which vCenter or host to talk to, for every command that does."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.errors import UsageError
from vmount.vsphere import passwords
from vmount.vsphere.address import parse_address
from vmount.vsphere.layer import Layer, with_address
from vmount.vsphere.settings import resolve
from vmount.vsphere.thumbprint import Thumbprint

if TYPE_CHECKING:
    from vmount.vsphere.passwords import Password
    from vmount.vsphere.settings import ConnectionSettings

LONGEST_TIMEOUT = 3600.0
"""Seconds."""


def add_connection_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments. None of them is a password: everybody can read a command line."""
    group = parser.add_argument_group(
        "vCenter or ESXi host",
        "Also read from GOVC_URL and govc's other variables, and from profiles in the configuration file.",
    )
    group.add_argument("--vcenter", metavar="HOST[:PORT]", help="the server")
    group.add_argument("--user", metavar="NAME", help="the user name")
    password = group.add_mutually_exclusive_group()
    password.add_argument(
        "--password-file", type=Path, metavar="FILE", help="file whose first line is the password"
    )
    password.add_argument(
        "--password-fd", type=int, metavar="N", help="read the password from this file descriptor"
    )
    trust = group.add_mutually_exclusive_group()
    trust.add_argument(
        "--thumbprint", metavar="HEX", help="trust only a server certificate with this thumbprint"
    )
    trust.add_argument(
        "--ca-file",
        type=Path,
        metavar="FILE",
        help="trust certificates signed by the authority in this file",
    )
    trust.add_argument(
        "--insecure",
        action="store_true",
        help="do not verify the certificate (insecure: others on the network can then read the password)",
    )
    group.add_argument("--profile", metavar="NAME", help="a profile in the configuration file")
    group.add_argument(
        "--connect-timeout",
        type=_seconds,
        metavar="SECONDS",
        help="seconds to wait for an answer of the server (default: 20)",
    )


def connection_layer(arguments: argparse.Namespace) -> Layer:
    """Return what the arguments say. Raises UsageError."""
    layer = Layer(
        "command line",
        user=arguments.user,
        password=_password(arguments),
        thumbprint=None if arguments.thumbprint is None else Thumbprint.parse(arguments.thumbprint),
        ca_file=arguments.ca_file,
        insecure=arguments.insecure or None,
        connect_timeout=arguments.connect_timeout,
    )
    if arguments.vcenter is None:
        return layer
    address = parse_address(arguments.vcenter, "--vcenter")
    if address.password is not None:
        raise UsageError(
            "--vcenter: do not write a password on the command line, where every user can read it",
            remedy="change the password, and use --password-file, GOVC_PASSWORD or a profile",
        )
    return with_address(layer, address)


def settings_from(arguments: argparse.Namespace) -> ConnectionSettings:
    """Return the settings that the arguments, the environment and the configuration file make.

    Raises UsageError where something is wrong or missing.
    """
    return resolve(connection_layer(arguments), os.environ, arguments.profile)


def _password(arguments: argparse.Namespace) -> Password | None:
    if arguments.password_file is not None:
        return passwords.from_file(arguments.password_file)
    if arguments.password_fd is not None:
        return passwords.from_descriptor(arguments.password_fd)
    return None


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= LONGEST_TIMEOUT:
        raise argparse.ArgumentTypeError(
            f"invalid number of seconds {text!r} (at most 3600, an hour)"
        )
    return value
