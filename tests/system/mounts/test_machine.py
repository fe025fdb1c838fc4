"""A machine with six disks of every form on every controller, as a whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures.ext import LARGE, ExtFixture
from fixtures.ext import build as build_ext
from fixtures.machine import HUGE, Machine, build_huge, build_machine
from fixtures.ntfs import NtfsVolume, build_large
from fixtures.walk import WalkEntry, walk
from tests.system.mounts.test_walks import expected_of_ext, expected_of_ntfs, has_content
from tests.system.parsers.ntfs.test_walk import by_tag
from vmount.api import open_disks

if TYPE_CHECKING:
    from tests.system.mounts.conftest import Vmount

pytestmark = pytest.mark.mount


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return build_machine(tmp_path_factory.mktemp("machine"))


def expected_of(volume: ExtFixture | NtfsVolume) -> list[WalkEntry]:
    if isinstance(volume, ExtFixture):
        return expected_of_ext(volume)
    return expected_of_ntfs(volume)


def walked(root: Path, volume: ExtFixture | NtfsVolume) -> list[WalkEntry]:
    if isinstance(volume, ExtFixture):
        return walk(root)
    return [entry for entry in walk(root, has_content) if not by_tag(entry.path)]


@pytest.mark.requirement("R36")
def test_all_disks_of_a_machine(vmount: Vmount, machine: Machine) -> None:
    with vmount.mounted(machine.vmx) as mountpoint:
        shown = {path.name for path in (mountpoint / "volumes").iterdir() if path.is_dir()}
        assert shown == set(machine.volumes)
        for name, volume in machine.volumes.items():
            assert walked(mountpoint / "volumes" / name, volume) == expected_of(volume), name
        for name, flat in machine.disks.items():
            block = mountpoint / "disks" / f"{name}.raw"
            assert block.stat().st_size == flat.stat().st_size
            with block.open("rb") as ours, flat.open("rb") as theirs:
                assert hashlib.file_digest(ours, "sha256").digest() == (
                    hashlib.file_digest(theirs, "sha256").digest()
                )


def test_info_json_keeps_its_contract(vmount: Vmount, machine: Machine) -> None:
    with vmount.mounted(machine.vmx) as mountpoint:
        info = json.loads((mountpoint / "info.json").read_text())
    assert {"disks", "volumes", "guest", "warnings"} <= info.keys()
    disks = {disk["name"]: disk for disk in info["disks"]}
    assert set(disks) == set(machine.disks)
    for name, disk in disks.items():
        assert {"name", "size", "source", "format", "chain", "transport", "problem"} <= disk.keys()
        assert disk["size"] == machine.disks[name].stat().st_size
        assert disk["transport"]["used"] == "file"
        assert disk["transport"]["refused"] == []
        assert disk["problem"] is None
    assert len(disks["scsi1-0"]["chain"]) == 32
    assert disks["sata0-1"]["format"] == "streamOptimized"
    keys = {
        "name",
        "kind",
        "fstype",
        "label",
        "uuid",
        "size",
        "extents",
        "letter",
        "tree",
        "problem",
    }
    for volume in info["volumes"]:
        assert keys | {"letter_assigned", "guest_mount_points"} <= volume.keys()
        expected = machine.volumes[volume["name"]]
        assert volume["tree"] == f"volumes/{volume['name']}"
        assert volume["kind"] == ("whole" if volume["name"] == "nvme0-0" else "partition")
        assert volume["size"] == expected.image.stat().st_size
        assert sum(extent["length"] for extent in volume["extents"]) == volume["size"]
        if isinstance(expected, ExtFixture):
            assert volume["uuid"] == expected.blkid["UUID"]
            assert volume["fstype"] == expected.blkid["TYPE"]


@pytest.mark.requirement("R33")
def test_original_and_clone_at_once(vmount: Vmount, machine: Machine, tmp_path: Path) -> None:
    original = machine.vmx.parent / "scsi0-0.vmdk"
    clone = Path(shutil.copy(original, tmp_path / "clone.vmdk"))
    volume = machine.volumes["scsi0-0-p2"]
    with open_disks(original, clone) as disks:
        names = [shown.name for shown in disks.volumes]
        assert names == [f"disk{disk}-p{number}" for disk in (0, 1) for number in (1, 2, 5)]
    with vmount.mounted(original) as first, vmount.mounted(clone) as second:
        for mountpoint in (first, second):
            assert walk(mountpoint / "volumes/disk0-p2") == expected_of(volume)


@pytest.mark.requirement("R37")
def test_the_end_of_a_disk_of_62_tib(vmount: Vmount, machine: Machine, tmp_path: Path) -> None:
    volume = machine.volumes["nvme0-0"].image
    huge = build_huge(tmp_path, volume)
    size = volume.stat().st_size
    with vmount.mounted(huge) as mountpoint, (mountpoint / "disks/disk0.raw").open("rb") as block:
        assert (mountpoint / "disks/disk0.raw").stat().st_size == HUGE
        block.seek(HUGE - size)
        assert block.read() == volume.read_bytes()
        block.seek(40 << 40)
        assert block.read(4096) == bytes(4096)


@pytest.mark.requirement("R37")
@pytest.mark.slow
def test_large_volumes_through_the_mount(
    vmount: Vmount, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """20,000 files, directories of 10,000, a file in over 1,000 pieces, a sparse file of 1 TiB."""
    folder = tmp_path_factory.mktemp("large")
    ntfs, ext = build_large(folder), build_ext(LARGE[0], folder)
    with vmount.mounted(ntfs.image, ext.image) as mountpoint:
        assert walk(mountpoint / "volumes/disk0") == ntfs.walk
        assert walk(mountpoint / "volumes/disk1") == expected_of_ext(ext)
