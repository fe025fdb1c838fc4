"""What a mount shows: the tree of a set of disks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vmount.disks.disk import path_component, unique_name
from vmount.guest.links import DriveLinks
from vmount.tree.tree import (
    INO_MASK,
    RAW_MODE,
    ROOT,
    BlockFile,
    Directory,
    Link,
    MountedVolume,
    TextFile,
    Tree,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vmount.disk_set import OpenDiskSet
    from vmount.guest import RootMount


def build_tree(
    manager: OpenDiskSet,
    info: Callable[[], bytes],
    status: Callable[[], bytes],
    raw_mode: int = RAW_MODE,
) -> Tree:
    """Lay out what a mount shows: info.json, disks/, volumes/, the guest's drives/ and root/, and the
    hidden .vmount/. `raw_mode` is the mode of the block files."""
    tree = Tree(raw_mode)
    tree.add(ROOT, b"info.json", TextFile(info))
    disks = tree.add(ROOT, b"disks", Directory())
    for disk in manager.disks:
        if disk.data is not None:
            tree.add(disks, os.fsencode(f"{disk.name}.raw"), BlockFile(disk.data))
    volumes = tree.add(ROOT, b"volumes", Directory())
    taken: set[str] = set()
    shown_as = tree.shown_as
    filesystems = {
        volume.name: volume.filesystem
        for volume in manager.volumes
        if volume.filesystem is not None
    }
    links = DriveLinks(manager.guest.drives, shown_as, filesystems)
    for volume in manager.volumes:
        if volume.data is None:
            continue
        name = unique_name(path_component(volume.name), taken)
        tree.add(volumes, os.fsencode(f"{name}.raw"), BlockFile(volume.data))
        if volume.filesystem is not None:
            shown = MountedVolume(
                volume.name, volume.name, volume.filesystem, volume.data, links=links
            )
            tree.add_volume(volumes, os.fsencode(name), shown)
            shown_as[volume.name] = name
    letters = manager.guest.drives.letters
    if letters:
        drives = tree.add(ROOT, b"drives", Directory())
        for letter in sorted(letters):
            volume_name = letters[letter].volume
            link = Link(os.fsencode(f"../volumes/{shown_as[volume_name]}"))
            tree.add_link(drives, letter.encode(), link, volume_name)
    _add_root(tree, manager.guest.root)
    control = tree.add(ROOT, b".vmount", Directory())
    tree.add(control, b"status.json", TextFile(status, changing=True))
    return tree


def _add_root(tree: Tree, mounts: Sequence[RootMount]) -> None:
    """Show the guest's own tree as root/: its volumes, each in place of the directory that it covers."""
    numbers: list[int] = []
    for volume, path, at in mounts:
        assert volume.filesystem is not None
        assert volume.data is not None
        top = numbers[0] if numbers else None
        shown = MountedVolume(f"root{path}", volume.name, volume.filesystem, volume.data, top)
        if at is None:
            numbers.append(tree.add_volume(ROOT, b"root", shown))
        else:
            below, ino = at
            numbers.append(tree.cover(numbers[below] & ~INO_MASK | ino, shown))
