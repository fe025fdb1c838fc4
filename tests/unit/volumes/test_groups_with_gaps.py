"""Volume managers whose disks are missing or cannot be read: it costs the volumes on them, not the machine."""

from __future__ import annotations

import errno
import os

import pytest

from tests.support.parsers.volume_images import load
from vmount.disks.disk import Disk
from vmount.parsers.reader import Buffer, BytesReader, run_sync
from vmount.runtime import InlineRuntime
from vmount.volumes.find import Found, find_volumes


class Unreadable(BytesReader):
    """A disk of which a range cannot be read."""

    def __init__(self, data: Buffer, start: int, end: int) -> None:
        super().__init__(data)
        self._gone = range(start, end)

    def try_read(self, offset: int, length: int) -> Buffer:
        if offset < self._gone.stop and offset + length > self._gone.start:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().try_read(offset, length)


def found_on(*sources: BytesReader) -> Found:
    """Return what is on disks that have no partitions."""
    disks = [Disk(f"disk{number}", "disk", "raw", source) for number, source in enumerate(sources)]
    return run_sync(find_volumes(disks, InlineRuntime()))


def problem_of(found: Found, name: str) -> str:
    (volume,) = [volume for volume in found.volumes if volume.name == name]
    return volume.problem or ""


def test_a_thin_pool_that_lacks_a_disk_costs_its_volumes() -> None:
    first, _ = load("lvm-thin").members.values()
    found = found_on(BytesReader(first))
    thin = [volume for volume in found.volumes if volume.name.startswith("lvm-")]
    assert thin
    assert any("is missing" in (volume.problem or "") for volume in thin)
    assert all(volume.filesystem is None for volume in thin)


@pytest.mark.parametrize("group", ["lvm-thin", "lvm-raids", "lvm-plain", "lvm-snap", "md-far"])
@pytest.mark.parametrize("kept", [1 << 20, 5 << 20])
def test_disks_that_break_off_cost_what_is_on_them(group: str, kept: int) -> None:
    """The labels and texts at the beginning are there; superblocks of arrays, pools and stores are not."""
    members = load(group).members
    found = found_on(*(Unreadable(data, kept, len(data)) for data in members.values()))
    assert len(found.volumes) >= len(members)


def test_an_array_whose_superblock_cannot_be_read_is_not_judged_by_the_others() -> None:
    members = load("lvm-raids").members
    whole = found_on(*map(BytesReader, members.values()))
    broken = found_on(*(Unreadable(data, 1 << 20, 2 << 20) for data in members.values()))
    assert problem_of(whole, "lvm-vgraids-raid4") == "no known file system"
    assert "superblock cannot be read" in problem_of(broken, "lvm-vgraids-raid4")
