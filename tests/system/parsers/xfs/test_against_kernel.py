"""Every file of every volume as the kernel's read-only mount shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from fixtures.xfs import EVERYDAY, XfsFixture
from tests.support.parsers.ext.support import FileSource, resolve, run, walk_volume
from vmount.parsers.model import XAttr
from vmount.parsers.xfs.filesystem import open_xfs

Volume = Callable[[str], XfsFixture]

MOUNTABLE = [recipe.name for recipe in EVERYDAY if recipe.mountable]
UNMOUNTABLE = [recipe.name for recipe in EVERYDAY if not recipe.mountable]


@pytest.mark.requirement("R17", "R37")
@pytest.mark.parametrize("name", MOUNTABLE)
def test_walk_is_the_kernels(xfs_volume: Volume, name: str) -> None:
    fixture = xfs_volume(name)
    source = FileSource(fixture.image)
    volume = run(open_xfs(source))
    walked = sorted(walk_volume(volume, source), key=lambda pair: pair[0].path)
    assert [entry for entry, _ in walked] == [entry.walked for entry in fixture.entries]
    assert volume.info.warnings == ()


@pytest.mark.parametrize("name", MOUNTABLE)
def test_attributes_are_the_kernels(xfs_volume: Volume, name: str) -> None:
    """But for the stored form of access control lists, which the kernel shows root a second time."""
    fixture = xfs_volume(name)
    source = FileSource(fixture.image)
    volume = run(open_xfs(source))
    attrs_of = {entry.path: attrs for entry, attrs in walk_volume(volume, source)}
    for entry in fixture.entries:
        attrs = attrs_of[entry.walked.path]
        assert (attrs.ino, attrs.uid, attrs.gid) == (entry.ino, entry.uid, entry.gid)
        assert (attrs.atime, attrs.ctime) == (entry.atime_ns, entry.ctime_ns)
        assert attrs.btime == entry.btime_ns
        expected = {
            key: value
            for key, value in entry.xattrs.items()
            if not key.startswith("trusted.SGI_ACL_")
        }
        assert _values(run(volume.xattrs(attrs.ino))) == expected, entry.walked.path
        assert attrs.allocated == entry.allocated, entry.walked.path


@pytest.mark.parametrize("name", UNMOUNTABLE)
def test_walk_is_what_mkfs_was_given(xfs_volume: Volume, name: str) -> None:
    """But for times, and for links' permissions and sizes of directories."""
    fixture = xfs_volume(name)
    source = FileSource(fixture.image)
    volume = run(open_xfs(source))
    walked = {entry.path: (entry, attrs) for entry, attrs in walk_volume(volume, source)}
    assert walked.keys() == {entry.walked.path for entry in fixture.entries}
    for given in fixture.entries:
        mine, attrs = walked[given.walked.path]
        entry = given.walked
        assert (mine.type, mine.sha256, mine.target) == (entry.type, entry.sha256, entry.target)
        assert (attrs.uid, attrs.gid, mine.rdev) == (given.uid, given.gid, entry.rdev)
        if entry.type != "link":
            assert mine.mode == entry.mode, entry.path
        if entry.type != "dir":
            assert mine.size == entry.size


@pytest.mark.parametrize("name", [recipe.name for recipe in EVERYDAY])
def test_every_name_is_found(xfs_volume: Volume, name: str) -> None:
    fixture = xfs_volume(name)
    volume = run(open_xfs(FileSource(fixture.image)))
    for path in (b"large", b"names", b"deep", b"files"):
        folder = resolve(volume, path)
        for child in run(volume.listdir(folder.ino)):
            assert run(volume.lookup(folder.ino, child.name)) == child.attrs
        for missing in (b"a rather long name, number 00000 ", b"x", b".", b"n" * 254):
            assert run(volume.lookup(folder.ino, missing)) is None


@pytest.mark.parametrize("name", [recipe.name for recipe in EVERYDAY])
def test_info_is_blkids(xfs_volume: Volume, name: str) -> None:
    fixture = xfs_volume(name)
    info = run(open_xfs(FileSource(fixture.image))).info
    assert info.fstype == fixture.blkid["TYPE"]
    assert info.uuid == fixture.blkid["UUID"]
    assert info.label == fixture.blkid.get("LABEL", "")
    assert info.size == fixture.image.stat().st_size
    assert info.free == fixture.free


def _values(attributes: Mapping[bytes, XAttr]) -> dict[str, bytes]:
    values = {}
    for name, attribute in attributes.items():
        assert isinstance(attribute.value, bytes)
        values[name.decode()] = attribute.value
    return values
