"""Volumes whose machine stopped while it wrote: what our replay makes of the log is what the kernel's does."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.xfs import XfsFixture, make, mounted
from fixtures.xfs_states import STATES, State, build_state, build_torn
from tests.support.parsers.ext.support import FileSource, run, walk_volume
from vmount.parsers.errors import ParseError
from vmount.parsers.xfs.filesystem import XfsFilesystem, open_xfs
from vmount.parsers.xfs.superblock import decode_superblock
from vmount.parsers.xfs.volume import Volume


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
def test_walk_is_that_after_the_kernels_replay(xfs_folder: Path, state: State) -> None:
    _compare(build_state(state, xfs_folder))


@pytest.mark.parametrize("damage", ["head", "end", "middle"])
def test_what_was_being_written_to_the_log_is_left_out(xfs_folder: Path, damage: str) -> None:
    _compare(build_torn(STATES[1], damage, xfs_folder))


def _compare(fixture: XfsFixture) -> None:
    source = FileSource(fixture.image)
    volume = run(open_xfs(source))
    assert volume.info.warnings == ()
    walked = {entry.path: (entry, attrs) for entry, attrs in walk_volume(volume, source)}
    assert walked.keys() == {entry.walked.path for entry in fixture.entries}
    for expected in fixture.entries:
        entry, attrs = walked[expected.walked.path]
        assert entry == expected.walked
        assert (attrs.ino, attrs.allocated) == (expected.ino, expected.allocated)
        assert (attrs.uid, attrs.ctime, attrs.btime) == (
            expected.uid,
            expected.ctime_ns,
            expected.btime_ns,
        )
        xattrs = {
            name.decode(): attribute.value
            for name, attribute in run(volume.xattrs(attrs.ino)).items()
        }
        expected_xattrs = {
            name: value
            for name, value in expected.xattrs.items()
            if not name.startswith("trusted.SGI_ACL_")
        }
        assert xattrs == expected_xattrs


@pytest.mark.parametrize("name", ["stopped-early", "stopped-small-log"])
def test_without_the_log_the_volume_is_another(xfs_folder: Path, name: str) -> None:
    [state] = [state for state in STATES if state.name == name]
    fixture = build_state(state, xfs_folder)
    source = FileSource(fixture.image)
    superblock = decode_superblock(run(source.read(0, 4096)))
    volume = XfsFilesystem(Volume(source, superblock))
    try:
        walked = sorted(entry for entry, _ in walk_volume(volume, source))
    except (ParseError, AssertionError):
        return
    assert walked != [entry.walked for entry in fixture.entries]


def test_a_clean_log_takes_few_reads(xfs_folder: Path) -> None:
    """Of 512 MiB, as of any size: a handful of rounds of requests."""
    image = xfs_folder / "large-log.img"
    make(image, 2 << 30, "-l", "size=500m")
    for _ in range(2):
        with mounted(image) as root:
            (root / "file").write_text("x")
    source = FileSource(image)
    assert run(open_xfs(source)).info.warnings == ()
    assert sum(span.length for span in source.reads) < 1 << 20
    assert len(source.reads) - len(source.announced) < 20
