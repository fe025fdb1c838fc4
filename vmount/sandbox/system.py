"""What a Python program reads of its system whatever it does: its own modules, libraries, names of servers."""

from __future__ import annotations

import os
import ssl
import sys
from pathlib import Path

import vmount
import vmount.parsers

_LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/etc/ld.so.cache")
_TIME_ZONES = ("/usr/share/zoneinfo", "/etc/localtime")
PROCESSES = Path("/proc")
"""Where nobody can be looked into who is outside: Landlock forbids it, but to who has CAP_SYS_ADMIN."""
_KERNEL = ("/dev/urandom", "/dev/null")
_NAMES = (
    "/etc/resolv.conf",
    "/run/systemd/resolve",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
)
_AUTHORITIES = (
    "/etc/ssl",
    "/etc/pki",
    "/etc/crypto-policies",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
)


def program_files() -> tuple[Path, ...]:
    """Return what this program may still have to load: modules of Python, libraries, the time zone."""
    found = {
        Path(os.__file__).parent,
        *map(Path, vmount.__path__),
        *map(Path, vmount.parsers.__path__),
    }
    found |= {Path(entry) for entry in sys.path if entry.endswith(("-packages", "lib-dynload"))}
    found |= {Path(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry}
    return (*sorted(found), PROCESSES, *map(Path, (*_LIBRARIES, *_TIME_ZONES, *_KERNEL)))


def network_files() -> tuple[Path, ...]:
    """Return what looking up a server's name and verifying its certificate reads."""
    paths = ssl.get_default_verify_paths()
    named = (paths.cafile, paths.capath, paths.openssl_cafile, paths.openssl_capath)
    return tuple(Path(name) for name in (*_NAMES, *_AUTHORITIES, *named) if name)
