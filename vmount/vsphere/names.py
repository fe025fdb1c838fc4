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


def path_of(undo_record: Properties, others: Mapping[str, Properties]) -> str:
    """Return an object's inventory path, "/DC0/vm/folder/name", as vSphere writes it: encoded.

    `others` are the properties ("name", "parent") of what is above it, by their moRefs. What may not be
    read is "?".
    """
    return "/" + "/".join(_names(undo_record, others))


def datacenter_of(undo_record: Properties, others: Mapping[str, Properties]) -> str:
    """Return the inventory path of the data centre that an object is in, without a leading "/"; or ""."""
    from pyVmomi import vim

    above = _above(undo_record, others)
    for index, one in enumerate(above):
        if isinstance(one.reference, vim.Datacenter):
            return "/".join(reversed([_name(part) for part in above[index:] if _is_named(part)]))
    return ""


def _names(undo_record: Properties, others: Mapping[str, Properties]) -> list[str]:
    return [
        _name(one)
        for one in reversed([undo_record, *_above(undo_record, others)])
        if _is_named(one)
    ]


def _above(undo_record: Properties, others: Mapping[str, Properties]) -> list[Properties]:
    found: list[Properties] = []
    while len(found) < DEEPEST:
        parent: Any = undo_record.get("parent") or undo_record.get("parentVApp")
        if parent is None or parent._moId not in others:  # noqa: SLF001 (no other way to it)
            break
        undo_record = others[parent._moId]  # noqa: SLF001
        found.append(undo_record)
    return found


def _name(undo_record: Properties) -> str:
    return str(undo_record.get("name", "?"))


def _is_named(undo_record: Properties) -> bool:
    """Whether an object is in paths: the root folder is not."""
    from pyVmomi import vim

    is_root = isinstance(undo_record.reference, vim.Folder) and undo_record.get("parent") is None
    return not is_root or "name" not in undo_record
