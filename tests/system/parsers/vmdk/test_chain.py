"""Chains of snapshots: long, changed, cyclic, of different lengths (R31), and what opening them costs."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from fixtures.vmdk import to_raw
from tests.support.parsers.vmdk import build
from tests.support.parsers.vmdk.support import FolderOpener, assert_same, flat, open_path
from vmount.parsers.errors import Corrupt
from vmount.parsers.reader import run_sync
from vmount.parsers.vmdk import chain
from vmount.parsers.vmdk.disk import open_vmdk

SECTOR = 512
SECTORS = 3 * 4096 + 5


def _chain(folder: Path, links: int, *, sectors: int = SECTORS, grains: int = 6) -> Path:
    """Write a flat base and COWD, seSparse and hosted deltas over it by turns; return the top."""
    source = random.Random(links)
    (folder / "link0-flat.vmdk").write_bytes(source.randbytes(SECTORS * SECTOR))
    text = build.descriptor([f'RW {SECTORS} VMFS "link0-flat.vmdk"'], cid=100, create_type="vmfs")
    path = folder / "link0.vmdk"
    path.write_text(text)
    for number in range(1, links):
        path = folder / f"link{number}.vmdk"
        parent = (99 + number, f"link{number - 1}.vmdk")
        name = f"link{number}-delta.vmdk"
        kind, size = (("SPARSE", 128), ("VMFSSPARSE", 1), ("SESPARSE", 8))[number % 3]
        limit = -(-sectors // size)
        content = {source.randrange(limit): source.randbytes(size * SECTOR) for _ in range(grains)}
        line = f'RW {sectors} {kind} "{name}"'
        text = build.descriptor([line], cid=100 + number, parent=parent)
        if kind == "SPARSE":
            build.hosted(sectors, dict(content)).write(folder / name)
        elif kind == "SESPARSE":
            build.space_efficient(sectors, dict(content)).write(folder / name)
        else:
            build.cow(sectors, content).write(folder / name)
        path.write_text(text)
    return path


@pytest.mark.requirement("R31")
@pytest.mark.parametrize("links", [1, 2, 32, 255])
def test_chains_read_as_qemu_img_reads_them(folder: Path, links: int) -> None:
    path = _chain(folder, links)
    disk = open_path(path)
    assert len(disk.links) == links
    assert disk.links[0].name == str(path)
    assert [link.descriptor.cid for link in disk.links] == list(range(99 + links, 99, -1))
    assert {link.descriptor.ddb["virtualHWVersion"] for link in disk.links} == {"14"}
    assert disk.links[-1].files == (str(folder / "link0-flat.vmdk"),)
    expected = to_raw(path, folder / "raw") if links > 1 else folder / "link0-flat.vmdk"
    assert_same(disk, flat(expected), 3000)


@pytest.mark.requirement("R31")
def test_a_chain_beyond_what_vmware_allows_is_refused(folder: Path) -> None:
    path = _chain(folder, 257, grains=1)
    with pytest.raises(Corrupt, match="chain too long: expected at most 256 links"):
        open_path(path)
    assert len(open_path(folder / "link255.vmdk").links) == 256


@pytest.mark.requirement("R31")
def test_a_long_chain_costs_two_reads_a_link_and_little_time(folder: Path) -> None:
    path = _chain(folder, 255)
    opener = FolderOpener()
    start = time.perf_counter()
    disk = run_sync(open_vmdk(opener, str(path)))
    assert time.perf_counter() - start < 2
    assert opener.reads <= 2 * 255
    before = opener.reads
    run_sync(disk.read(0, SECTORS * SECTOR))
    # The first page of each delta was read for its header, its tables are mostly in it.
    assert opener.reads - before < 3000
    before = opener.reads
    start = time.perf_counter()
    for offset in range(0, 4 << 20, 4096):
        assert disk.try_read(offset, 4096) is not None
    assert time.perf_counter() - start < 0.5
    assert opener.reads == before


@pytest.mark.requirement("R31")
@pytest.mark.parametrize("sectors", [SECTORS - 100, SECTORS + 300])
def test_a_parent_of_another_length(folder: Path, sectors: int) -> None:
    path = _chain(folder, 2, sectors=sectors)
    disk = open_path(path)
    how = "longer" if sectors < SECTORS else "shorter"
    assert [how in warning for warning in disk.warnings] == [True]
    assert_same(disk, flat(to_raw(path, folder / "raw")), 1000)


def test_a_parent_that_changed_is_refused_unless_forced(folder: Path) -> None:
    path = _chain(folder, 2)
    base = folder / "link0.vmdk"
    base.write_text(base.read_text().replace("CID=00000064", "CID=0badf00d", 1))
    with pytest.raises(Corrupt, match=r"parentCID 00000064, .*link0\.vmdk has CID 0badf00d"):
        open_path(path)
    disk = open_path(path, force=True)
    assert "parent changed since the snapshot" in disk.warnings[0]
    assert_same(disk, flat(to_raw(_chain(folder, 2), folder / "raw")), 100)


def test_a_missing_parent_is_named(folder: Path) -> None:
    path = _chain(folder, 3)
    (folder / "link1.vmdk").unlink()
    with pytest.raises(FileNotFoundError, match=r"link1\.vmdk"):
        open_path(path)


def test_a_parent_that_is_no_vmdk_is_refused(folder: Path) -> None:
    path = _chain(folder, 2)
    (folder / "link0.vmdk").write_bytes(bytes(4096))
    with pytest.raises(Corrupt, match=r"link0\.vmdk: parent is not a VMDK"):
        open_path(path)


@pytest.mark.parametrize("links", [1, 2, 5])
def test_a_cyclic_chain_is_noticed(folder: Path, links: int) -> None:
    for number in range(links):
        text = build.descriptor(
            ["RW 8 ZERO"], cid=7, parent=(7, f"./ring{(number + 1) % links}.vmdk")
        )
        (folder / f"ring{number}.vmdk").write_text(text.replace("./", ""))
    with pytest.raises(Corrupt, match=r"chain has a cycle: .*ring0\.vmdk"):
        open_path(folder / "ring0.vmdk")


def test_one_half_of_a_reference_to_a_parent_is_refused_unless_forced(folder: Path) -> None:
    path = folder / "half.vmdk"
    text = build.descriptor(["RW 8 ZERO"], parent=(7, "gone.vmdk"))
    path.write_text(text.replace('parentFileNameHint="gone.vmdk"\n', ""))
    with pytest.raises(Corrupt, match="parentCID 00000007 without a parentFileNameHint"):
        open_path(path)
    assert "without a parentFileNameHint" in open_path(path, force=True).warnings[0]
    path.write_text(text.replace("parentCID=00000007", "parentCID=ffffffff"))
    with pytest.raises(Corrupt, match="parentFileNameHint without a parentCID"):
        open_path(path)


def test_extents_are_bounded_in_all_links_together(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        parent = None if number == 0 else (99 + number, f"link{number - 1}.vmdk")
        text = build.descriptor(["RW 1 ZERO"] * 50, cid=100 + number, parent=parent)
        (folder / f"link{number}.vmdk").write_text(text)
    assert open_path(folder / "link2.vmdk").size == 50 * SECTOR
    monkeypatch.setattr(chain, "MAX_EXTENTS_OF_CHAIN", 149)
    with pytest.raises(Corrupt, match="extents of a chain: expected 0x95, found 0x96"):
        open_path(folder / "link2.vmdk")
