"""What is served of a disk set, whoever serves it: its tree, its volumes and what it tells of itself.

No FUSE here. `serve` puts the kernel's file system on it; another front end, such as a web page, gives a
`FrontEnd` of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmount.mounting.status import Statistics
from vmount.mounting.volume_mounts import VolumeMounts
from vmount.tree.builder import build_tree
from vmount.tree.info import as_json, describe
from vmount.tree.tree import RAW_MODE
from vmount.tree.walk_ahead import WalkAhead

if TYPE_CHECKING:
    import trio

    from vmount.disk_set import OpenDiskSet
    from vmount.mounting.volume_mounts import FrontEnd
    from vmount.tree.tree import Tree

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Assembled:
    """A disk set that is ready to be served. It is used in the event loop that it was assembled in."""

    manager: OpenDiskSet
    tree: Tree
    """Names, attributes, listings and contents by number."""
    walker: Tree | WalkAhead
    """What lists directories and opens files: the tree, or for distant disks what asks ahead of it."""
    statistics: Statistics
    top: str
    """Where the tree is shown: a mount point, or an address."""

    def connect(self, front_end: FrontEnd, volumes: Iterable[str] | None = None) -> VolumeMounts:
        """Return the volumes as `front_end` shows them: those named, or all.

        Raises UsageError for a volume that does not exist, SourceError for one that cannot be read.
        """
        self.statistics.front_end = front_end
        mounts = VolumeMounts(self.manager, self.tree, front_end, self.top)
        if volumes is not None:
            mounts.show_only(volumes)
        return mounts


def assemble(
    manager: OpenDiskSet,
    nursery: trio.Nursery,
    *,
    top: str,
    sources: Sequence[str],
    raw_mode: int = RAW_MODE,
) -> Assembled:
    """Make of an open disk set what can be served, and log what the user should know of the guest.

    `nursery` runs what asks ahead; `top` is where the tree will be shown; `sources` are named as all users
    may see them; `raw_mode` is the mode of block files. The disk set stays the caller's to close.
    """
    for warning in manager.guest.warnings:
        log.warning("%s", warning)
    info = as_json(describe(manager)).encode()
    statistics = Statistics(top, sources, manager)
    tree = build_tree(manager, lambda: info, lambda: as_json(statistics.now()).encode(), raw_mode)
    is_distant = any(disk.remote is not None for disk in manager.disks)
    walker = WalkAhead(tree, nursery) if is_distant else tree
    return Assembled(manager, tree, walker, statistics, top)
