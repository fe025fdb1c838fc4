"""Disks are found once, however many paths lead to them.

The folders have the shape that Linux gives /sys and /dev; the device nodes are never opened.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.support.loop_devices import attached
from vmount.backends.device_identity import BlockDevices, normal_wwn

NAA = "naa.600508b4000156d70001200000b00000"
WWN = "600508b4000156d70001200000b00000"


class Host:
    """A machine with disks."""

    def __init__(self, folder: Path) -> None:
        self.devices = BlockDevices(
            links=folder / "dev/disk/by-id", dev=folder / "dev", sysfs=folder / "sys"
        )
        for path in ("dev/mapper", "sys/class/block", "sys/dev/block", "sys/devices"):
            (folder / path).mkdir(parents=True)
        self.folder = folder
        self._minor = 0

    def disk(self, name: str, wwid: str = "", *, below: str = "") -> Path:
        """Add a disk, or a partition of the disk `below`."""
        node = self.folder / "dev" / name
        self._minor += 1
        os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(8, self._minor))
        entry = self.folder / "sys/devices" / below / name
        (entry / "device").mkdir(parents=True)
        (entry / "holders").mkdir()
        if wwid:
            (entry / "device/wwid").write_text(f"{wwid}\n")
        if below:
            (entry / "partition").write_text(f"{name.removeprefix(below)}\n")
        (self.folder / "sys/class/block" / name).symlink_to(entry)
        (self.folder / f"sys/dev/block/8:{self._minor}").symlink_to(entry)
        return node

    def multipath(self, name: str, uuid: str, paths: list[str]) -> Path:
        """Let a dm-multipath device stand on disks; return its path."""
        self.disk("dm-0")
        entry = self.folder / "sys/devices/dm-0"
        (entry / "dm").mkdir()
        (entry / "dm/uuid").write_text(f"{uuid}\n")
        (entry / "dm/name").write_text(f"{name}\n")
        for path in paths:
            (self.folder / f"sys/devices/{path}/holders/dm-0").symlink_to(entry)
        mapped = self.folder / "dev/mapper" / name
        mapped.symlink_to("../dm-0")
        return mapped

    def link(self, name: str, target: str) -> Path:
        """Make a link as udev does."""
        self.devices.links.mkdir(parents=True, exist_ok=True)
        path = self.devices.links / name
        path.symlink_to(f"../../{target}")
        return path


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.requirement("R47")
def test_two_paths_are_one_disk(host: Host) -> None:
    first, second = host.disk("sdb", NAA), host.disk("sdc", NAA)
    host.disk("sdd", NAA.replace("b00000", "b00001"))
    found = host.devices.all()
    assert [device.identity[-6:] for device in found] == ["b00000", "b00001"]
    assert found[0].path == first
    assert found[0].paths == (first, second)


@pytest.mark.requirement("R47")
def test_the_multipath_device_is_preferred(host: Host) -> None:
    path = host.disk("sdb", NAA)
    host.disk("sdc", NAA)
    mapped = host.multipath("mpatha", f"mpath-3{WWN}", ["sdb", "sdc"])
    assert host.devices.device(path).path == mapped
    (found,) = host.devices.all()
    assert found.path == mapped
    assert found.identity == WWN
    assert path in found.paths


@pytest.mark.requirement("R47")
def test_links_of_one_disk(host: Host) -> None:
    host.disk("sdb")
    for name in (f"scsi-3{WWN}", f"wwn-0x{WWN}", "scsi-SVMware_Virtual_disk"):
        host.link(name, "sdb")
    (found,) = host.devices.all()
    assert found.identity == WWN
    assert len(found.paths) == 4
    assert host.devices.device(host.folder / "dev/sdb").identity == WWN


def test_disks_without_a_wwn_are_told_apart(host: Host) -> None:
    host.disk("sdb")
    host.disk("sdc")
    assert len(host.devices.all()) == 2


def test_a_node_of_another_name_is_the_same_disk(host: Host) -> None:
    node = host.disk("sdb")
    other = host.folder / "dev/lun"
    os.mknod(other, stat.S_IFBLK | 0o600, node.stat().st_rdev)
    assert host.devices.device(other).identity == host.devices.device(node).identity


def test_a_partition_belongs_to_its_disk(host: Host) -> None:
    host.disk("sdb", NAA)
    part = host.disk("sdb1", below="sdb")
    host.link(f"wwn-0x{WWN}", "sdb")
    host.link(f"wwn-0x{WWN}-part1", "sdb1")
    assert [device.partition for device in host.devices.all()] == [0]
    assert host.devices.device(part).partition == 1
    assert host.devices.device(part).identity == f"{WWN}-part1"


def test_what_is_no_lun_is_not_searched(host: Host) -> None:
    for name in ("loop0", "sr0", "zram0", "vda"):
        host.disk(name)
    assert [device.path.name for device in host.devices.all()] == ["vda"]


def test_a_dead_link_is_passed_over(host: Host) -> None:
    host.disk("sdb", NAA)
    host.link(f"wwn-0x{WWN}", "sdb")
    host.link("wwn-0x5000000000000000", "gone")
    assert len(host.devices.all()) == 1


@pytest.mark.parametrize(
    "pattern", ["sdb", "*/dev/sdc", f"wwn-0x{WWN}", "600508b4*", "mpatha", "dm-*"]
)
def test_patterns_match_every_name_of_a_disk(host: Host, pattern: str) -> None:
    host.disk("sdb", NAA)
    host.disk("sdc", NAA)
    host.multipath("mpatha", f"mpath-3{WWN}", ["sdb", "sdc"])
    for name, target in ((f"wwn-0x{WWN}", "dm-0"), ("a", "sdb"), ("b", "sdc"), ("c", "dm-0")):
        host.link(name, target)
    (found,) = host.devices.all()
    assert found.matches([pattern])
    assert not found.matches(["sd", "sdd", "/dev/sdb"])


@pytest.mark.parametrize(
    ("told", "normal"),
    [
        (NAA, WWN),
        (f"scsi-3{WWN}", WWN),
        (f"wwn-0x{WWN}", WWN),
        (f"dm-uuid-mpath-3{WWN}", WWN),
        (f"mpath-3{WWN.upper()}", WWN),
        ("naa.5000c500a1b2c3d4", "5000c500a1b2c3d4"),
        ("scsi-35000c500a1b2c3d4", "5000c500a1b2c3d4"),
        ("wwn-0x3000c500a1b2c3d4", "3000c500a1b2c3d4"),
        ("eui.0025385b71b0c9d2", "0025385b71b0c9d2"),
        ("nvme-eui.0025385b71b0c9d2", "0025385b71b0c9d2"),
        ("naa.6000c29e8b1f2d3c4b5a69788796a5b4", "6000c29e8b1f2d3c4b5a69788796a5b4"),
        ("t10.ATA     QEMU HARDDISK   QM00001", "t10.ata     qemu harddisk   qm00001"),
    ],
)
def test_one_form_of_a_wwn(told: str, normal: str) -> None:
    assert normal_wwn(told) == normal


def test_images_and_loop_devices_of_this_machine(tmp_path: Path) -> None:
    image = tmp_path / "lun.img"
    image.write_bytes(bytes(1 << 20))
    (tmp_path / "hard").hardlink_to(image)
    devices = BlockDevices()
    assert devices.device(image).identity == devices.device(tmp_path / "hard").identity
    with attached(image) as first, attached(image) as second:
        identities = {devices.device(path).identity for path in (first, second, image)}
        assert len(identities) == 3
    with pytest.raises(OSError, match="not a block device or a file"):
        devices.device(tmp_path)
    with pytest.raises(FileNotFoundError):
        devices.device(tmp_path / "nothing")
