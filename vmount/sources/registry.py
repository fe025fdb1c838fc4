"""The kinds of sources. A new kind is a module with its KIND, and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.sources import files, nbd, san, vm, vmx, web

if TYPE_CHECKING:
    from vmount.sources.base import SourceKind

KINDS: tuple[SourceKind, ...] = (web.KIND, nbd.KIND, san.KIND, vm.KIND, vmx.KIND, files.KIND)
"""The first one that matches a text opens it; the last one takes all that is left."""


def recognise(source: str) -> SourceKind:
    """Return the kind of a source by its text, and by what exists on this system."""
    return next(kind for kind in KINDS if kind.matches(source))


def forms() -> str:
    """Return how the kinds are written, for help and errors: "a .vmx, a VMDK, ..."."""
    wanted = (vmx, files, nbd, web, san, vm)
    *most, last = (module.KIND.form for module in wanted)
    return f"{', '.join(most)}, or {last}"
