"""Every file of every volume as the kernel's read-only mount shows it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fixtures.ext import EVERYDAY, ExtFixture
from tests.support.parsers.ext.support import FileSource, open_image, resolve, run, walk_volume
from vmount.parsers.ext.filesystem import open_ext
from vmount.parsers.model import XAttr

Volume = Callable[[str], ExtFixture]

MOUNTABLE = [recipe.name for recipe in EVERYDAY if recipe.mountable]
UNMOUNTABLE = [recipe.name for recipe in EVERYDAY if not recipe.mountable]


@pytest.mark.requirement("R17", "R37")
@pytest.mark.parametrize("name", MOUNTABLE)
def test_walk_is_the_kernels(ext_volume: Volume, name: str) -> None:
    fixture = ext_volume(name)
    source = FileSource(fixture.image)
    volume = run(open_ext(source))
    walked = sorted(walk_volume(volume, source), key=lambda pair: pair[0].path)
    assert [entry for entry, _ in walked] == [entry.walked for entry in fixture.entries]
    assert volume.info.warnings == ()


@pytest.mark.parametrize("name", MOUNTABLE)
def test_attributes_are_the_kernels(ext_volume: Volume, name: str) -> None:
    fixture = ext_volume(name)
    volume = open_image(fixture.image)
    for entry in fixture.entries:
        attrs = resolve(volume, entry.walked.path)
        assert (attrs.ino, attrs.uid, attrs.gid) == (entry.ino, entry.uid, entry.gid)
        assert (attrs.atime, attrs.ctime) == (entry.atime_ns, entry.ctime_ns)
        assert attrs.btime == entry.btime_ns
        assert _values(run(volume.xattrs(attrs.ino))) == entry.xattrs, entry.walked.path
        assert attrs.allocated == entry.allocated, entry.walked.path


@pytest.mark.parametrize("name", UNMOUNTABLE)
def test_walk_is_that_of_debugfs(ext_volume: Volume, name: str) -> None:
    """What debugfs copies has no device files, no owners' names and only whole seconds."""
    fixture = ext_volume(name)
    source = FileSource(fixture.image)
    volume = run(open_ext(source))
    walked = {entry.path: entry for entry, _ in walk_volume(volume, source)}
    copied = {entry.walked.path: entry.walked for entry in fixture.entries}
    left_out = {path for path in walked if path.startswith(b"special/")}
    assert walked.keys() - left_out == copied.keys() - left_out
    for path, entry in copied.items():
        mine = walked[path]
        assert (mine.type, mine.sha256, mine.target) == (entry.type, entry.sha256, entry.target)
        if entry.type == "file":
            assert (mine.size, mine.mode) == (entry.size, entry.mode)


@pytest.mark.parametrize("name", [recipe.name for recipe in EVERYDAY])
def test_info_is_blkids(ext_volume: Volume, name: str) -> None:
    fixture = ext_volume(name)
    info = open_image(fixture.image).info
    assert info.fstype == fixture.blkid["TYPE"]
    assert info.uuid == fixture.blkid["UUID"]
    assert info.label == fixture.label
    assert info.block_size == int(fixture.blkid["BLOCK_SIZE"])
    assert info.size == fixture.image.stat().st_size
    if fixture.mountable:
        assert info.free == fixture.free


def _values(attributes: object) -> dict[str, bytes]:
    assert isinstance(attributes, dict)
    values = {}
    for name, attribute in attributes.items():
        assert isinstance(attribute, XAttr)
        assert isinstance(attribute.value, bytes)
        values[name.decode()] = attribute.value
    return values
