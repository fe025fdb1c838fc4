"""Groups of the builder: every layout against ldmtool, and states of a group that are hard to make."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.parsers.ldm.build import (
    ALL_KINDS,
    MIRROR_OF_SPANS,
    Group,
    Piece,
    Volume,
    newer,
    raid5,
    spanned,
    volume_record,
    write_disk,
    write_group,
)
from tests.support.parsers.ldm.reading import (
    assemble_files,
    assert_as_ldmtool,
    extents,
    open_disk,
    read_disk,
    source_of,
)
from vmount.blocks.assembly import build_source
from vmount.parsers.ldm.group import LdmVolume, assemble
from vmount.parsers.reader import run_sync

needs_ldmtool = pytest.mark.skipif(shutil.which("ldmtool") is None, reason="needs ldmtool")
GROUP = Group(4, ALL_KINDS)


def by_name(volumes: tuple[LdmVolume, ...]) -> dict[str, LdmVolume]:
    return {volume.name: volume for volume in volumes}


@pytest.mark.requirement("R35")
@needs_ldmtool
@pytest.mark.parametrize("gpt", [False, True], ids=["mbr", "gpt"])
@pytest.mark.parametrize("revision", [3, 4])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_all_layouts_as_ldmtool_has_them(
    tmp_path: Path, gpt: bool, revision: int, seed: int
) -> None:
    paths = write_group(replace(GROUP, gpt=gpt, revision=revision, seed=seed), tmp_path)
    result = assemble_files(*paths)
    assert result.warnings == ()
    assert_as_ldmtool(result, *paths, in_order=seed == 0)


@pytest.mark.requirement("R35")
def test_a_span_is_in_the_order_of_the_volume_whatever_that_of_its_records(
    tmp_path: Path,
) -> None:
    for seed in range(4):
        volume = by_name(assemble_files(*write_group(replace(GROUP, seed=seed), tmp_path)).volumes)
        assert [
            (extent.disk, extent.length // 512) for extent in extents(volume["Span1"].mapping)
        ] == [
            ("disk2.img", 300),
            ("disk1.img", 400),
            ("disk2.img", 200),
        ]


@pytest.mark.requirement("R35")
@needs_ldmtool
@pytest.mark.parametrize("gpt", [False, True], ids=["mbr", "gpt"])
def test_two_groups_at_once(tmp_path: Path, gpt: bool) -> None:
    other = Group(2, (Volume("Simple1", 64, (spanned(Piece(1, 8, 64)),)),), "Other-Dg0", gpt=gpt)
    paths = write_group(GROUP, tmp_path) + write_group(other, tmp_path, "other")
    mine = assemble_files(*paths)
    assert mine.warnings == ()
    assert {volume.group for volume in mine.volumes} == {"Built-Dg0", "Other-Dg0"}
    assert_as_ldmtool(replace(mine, volumes=mine.volumes[-1:]), *paths[4:])
    assert_as_ldmtool(replace(mine, volumes=mine.volumes[:-1]), *paths[:4], in_order=False)


MIRROR_DATA = random.Random(3).randbytes(500 * 512)


def mirror_of_spans(tmp_path: Path, *left_out: int) -> tuple[LdmVolume, list[Path]]:
    paths = write_group(Group(4, (MIRROR_OF_SPANS,)), tmp_path)
    for copy in MIRROR_OF_SPANS.copies:
        position = 0
        for piece in copy.columns[0]:
            with paths[piece.disk].open("r+b") as file:
                file.seek((63 + piece.start) * 512)
                file.write(MIRROR_DATA[position : position + piece.size * 512])
            position += piece.size * 512
    rest = [path for number, path in enumerate(paths) if number not in left_out]
    (volume,) = assemble_files(*rest).volumes
    assert volume.kind == "mirrored"
    return volume, rest


@pytest.mark.requirement("R35")
@pytest.mark.parametrize("left_out", [(), (0,), (1,), (2,), (3,), (0, 1), (2, 3)])
def test_a_mirror_of_spans(tmp_path: Path, left_out: tuple[int, ...]) -> None:
    volume, paths = mirror_of_spans(tmp_path, *left_out)
    assert volume.problem is None
    assert volume.degraded == bool(left_out)
    source = source_of(volume, *paths)
    assert run_sync(source.read(0, source.size)) == MIRROR_DATA


@pytest.mark.requirement("R35")
def test_a_mirror_of_spans_that_has_lost_a_part_of_each_copy(tmp_path: Path) -> None:
    volume, paths = mirror_of_spans(tmp_path, 0, 3)
    assert volume.problem is None
    assert volume.degraded
    source = source_of(volume, *paths)
    assert run_sync(source.read(0, source.size)) == MIRROR_DATA
    volume, _ = mirror_of_spans(tmp_path, 0, 2)
    assert volume.problem is not None
    assert "Disk1" in volume.problem
    assert "Disk3" in volume.problem


def test_a_copy_that_is_not_up_to_date_is_not_read(tmp_path: Path) -> None:
    good, bad = MIRROR_OF_SPANS.copies
    volume = replace(MIRROR_OF_SPANS, copies=(replace(good, state="STALE"), bad))
    paths = write_group(Group(4, (volume,)), tmp_path)
    (found,) = assemble_files(*paths).volumes
    assert found.problem is None
    assert found.degraded
    source = build_source(found.mapping, {path.name: open_disk(path) for path in paths[2:]})
    assert len(run_sync(source.read(0, source.size))) == 500 * 512


def test_the_newest_committed_database_is_used(tmp_path: Path) -> None:
    paths = write_group(newer(GROUP, volumes=(*ALL_KINDS, MIRROR_OF_SPANS)), tmp_path)
    write_disk(GROUP, 2, paths[2])
    result = assemble_files(*paths)
    assert [text for text in result.warnings if "older" in text] == [
        "disk group Built-Dg0: the database on disk3.img is older (100, not 101); the newest is used"
    ]
    volumes = by_name(result.volumes)
    assert set(volumes) == {"Simple1", "Span1", "Stripe1", "Mirror1", "Raid1", "Mirror2"}
    assert (volumes["Simple1"].problem, volumes["Simple1"].degraded) == (None, False)
    assert (volumes["Stripe1"].problem, volumes["Stripe1"].degraded) == (None, False)
    for name in ("Mirror1", "Raid1"):
        assert (volumes[name].problem, volumes[name].degraded) == (None, True)
        held = {path.name: open_disk(path) for path in paths if path != paths[2]}
        source = build_source(volumes[name].mapping, held)
        assert len(run_sync(source.read(0, source.size))) == source.size


def test_a_partition_that_an_old_member_does_not_know_is_missing(tmp_path: Path) -> None:
    added = Volume("New1", 64, (spanned(Piece(2, 2000, 64)),))
    paths = write_group(newer(GROUP, volumes=(*ALL_KINDS, added)), tmp_path)
    write_disk(GROUP, 2, paths[2])
    volume = by_name(assemble_files(*paths).volumes)["New1"]
    assert volume.problem is not None
    assert "has no such partition" in volume.problem


def test_a_record_of_an_unfinished_change_is_left_out(tmp_path: Path) -> None:
    coming = Volume("Coming1", 64, (spanned(Piece(0, 4000, 64)),))
    group = replace(
        GROUP,
        update_status=2,
        pending_sequence=101,
        extra=(volume_record(0x999, coming, status=2),),
    )
    result = assemble_files(*write_group(group, tmp_path))
    assert set(by_name(result.volumes)) == {volume.name for volume in ALL_KINDS}
    assert all(volume.problem is None for volume in result.volumes)
    assert result.warnings == (
        "disk group Built-Dg0: a change was in progress; the state before it is used",
    )


def names_of_disks(volume: LdmVolume) -> set[str]:
    return {extent.disk for extent in extents(volume.mapping)}


@pytest.mark.requirement("R33")
@pytest.mark.parametrize("missing", [None, 3])
def test_clones_in_order_are_told_apart(tmp_path: Path, missing: int | None) -> None:
    paths = write_group(GROUP, tmp_path)
    disks = [read_disk(open_disk(path)) for number, path in enumerate(paths) if number != missing]
    given = [(f"{which}{n}", disk) for which in "ab" for n, disk in enumerate(disks)]
    result = assemble(given)
    assert len(result.volumes) == 2 * len(ALL_KINDS)
    for volume in result.volumes:
        assert volume.problem is None
        assert len({name[0] for name in names_of_disks(volume)}) == 1
    assert "belong together: a0, a1, a2" in result.warnings[0]


@pytest.mark.requirement("R33")
def test_clones_of_some_disks_are_not_mixed_up(tmp_path: Path) -> None:
    disks = [read_disk(open_disk(path)) for path in write_group(GROUP, tmp_path)]
    given = [(f"a{n}", disk) for n, disk in enumerate(disks)] + [("b1", disks[1])]
    result = assemble(given)
    assert "more than once with different disks" in result.warnings[0]
    for volume in result.volumes:
        if volume.name == "Simple1" and volume.problem is None:
            assert names_of_disks(volume) == {"a0"}
        else:
            assert volume.problem is not None
    assert any(volume.problem is None for volume in result.volumes)


@pytest.mark.requirement("R33")
def test_clones_with_another_history_are_not_mixed_up(tmp_path: Path) -> None:
    old = [read_disk(open_disk(path)) for path in write_group(GROUP, tmp_path)]
    new = [read_disk(open_disk(path)) for path in write_group(newer(GROUP), tmp_path, "new")]
    mixed = [("a0", old[0]), ("b1", new[1]), ("b0", new[0]), ("a1", old[1])]
    for volume in assemble(mixed).volumes:
        assert volume.problem is not None or volume.name == "Simple1"


@pytest.mark.requirement("R34")
def test_volumes_without_a_letter_are_listed(tmp_path: Path) -> None:
    volumes = by_name(assemble_files(*write_group(GROUP, tmp_path)).volumes)
    assert volumes["Simple1"].drive_hint == "E:"
    assert volumes["Raid1"].drive_hint is None
    assert len({volume.guid for volume in volumes.values()}) == len(ALL_KINDS)


@pytest.mark.parametrize(
    "volume",
    [
        Volume("Gap1", 600, (spanned(Piece(0, 0, 300)),)),
        Volume("Far1", 600, (spanned(Piece(0, 1 << 40, 600)),)),
        Volume("Odd1", 601, (raid5(Piece(0, 0, 512), Piece(1, 0, 512), Piece(2, 0, 512)),)),
        Volume("Zero1", 512, (raid5(Piece(0, 0, 512), Piece(1, 0, 512), chunk=0),)),
        Volume("One1", 512, (raid5(Piece(0, 0, 512)),)),
        Volume("Type1", 512, (replace(spanned(Piece(0, 0, 512)), type=9),)),
        Volume("Empty1", 512, (spanned(),)),
        Volume("Huge1", 1 << 60, (spanned(Piece(0, 0, 512)),)),
    ],
    ids=lambda volume: volume.name,
)
def test_a_volume_that_does_not_add_up_is_refused_alone(tmp_path: Path, volume: Volume) -> None:
    paths = write_group(replace(GROUP, volumes=(*ALL_KINDS, volume)), tmp_path)
    volumes = by_name(assemble_files(*paths).volumes)
    assert volumes[volume.name].problem is not None
    assert all(volumes[each.name].problem is None for each in ALL_KINDS)


def test_a_disk_that_has_left_the_group_is_said(tmp_path: Path) -> None:
    group = Group(2, (Volume("Simple1", 64, (spanned(Piece(1, 8, 64)),)),))
    paths = write_group(newer(group, disks=1, volumes=()), tmp_path)
    write_disk(group, 1, tmp_path / "disk2.img")
    result = assemble_files(*paths, tmp_path / "disk2.img")
    assert result.volumes == ()
    assert "disk group Built-Dg0: disk2.img is no longer a member" in result.warnings


def test_no_disks() -> None:
    assert assemble([]).volumes == ()
