"""Mount the disks of a VMware virtual machine, read-only.

The public names of the Python API are here: `from vmount import open_disks`. They are loaded when they are
asked for, so that a program which wants `vmount.parsers` alone loads nothing else. __init__.pyi has their types.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.2.0"
"""The one place of the version: pyproject.toml reads it here. The installed package's metadata would cost each start
15 ms, and is missing or out of date in a checkout."""

__all__ = [
    "DirEntry",
    "DiskSet",
    "FileReader",
    "FileStat",
    "OpenOptions",
    "SourceError",
    "UsageError",
    "VmountError",
    "__version__",
    "open_disks",
]

_ERRORS = frozenset({"SourceError", "UsageError", "VmountError"})


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module("vmount.errors" if name in _ERRORS else "vmount.api")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
