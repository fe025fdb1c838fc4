"""Every file of every fixture volume, through the mount and through the API, as another program saw it."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

import pytest

from fixtures.ext import EVERYDAY, ExtFixture
from fixtures.ext import build as build_ext
from fixtures.ntfs import NtfsVolume, build_fragmented_mft, build_small
from fixtures.walk import WalkEntry, hash_ranges, type_name, walk
from fixtures.xfs import EVERYDAY as XFS_EVERYDAY
from fixtures.xfs import XfsFixture
from fixtures.xfs import build as build_xfs
from tests.system.parsers.ntfs.test_walk import adjusted, by_tag
from vmount.api import DiskSet, open_disks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.mounts.conftest import Vmount
    from vmount.parsers.model import Attrs

pytestmark = pytest.mark.mount


@pytest.fixture(scope="module")
def ext_volumes(images: Path) -> list[ExtFixture]:
    return [build_ext(recipe, images) for recipe in EVERYDAY if recipe.mountable]


@pytest.fixture(scope="module")
def ntfs_volumes(images: Path) -> list[NtfsVolume]:
    return [build_small(images), build_small(images, 512), build_fragmented_mft(images)]


@pytest.fixture(scope="module")
def xfs_volume(images: Path) -> XfsFixture:
    [recipe] = [recipe for recipe in XFS_EVERYDAY if recipe.name == "xfs-1k-dir-4k"]
    return build_xfs(recipe, images)


def expected_of_ext(volume: ExtFixture) -> list[WalkEntry]:
    return [entry.walked for entry in volume.entries]


def expected_of_ntfs(volume: NtfsVolume) -> list[WalkEntry]:
    return [adjusted(entry) for entry in volume.walk if not by_tag(entry.path)]


def has_content(path: bytes) -> bool:
    return not by_tag(path)


def walk_api(disks: DiskSet, volume: str) -> list[WalkEntry]:
    """Walk a volume as `fixtures.walk.walk` does a mounted one."""
    found = [_entry(disks, volume, "", disks.stat(volume))]
    for folder, entries in disks.walk_entries(volume):
        for name, attrs in entries:
            assert attrs is not None
            path = f"{folder}/{name}"
            found.append(_entry(disks, path, path.removeprefix(f"{volume}/"), attrs))
    return sorted(found)


def _entry(disks: DiskSet, path: str, shown: str, attrs: Attrs) -> WalkEntry:
    digest = target = None
    if stat.S_ISREG(attrs.mode) and has_content(os.fsencode(shown)):
        hashed = hashlib.sha256()
        with disks.open(path) as file:
            for offset, length in hash_ranges(attrs.size):
                file.seek(offset)
                hashed.update(file.read(length))
        digest = hashed.hexdigest()
    if stat.S_ISLNK(attrs.mode):
        target = os.fsencode(disks.readlink(path))
    return WalkEntry(
        os.fsencode(shown),
        type_name(attrs.mode),
        stat.S_IMODE(attrs.mode),
        attrs.nlink,
        attrs.size,
        digest,
        target,
        attrs.mtime,
        attrs.rdev,
    )


@pytest.mark.requirement("R36")
def test_all_ext_volumes_in_one_mount(vmount: Vmount, ext_volumes: list[ExtFixture]) -> None:
    with vmount.mounted(*(volume.image for volume in ext_volumes)) as mountpoint:
        for number, volume in enumerate(ext_volumes):
            assert walk(mountpoint / f"volumes/disk{number}") == expected_of_ext(volume), (
                volume.name
            )


@pytest.mark.requirement("R36")
def test_all_ntfs_volumes_in_one_mount(vmount: Vmount, ntfs_volumes: list[NtfsVolume]) -> None:
    with vmount.mounted(*(volume.image for volume in ntfs_volumes)) as mountpoint:
        for number, volume in enumerate(ntfs_volumes):
            found = walk(mountpoint / f"volumes/disk{number}", has_content)
            assert [entry for entry in found if not by_tag(entry.path)] == expected_of_ntfs(volume)


@pytest.mark.requirement("R36")
def test_an_xfs_volume_with_its_attributes(vmount: Vmount, xfs_volume: XfsFixture) -> None:
    with vmount.mounted("--owner", "guest", xfs_volume.image) as mountpoint:
        top = mountpoint / "volumes/disk0"
        assert walk(top) == [entry.walked for entry in xfs_volume.entries]
        for entry in xfs_volume.entries:
            path = os.fsencode(top) + b"/" + entry.walked.path
            names = os.listxattr(path, follow_symlinks=False)
            values = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
            expected = {
                name: value
                for name, value in entry.xattrs.items()
                if not name.startswith("trusted.SGI_ACL_")
            }
            assert values == expected, path


def test_all_ext_volumes_through_the_api(ext_volumes: list[ExtFixture]) -> None:
    with open_disks(*(volume.image for volume in ext_volumes)) as disks:
        for number, volume in enumerate(ext_volumes):
            assert walk_api(disks, f"disk{number}") == expected_of_ext(volume), volume.name


def test_all_ntfs_volumes_through_the_api(ntfs_volumes: list[NtfsVolume]) -> None:
    with open_disks(*(volume.image for volume in ntfs_volumes)) as disks:
        for number, volume in enumerate(ntfs_volumes):
            found = walk_api(disks, f"disk{number}")
            assert [entry for entry in found if not by_tag(entry.path)] == expected_of_ntfs(volume)


def test_owners_and_attributes_of_the_guest(vmount: Vmount, ext_volumes: list[ExtFixture]) -> None:
    volume = ext_volumes[0]
    with vmount.mounted("--owner", "guest", volume.image) as mountpoint:
        for entry in volume.entries:
            path = os.fsencode(mountpoint / "volumes/disk0") + b"/" + entry.walked.path
            found = os.lstat(path)
            assert (found.st_uid, found.st_gid) == (entry.uid, entry.gid)
            assert found.st_blocks * 512 == entry.allocated
            names = os.listxattr(path, follow_symlinks=False)
            values = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
            assert values == entry.xattrs, path
