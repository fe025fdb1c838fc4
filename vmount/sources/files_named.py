"""Which files the files of a source name: extents, parents, the disks of a .vmx.

They are found by opening the source once in a child process that can read files and do nothing else. What
it tells is checked: a hostile file may have taken that process over.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmount.errors import VmountError
from vmount.parsers.reader import run_sync
from vmount.runtime import InlineRuntime
from vmount.sandbox import Policy, confine
from vmount.sources.base import Opening
from vmount.sources.foreign import RAW_PREFIX
from vmount.sources.opening import open_sources

if TYPE_CHECKING:
    from vmount.options import OpenOptions

_SIGNS = (b"KDMV", b"COWD", b"\xbe\xba\xfe\xca", b"# Di")
"""How a VMDK begins: sparse, an old host's sparse, SEsparse, a descriptor."""
_SUFFIX = ".vmdk"
MOST_BYTES = 64 << 20
"""Of names."""


def files_named(sources: Sequence[str], options: OpenOptions) -> list[Path]:
    """Return the files that opening the sources opens. All of them are local.

    Those that no descriptor may name (`machine_files.check_reach`) are left out.
    """
    wanted = [source for source in sources if _names_others(source)]
    if not wanted:
        return []
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(receiving)
            _tell_files(wanted, options, sending)
        finally:
            os._exit(0)
    os.close(sending)
    with open(receiving, "rb") as pipe:  # noqa: PTH123 (a descriptor)
        told = pipe.read(MOST_BYTES)
    os.waitpid(child, 0)
    names = [Path(os.fsdecode(name)) for name in told.split(b"\0") if name]
    return _allowed(names, {Path(source).resolve().parent for source in wanted})


def _names_others(source: str) -> bool:
    if source.startswith(RAW_PREFIX):
        return False
    path = Path(source)
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return path.suffix.lower() in (".vmx", _SUFFIX) or file.read(4) in _SIGNS
    except OSError:
        return False


def _tell_files(sources: Sequence[str], options: OpenOptions, sending: int) -> None:
    """Open the sources and write the names of all files that were opened, each with a zero byte."""
    gc.disable()  # it would only copy what the parent has
    logging.disable()
    confine(Policy(readable=(Path("/"),)))
    names: dict[bytes, None] = {}

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            names[os.fsencode(os.path.realpath(arguments[0]))] = None

    sys.addaudithook(note)
    for source in sources:
        with suppress(VmountError, OSError):
            run_sync(open_sources([source], Opening(InlineRuntime(), None, options)))
    with open(sending, "wb") as pipe:
        pipe.write(b"\0".join(names))


def _allowed(names: Sequence[Path], folders: set[Path]) -> list[Path]:
    """Return those called .vmdk, and those in a folder of one or in `folders`."""
    disks = {name for name in names if name.suffix.lower() == _SUFFIX and name.is_file()}
    known = folders | {name.parent for name in disks}
    return [name for name in names if name in disks or name.parent in known]
