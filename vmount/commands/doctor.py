"""`vmount doctor`: what this system has and lacks."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vmount import __version__, interruption
from vmount.commands.connection_options import add_connection_arguments, settings_from
from vmount.doctor.results import CheckResult, State
from vmount.errors import Exit, UsageError, printable
from vmount.sandbox import landlock, seccomp
from vmount.tree.info import as_json

if TYPE_CHECKING:
    import argparse

    from vmount.vsphere.settings import ConnectionSettings

FUSE_CONFIG = Path("/etc/fuse.conf")
LIBRARIES = (
    "pyfuse3",
    "trio",
    "construct",
    "libfwnt-python",
    "google-crc32c",
    "pyvmomi",
    "rich",
    "httpcore",
    "shtab",
)
"""The dependencies that pyproject.toml declares."""
EXTRAS = {"keyring": "for passwords in the keyring: pip install 'vmount[keyring]'"}
HELPERS = {"nbdkit": "for nbd and nbdssl, with VMware's VDDK: install nbdkit"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "vm", nargs="?", metavar="VM", help="a VM: check what reading its disks requires"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    add_connection_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show the results; the exit code is 4 if mounting cannot work, 3 if the server or machine cannot."""
    results = examine() + examine_server(arguments)
    if arguments.json:
        print(as_json([result._asdict() for result in results]), end="")
    else:
        width = max(len(result.name) for result in results) + 2
        for result in results:
            print(f"{result.state:<9}{printable(f'{result.name:<{width}}{result.detail}')}")
    states = {result.state for result in results}
    if State.MISSING in states:
        return Exit.MOUNT
    return Exit.SOURCE if State.PROBLEM in states else Exit.OK


def examine_server(arguments: argparse.Namespace) -> list[CheckResult]:
    """Look at the vCenter or host, if one is configured, and at the machine, if one is named."""
    is_wanted = any((arguments.vm, arguments.vcenter, arguments.profile))
    try:
        settings = settings_from(arguments).with_password_read()
    except UsageError as error:
        state = State.PROBLEM if is_wanted else State.OPTIONAL
        return [CheckResult("vCenter", state, error.as_command())]
    return interruption.run(_examine_server, settings, arguments.vm)


async def _examine_server(settings: ConnectionSettings, vm: str | None) -> list[CheckResult]:
    # Imported here: this takes pyvmomi with it.
    from vmount.doctor.virtual_machine import check_server, check_transports

    return await check_server(settings, vm, await check_transports())


def examine() -> list[CheckResult]:
    """Look at everything that vmount depends on."""
    results = [
        CheckResult("vmount", State.OK, f"{__version__} on Python {sys.version.split()[0]}"),
        CheckResult("kernel", State.OK, platform.release()),
        _fuse_device(),
        _program("fusermount3", "install fuse3"),
        _allow_other(),
        _sandbox(),
    ]
    results += [_library(name, State.MISSING, "reinstall vmount") for name in LIBRARIES]
    results += [_library(name, State.OPTIONAL, remedy) for name, remedy in EXTRAS.items()]
    return [*results, *(_helper(name, use) for name, use in HELPERS.items())]


def _fuse_device() -> CheckResult:
    if Path("/dev/fuse").exists():
        return CheckResult("/dev/fuse", State.OK, "")
    return CheckResult(
        "/dev/fuse", State.MISSING, "FUSE is not available; ls, cat, cp and info work without it"
    )


def _program(name: str, remedy: str) -> CheckResult:
    path = shutil.which(name)
    return (
        CheckResult(name, State.MISSING, remedy)
        if path is None
        else CheckResult(name, State.OK, path)
    )


def _allow_other() -> CheckResult:
    allowed = os.getuid() == 0
    if not allowed and FUSE_CONFIG.is_file():
        lines = FUSE_CONFIG.read_text(errors="replace").splitlines()
        allowed = any(line.strip() == "user_allow_other" for line in lines)
    remedy = f"for --allow-other: add user_allow_other to {FUSE_CONFIG}"
    return CheckResult(
        "--allow-other", State.OK if allowed else State.OPTIONAL, "" if allowed else remedy
    )


def _sandbox() -> CheckResult:
    """Tell what holds a process that reads disks: Landlock's version decides how much."""
    version, has_filter = landlock.version(), seccomp.is_known()
    parts = [
        f"Landlock {version}" if version else "no Landlock: access to files cannot be confined",
        "seccomp" if has_filter else "no system call filter for this architecture",
    ]
    if 0 < version < landlock.TCP_SINCE:
        parts.append("TCP connections cannot be confined")
    whole = has_filter and version >= landlock.TCP_SINCE
    return CheckResult("sandbox", State.OK if whole else State.OPTIONAL, "; ".join(parts))


def _helper(name: str, use: str) -> CheckResult:
    path = shutil.which(name)
    return (
        CheckResult(name, State.OPTIONAL, use)
        if path is None
        else CheckResult(name, State.OK, path)
    )


def _library(name: str, without: State, remedy: str) -> CheckResult:
    try:
        return CheckResult(name, State.OK, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return CheckResult(name, without, remedy)
