"""Whether this system can mount: pyfuse3 is needed by the serving process alone, and by no other command."""

from __future__ import annotations

import importlib
import platform
from typing import TYPE_CHECKING

from vmount.errors import MountError

if TYPE_CHECKING:
    from collections.abc import Mapping

INSTALL = {
    "debian": "apt install fuse3 libfuse3-dev pkg-config gcc python3-dev",
    "fedora": "dnf install fuse3 fuse3-devel pkgconf gcc python3-devel",
    "suse": "zypper install fuse3 fuse3-devel pkg-config gcc python3-devel",
    "arch": "pacman -S fuse3 pkgconf gcc",
    "alpine": "apk add fuse3 fuse3-dev pkgconf gcc musl-dev python3-dev",
}
"""What installs what pyfuse3 runs with and is built with, by an ID or ID_LIKE of os-release(5)."""


def require_fuse() -> None:
    """Raise MountError with what to install unless pyfuse3 and libfuse can be loaded."""
    try:
        importlib.import_module("pyfuse3")
    except ModuleNotFoundError:
        raise MountError(
            "pyfuse3 is not installed, and a mount needs it",
            remedy=f"run: {install_command(_this_system())}; pip install pyfuse3 "
            "(all commands but mount work without it)",
        ) from None
    except ImportError as error:
        raise MountError(
            f"pyfuse3 cannot be loaded: {error}",
            remedy=f"run: {install_command(_this_system())}",
        ) from error


def install_command(os_release: Mapping[str, str]) -> str:
    """Return what installs pyfuse3's needs on a distribution; Debian's command on one that is not known."""
    for name in (os_release.get("ID", ""), *os_release.get("ID_LIKE", "").split()):
        if name in INSTALL:
            return INSTALL[name]
    return INSTALL["debian"]


def _this_system() -> Mapping[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}
