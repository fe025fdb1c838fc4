"""Whether this system can mount: pyfuse3 is needed by the serving process alone, and by no other command."""

from __future__ import annotations

import importlib

from vmount.errors import MountError

PACKAGES = "fuse3 libfuse3-dev pkg-config gcc python3-dev"
"""Of Debian and Ubuntu: what pyfuse3 runs with and is built with."""


def require_fuse() -> None:
    """Raise MountError with what to install unless pyfuse3 and libfuse can be loaded."""
    try:
        importlib.import_module("pyfuse3")
    except ModuleNotFoundError:
        raise MountError(
            "pyfuse3 is not installed, and a mount needs it",
            remedy=f"run: apt install {PACKAGES}; pip install pyfuse3 "
            "(all commands but mount work without it)",
        ) from None
    except ImportError as error:
        raise MountError(
            f"pyfuse3 cannot be loaded: {error}", remedy=f"run: apt install {PACKAGES}"
        ) from error
