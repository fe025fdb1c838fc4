"""`vmount doctor`: what this system has and lacks."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vmount import __version__
from vmount.errors import Exit
from vmount.info import as_json

if TYPE_CHECKING:
    import argparse

FUSE_CONFIG = Path("/etc/fuse.conf")
LIBRARIES = ("pyfuse3", "trio", "construct", "libfwnt-python", "google-crc32c", "rich")


class Finding(NamedTuple):
    """One thing that was looked at."""

    name: str
    state: str
    """ "ok", "missing" (vmount cannot mount) or "optional"."""
    detail: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Show the findings; the exit code is 4 if mounting cannot work."""
    findings = examine()
    if arguments.json:
        print(as_json([finding._asdict() for finding in findings]), end="")
    else:
        for finding in findings:
            print(f"{finding.state:<9}{finding.name:<18}{finding.detail}")
    return Exit.MOUNT if any(finding.state == "missing" for finding in findings) else Exit.OK


def examine() -> list[Finding]:
    """Look at everything that vmount depends on."""
    findings = [
        Finding("vmount", "ok", f"{__version__} on Python {sys.version.split()[0]}"),
        Finding("kernel", "ok", platform.release()),
        _fuse_device(),
        _program("fusermount3", "install fuse3"),
        _allow_other(),
    ]
    return findings + [_library(name) for name in LIBRARIES]


def _fuse_device() -> Finding:
    if Path("/dev/fuse").exists():
        return Finding("/dev/fuse", "ok", "")
    return Finding("/dev/fuse", "missing", "no FUSE here: ls, cat, cp and info work without it")


def _program(name: str, remedy: str) -> Finding:
    path = shutil.which(name)
    return Finding(name, "missing", remedy) if path is None else Finding(name, "ok", path)


def _allow_other() -> Finding:
    allowed = os.getuid() == 0
    if not allowed and FUSE_CONFIG.is_file():
        lines = FUSE_CONFIG.read_text(errors="replace").splitlines()
        allowed = any(line.strip() == "user_allow_other" for line in lines)
    remedy = f"for --allow-other: write user_allow_other into {FUSE_CONFIG}"
    return Finding("--allow-other", "ok" if allowed else "optional", "" if allowed else remedy)


def _library(name: str) -> Finding:
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "missing", "reinstall vmount")
