"""The snapshots that a machine has, and which of them is meant."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmount.errors import SourceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pyVmomi import vim

MOST_SHOWN = 32
"""Snapshots that an error lists: as many as vSphere allows in one line of descent."""
CURRENT, NEW = "current", "new"


@dataclass(frozen=True)
class SnapshotNode:
    """A snapshot in a machine's tree."""

    moref: str
    name: str
    path: str
    """The names from the root of the tree, "/" between them."""
    description: str
    created: datetime
    is_quiesced: bool
    is_current: bool

    def __str__(self) -> str:
        return f"{self.moref} {self.name!r}"


class Power(enum.Enum):
    """Whether a machine may write to its disks."""

    ON = "poweredOn"
    OFF = "poweredOff"
    SUSPENDED = "suspended"
    """Its disks are as they were in the middle of its work, and it may be woken at any time."""


def read_tree(info: vim.vm.SnapshotInfo | None) -> list[SnapshotNode]:
    """Return the snapshots of a machine, parents before children. `info`: its property "snapshot"."""
    if info is None:
        return []
    current = None if info.currentSnapshot is None else info.currentSnapshot._moId  # noqa: SLF001
    nodes = []
    waiting = [(tree, "") for tree in reversed(info.rootSnapshotList)]
    while waiting:
        tree, above = waiting.pop()
        path = f"{above}/{tree.name}" if above else tree.name
        moref = tree.snapshot._moId  # noqa: SLF001
        nodes.append(
            SnapshotNode(
                moref,
                tree.name,
                path,
                tree.description or "",
                tree.createTime,
                bool(tree.quiesced),
                moref == current,
            )
        )
        waiting += [(child, path) for child in reversed(tree.childSnapshotList or [])]
    return nodes


def choose(
    which: str | None, vm: str, nodes: Sequence[SnapshotNode], power: Power
) -> SnapshotNode | str | None:
    """Return the snapshot to be read: one that exists, NEW, or None for the disks as they are.

    `which`: CURRENT, NEW, a moRef, a name or a path; None for what is best. Raises SourceError for a
    snapshot that does not exist, UsageError for a name that several have.
    """
    if which is None:
        return None if power is Power.OFF else NEW
    if which == NEW:
        return NEW
    if which == CURRENT:
        found = [node for node in nodes if node.is_current]
    else:
        found = [node for node in nodes if node.moref == which] or [
            node for node in nodes if which in (node.name, node.path)
        ]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f"{vm}: several snapshots are called {which!r}: {listed(found)}",
            remedy="give its moRef",
        )
    has = f"it has {listed(nodes)}" if nodes else "it has none"
    wanted = "no current snapshot" if which == CURRENT else f"no snapshot {which!r}"
    raise SourceError(f"{vm}: {wanted}; {has}")


def listed(nodes: Sequence[SnapshotNode]) -> str:
    """Return snapshots in one line."""
    shown = ", ".join(map(str, nodes[:MOST_SHOWN]))
    return f"{shown} and {len(nodes) - MOST_SHOWN} more" if len(nodes) > MOST_SHOWN else shown
