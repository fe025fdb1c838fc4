"""Names and paths of the inventory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmount.vsphere.properties import Properties

DEEPEST = 256
"""Folders in each other that are followed: far more than anybody has."""

_ENCODED = re.compile("%(25|2f|5c)", re.IGNORECASE)


def decode_name(name: str) -> str:
    """Return a name as people see it: vSphere encodes the three characters % / and backslash."""
    return _ENCODED.sub(lambda matched: chr(int(matched[1], 16)), name)


def path_of(thing: Properties, others: Mapping[str, Properties]) -> str:
    """Return an object's inventory path, "/DC0/vm/folder/name", as vSphere writes it: encoded.

    `others` are the properties ("name", "parent") of what is above it, by their moRefs. What may not be
    read is "?".
    """
    return "/" + "/".join(_names(thing, others))


def datacenter_of(thing: Properties, others: Mapping[str, Properties]) -> str:
    """Return the inventory path of the data centre that an object is in, without a leading "/"; or ""."""
    from pyVmomi import vim

    above = _above(thing, others)
    for index, one in enumerate(above):
        if isinstance(one.reference, vim.Datacenter):
            return "/".join(reversed([_name(part) for part in above[index:] if _is_named(part)]))
    return ""


def _names(thing: Properties, others: Mapping[str, Properties]) -> list[str]:
    return [_name(one) for one in reversed([thing, *_above(thing, others)]) if _is_named(one)]


def _above(thing: Properties, others: Mapping[str, Properties]) -> list[Properties]:
    found: list[Properties] = []
    while len(found) < DEEPEST:
        parent: Any = thing.get("parent") or thing.get("parentVApp")
        if parent is None or parent._moId not in others:  # noqa: SLF001 (no other way to it)
            break
        thing = others[parent._moId]  # noqa: SLF001
        found.append(thing)
    return found


def _name(thing: Properties) -> str:
    return str(thing.get("name", "?"))


def _is_named(thing: Properties) -> bool:
    """Whether an object is in paths: the root folder is not."""
    from pyVmomi import vim

    is_root = isinstance(thing.reference, vim.Folder) and thing.get("parent") is None
    return not is_root or "name" not in thing
