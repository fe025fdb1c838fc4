"""Datastores written by ESXi, read by the parser and by readers that nobody here wrote."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.support.parsers.vmfs.readers import (
    FileReader,
    open_files,
    paths_of,
    read_data,
    read_runs,
    walk_dissect,
    walk_mounted,
    walk_parser,
)
from vmount.parsers.detect import Candidate, detect
from vmount.parsers.errors import NotRecognised, Unsupported
from vmount.parsers.model import Inline, Runs
from vmount.parsers.reader import BytesReader, Span, run_sync
from vmount.parsers.signatures import identify
from vmount.parsers.vmfs.discover import read_member
from vmount.parsers.vmfs.filesystem import open_vmfs

NORMAL, LARGE, RDM = "/normal-flat.vmdk", "/large-flat.vmdk", "/rdm-rdm.vmdk"


@pytest.mark.requirement("R26")
@pytest.mark.mount
def test_vmfs_tools_see_the_same(luns: dict[str, Path], name: str, fuse: Path) -> None:
    """Where vmfs-tools and vmfs6-tools differ from the parser, dissect.vmfs agrees with the parser, and
    so does what is known of how the files were made."""
    filesystem = open_files([luns[name]])
    seen = walk_parser(filesystem)
    theirs = walk_mounted(fuse, paths_of(filesystem))
    assert len(seen) > 130
    assert seen.keys() == theirs.keys()
    if name == "vmfs5":
        # Its mode says directory; vmfs-tools make a socket of both bits together.
        folder = theirs.pop("/.sdd.sf")
        assert stat.S_ISSOCK(folder.kind) or stat.S_ISBLK(folder.kind)
        assert stat.S_ISDIR(seen.pop("/.sdd.sf").kind)
        # vmfs-tools know no double pointer blocks, which came with VMFS-5's files beyond 256 GiB.
        assert theirs.pop(LARGE).content == "EINVAL"
        seen.pop(LARGE)
    else:
        # vmfs6-tools read zeros behind a single level of pointer blocks, where 0x42 was written.
        theirs.pop(NORMAL)
        seen.pop(NORMAL)
    assert seen == theirs


@pytest.mark.requirement("R26")
def test_dissect_sees_the_same(luns: dict[str, Path], name: str) -> None:
    filesystem = open_files([luns[name]])
    seen = walk_parser(filesystem)
    theirs = walk_dissect([luns[name]], paths_of(filesystem))
    # The parser gives a raw device mapping as a file, as vmfs-tools do: it is no device here.
    assert stat.S_ISBLK(theirs[RDM].kind)
    theirs[RDM] = theirs[RDM]._replace(kind=stat.S_IFREG)
    assert seen == theirs


def test_a_disk_of_42_tebibytes_has_what_was_written(luns: dict[str, Path], name: str) -> None:
    """What the makers of the LUN wrote: see the tests of dissect.vmfs."""
    filesystem = open_files([luns[name]])
    files = paths_of(filesystem)
    for path, size, place in ((NORMAL, 69 << 30, 42 << 30), (LARGE, 42 << 40, 117 << 30)):
        data = files[path][1]
        assert data is not None
        assert data.size == size
        assert isinstance(data.layout, Runs)
        assert len(data.layout.runs) == 3
        assert read_data(filesystem, data, Span(place - 8, 16)) == bytes(8) + b"\x42" * 8


def test_small_files_are_in_their_descriptors(luns: dict[str, Path], name: str) -> None:
    data = paths_of(open_files([luns[name]]))["/small"][1]
    assert data is not None
    assert data.layout == Inline(b"tiny\n")


def test_a_raw_device_mapping_is_refused_by_name(luns: dict[str, Path], name: str) -> None:
    filesystem = open_files([luns[name]])
    attrs = run_sync(filesystem.lookup(filesystem.root, b"rdm-rdm.vmdk"))
    assert attrs is not None
    with pytest.raises(Unsupported, match="raw device mapping"):
        run_sync(filesystem.data(attrs.ino))


def test_what_the_datastore_says_of_itself(luns: dict[str, Path], name: str) -> None:
    """The UUID and the version are debugvmfs's for VMFS-5."""
    filesystem = open_files([luns[name]])
    expected = {
        "vmfs5": ("5.81", "68626efc-2ea12e18-b4ef-bc2411b17e28"),
        "vmfs6": ("6.82", "68626f2d-90e23158-8a2e-bc2411b17e28"),
    }
    assert (filesystem.version, filesystem.uuid) == expected[name]
    assert filesystem.label == name
    (extent,) = filesystem.extents
    assert extent.name.startswith("t10.ATA_____QEMU_HARDDISK")
    member = run_sync(read_member(FileReader(luns[name])))
    assert (member.uuid, member.label, member.device_count) == (filesystem.uuid, name, 1)
    assert member.device_uuid == extent.uuid


@pytest.mark.requirement("R42")
def test_runs_on_the_device_lead_to_the_same_bytes(luns: dict[str, Path], name: str) -> None:
    """Whoever reads a file by `device_runs` needs no file system."""
    filesystem = open_files([luns[name]])
    reader = FileReader(luns[name])
    checked = 0
    for ino, data in paths_of(filesystem).values():
        if data is None or data.size > 1 << 20:
            continue
        content = b""
        for run in run_sync(filesystem.device_runs(ino)):
            assert run.device in (0, None)
            assert run.offset == len(content)
            if run.device is None:
                content += bytes(run.length)
            else:
                content += run_sync(reader.read(run.start, run.length))
        assert content == read_data(filesystem, data, Span(0, data.size))
        checked += 1
    assert checked > 100


def test_opening_and_listing_take_few_reads(luns: dict[str, Path], name: str) -> None:
    reader = FileReader(luns[name])
    filesystem = run_sync(open_vmfs([reader]))
    assert reader.reads <= 8
    attrs = run_sync(filesystem.lookup(filesystem.root, b"directory"))
    assert attrs is not None
    before = reader.reads
    assert len(run_sync(filesystem.listdir(attrs.ino))) == 100
    assert reader.reads - before <= 8


def test_other_disks_are_not_recognised() -> None:
    for size in (0, 4096, 4 << 20):
        with pytest.raises(NotRecognised):
            run_sync(open_vmfs([BytesReader(bytes(size))]))


def test_a_datastore_given_as_a_disk_says_what_to_give_instead(
    luns: dict[str, Path], name: str
) -> None:
    reader = FileReader(luns[name])
    signature = run_sync(identify(reader))
    found = run_sync(detect(Candidate(reader), signature))
    assert found.fstype == "VMFS_volume_member"
    assert found.filesystem is None
    assert found.problem is not None
    assert "san:DEVICE:" in found.problem


def test_runs_are_read_across_their_borders(luns: dict[str, Path], name: str) -> None:
    filesystem = open_files([luns[name]])
    data = paths_of(filesystem)["/bigger"][1]
    assert data is not None
    assert isinstance(data.layout, Runs)
    span = Span((5 << 20) - 3, 6)
    assert read_runs(data.layout.runs, span, filesystem.volume.read) == b"\4\4\4\5\5\5"
