"""Dynamic disks that Windows Server 2003 R2 made, against ldmtool and ntfs-3g."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.parsers.ldm.reading import (
    assemble_files,
    assert_as_ldmtool,
    extents,
    open_disk,
    read_disk,
    source_of,
)
from vmount.parsers.ldm.disk import read_ldm_disk
from vmount.parsers.ldm.group import LdmVolume, assemble
from vmount.parsers.reader import BlockSource, Buffer, Span, run_sync

needs_ldmtool = pytest.mark.skipif(shutil.which("ldmtool") is None, reason="needs ldmtool")
needs_ntfscat = pytest.mark.skipif(shutil.which("ntfscat") is None, reason="needs ntfscat")

VOLUMES = {
    "simple": ["Volume1"],
    "spanned": ["Volume2"],
    "striped": ["Stripe1", "Volume4"],
    "mirrored": ["Volume3"],
    "raid5": ["Raid1"],
}
STEP = 1 << 20

Disks = dict[str, list[Path]]


def read_test_file(source: BlockSource, image: Path) -> bytes:
    """Write a volume out and let ntfs-3g read its file."""
    with image.open("wb") as file:
        for offset in range(0, source.size, STEP):
            data = bytes(run_sync(source.read(offset, min(STEP, source.size - offset))))
            if data.count(0) < len(data):
                file.seek(offset)
                file.write(data)
        file.truncate(source.size)
    done = subprocess.run(["ntfscat", "-f", image, "test.txt"], check=True, capture_output=True)
    image.unlink()
    return done.stdout


def volumes_on(paths: list[Path]) -> dict[str, LdmVolume]:
    return {volume.name: volume for volume in assemble_files(*paths).volumes}


@pytest.mark.requirement("R35")
@needs_ldmtool
def test_every_extent_is_where_ldmtool_has_it(windows_disks: Disks) -> None:
    paths = [path for each in windows_disks.values() for path in each]
    result = assemble_files(*paths)
    assert result.warnings == ()
    assert_as_ldmtool(result, *paths)


@pytest.mark.requirement("R35")
@needs_ntfscat
@pytest.mark.parametrize("kind", VOLUMES)
def test_the_file_in_each_volume(windows_disks: Disks, kind: str, tmp_path: Path) -> None:
    paths = windows_disks[kind]
    volumes = volumes_on(paths)
    for name in VOLUMES[kind]:
        volume = volumes[name]
        assert (volume.problem, volume.degraded) == (None, False)
        text = read_test_file(source_of(volume, *paths), tmp_path / "volume")
        assert text.strip() == b"Filesystem test"


@pytest.mark.requirement("R35")
@needs_ntfscat
@pytest.mark.parametrize("kind", ["mirrored", "raid5"])
def test_redundant_volumes_without_any_one_disk(
    windows_disks: Disks, kind: str, tmp_path: Path
) -> None:
    for left_out in windows_disks[kind]:
        paths = [path for path in windows_disks[kind] if path != left_out]
        volume = volumes_on(paths)[VOLUMES[kind][0]]
        assert (volume.problem, volume.degraded) == (None, True)
        text = read_test_file(source_of(volume, *paths), tmp_path / "volume")
        assert text.strip() == b"Filesystem test"


@pytest.mark.requirement("R35")
@pytest.mark.parametrize("kind", ["mirrored", "raid5"])
def test_a_degraded_volume_has_the_same_bytes(windows_disks: Disks, kind: str) -> None:
    paths = windows_disks[kind]
    name = VOLUMES[kind][0]
    whole = source_of(volumes_on(paths)[name], *paths)
    for left_out in paths:
        rest = [path for path in paths if path != left_out]
        degraded = source_of(volumes_on(rest)[name], *rest)
        for offset in range(0, whole.size, 7 * STEP):
            length = min(STEP + 12_345, whole.size - offset)
            expected = bytes(run_sync(whole.read(offset, length)))
            assert run_sync(degraded.read(offset, length)) == expected


@pytest.mark.requirement("R35")
@pytest.mark.parametrize("kind", ["spanned", "striped"])
def test_other_volumes_are_listed_with_the_missing_disk_named(
    windows_disks: Disks, kind: str
) -> None:
    for left_out in windows_disks[kind]:
        guid = read_disk(open_disk(left_out)).header.disk_guid
        paths = [path for each in windows_disks.values() for path in each if path != left_out]
        volumes = volumes_on(paths)
        assert set(volumes) == {name for names in VOLUMES.values() for name in names}
        for name, volume in volumes.items():
            if name in VOLUMES[kind]:
                assert volume.problem is not None
                assert volume.problem.startswith("missing: Disk")
                assert guid in volume.problem
                assert not volume.degraded
            else:
                assert (volume.problem, volume.degraded) == (None, False)


def test_two_disks_of_a_raid5_are_too_few_to_miss(windows_disks: Disks) -> None:
    volume = volumes_on(windows_disks["raid5"][:1])["Raid1"]
    assert volume.problem is not None
    assert "Disk9" in volume.problem
    assert "Disk10" in volume.problem
    assert not volume.degraded
    with pytest.raises(OSError, match="missing"):
        run_sync(source_of(volume, *windows_disks["raid5"][:1]).read(0, volume.size // 2))


@pytest.mark.requirement("R34")
def test_every_volume_is_named_and_has_its_guid(windows_disks: Disks) -> None:
    volumes = volumes_on(windows_disks["simple"])
    assert {volume.group for volume in volumes.values()} == {"Red-nzv8x6obywgDg0"}
    assert {volume.group_guid for volume in volumes.values()} == {
        "03c0c4fc-8b6f-402b-9431-4be2e5823b1c"
    }
    assert volumes["Volume1"].guid == "6e30daae-8e42-40fb-9af0-807416c3fede"
    assert volumes["Volume1"].partition_type == 7
    assert len({volume.guid for volume in volumes.values()}) == 6


@pytest.mark.requirement("R33")
def test_an_original_and_its_clone_are_not_mixed_up(windows_disks: Disks) -> None:
    originals = [(path.name, read_disk(open_disk(path))) for path in windows_disks["raid5"]]
    clones = [(f"clone-{name}", disk) for name, disk in originals]
    result = assemble(originals + clones)
    found = [volume for volume in result.volumes if volume.name == "Raid1"]
    assert [volume.problem for volume in found] == [None, None]
    first, second = ({extent.disk for extent in extents(volume.mapping)} for volume in found)
    assert first == {name for name, _ in originals}
    assert second == {name for name, _ in clones}
    assert len(result.warnings) == 1
    assert "exists 2 times" in result.warnings[0]


def test_few_bytes_are_read_of_a_disk(windows_disks: Disks) -> None:
    class Counting:
        def __init__(self, path: Path) -> None:
            self._inner = open_disk(path)
            self.size = self._inner.size
            self.lengths: list[int] = []

        async def read(self, offset: int, length: int) -> Buffer:
            self.lengths.append(length)
            return await self._inner.read(offset, length)

        def prefetch(self, spans: Sequence[Span]) -> None:
            pass

    reader = Counting(windows_disks["simple"][0])
    run_sync(read_ldm_disk(reader))
    assert len(reader.lengths) <= 8
    assert sum(reader.lengths) <= 72 * 1024
