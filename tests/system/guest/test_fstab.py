"""An fstab as findmnt reads it, and the volumes that its lines mean."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from fixtures import guests
from fixtures.partitions import MIB, blank, disk_id, listing
from fixtures.programs import run
from tests.support.parsers.volume_images import load
from vmount.api import open_disks
from vmount.guest.fstab import find_volumes_of, parse_fstab
from vmount.volumes.find import Found

if TYPE_CHECKING:
    from pathlib import Path

    from vmount.volumes.find import DiskContent

STRANGE = """\
   # indented comment

UUID=1 / ext4
/dev/sda2\t/a\\040b\\011c\\134d   ext4\tro,noauto\t0 0
LABEL=x\\040y /label xfs defaults
/dev/vg/lv /c ext4 x-systemd.automount,nofail 0 0 # no comment here
/dev/sdb1 /last ext4 defaults 0 0"""


@pytest.mark.parametrize("text", [guests.FSTAB, STRANGE])
def test_lines_as_findmnt_reads_them(text: str, tmp_path: Path) -> None:
    path = tmp_path / "fstab"
    path.write_text(text)
    columns = "SOURCE,TARGET,FSTYPE,OPTIONS"
    printed = run(
        "findmnt", "--fstab", "--tab-file", str(path), "--list", "--json", "--output", columns
    )
    expected = [
        (row["source"].replace('"', ""), row["target"], row["fstype"], row["options"] or "")
        for row in json.loads(printed)["filesystems"]
    ]
    found = [
        (
            entry.spec.replace('"', ""),
            entry.mount_point.decode(),
            entry.fstype,
            ",".join(entry.options),
        )
        for entry in parse_fstab(text.encode())
    ]
    assert found == expected


def test_what_is_no_entry_is_left_out() -> None:
    assert parse_fstab(b"") == []
    assert parse_fstab(b"alone\n\0\xff /x\n#a b c\n")[0].mount_point == b"/x"
    assert parse_fstab(b"a \\777\\400 x")[0].mount_point == b"\xff\0"
    assert len(parse_fstab(b"a /b c d\n" * 5000)) == 1024


def test_lines_that_are_of_no_disk() -> None:
    chosen = [entry.mount_point for entry in parse_fstab(guests.FSTAB.encode()) if entry.is_of_disk]
    assert chosen == [b"/", b"/home", b"/srv/some where/../data", b"/gone", b"/mnt/ann"]


def found_on(*paths: Path) -> Found:
    with open_disks(*paths) as disks:
        manager = disks._manager
        contents: tuple[DiskContent, ...] = manager.contents
        return Found(contents, manager.volumes, ())


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp("fstab")
    linux = guests.build_linux(folder)
    whole = folder / "home.img"
    mbr = guests.make_disk(
        folder / "mbr.img", "label: dos\nlabel-id: 0x0badcafe", [(folder / "srv.img", "type=83")]
    )
    assert disk_id(mbr) == "0badcafe"
    assert [entry.number for entry in listing(linux)] == [1, 2, 3]
    return found_on(linux, whole, mbr)


@pytest.mark.requirement("R36")
@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (f"UUID={guests.ROOT_UUID}", ["disk0-p1"]),
        (f"UUID={guests.ROOT_UUID.upper()}", ["disk0-p1"]),
        (f"UUID={guests.HOME_UUID}", ["disk0-p2", "disk1"]),
        ("UUID=", []),
        ("LABEL=root", ["disk0-p1"]),
        ("LABEL=ROOT", []),
        (f"PARTUUID={guests.SRV_PARTUUID}", ["disk0-p3"]),
        ("PARTUUID=0badcafe-01", ["disk2-p1"]),
        ("PARTLABEL=home part", ["disk0-p2"]),
        ('PARTLABEL="home part"', ["disk0-p2"]),
        ("ID=x", []),
        ("/dev/sda1", ["disk0-p1"]),
        ("/dev/vda3", ["disk0-p3"]),
        ("/dev/sdb", ["disk1"]),
        ("/dev/xvdc1", ["disk2-p1"]),
        ("/dev/sdd1", []),
        ("/dev/sdaa1", []),
        ("/dev/sda9", []),
        ("/dev/nvme0n1p2", ["disk0-p2"]),
        ("/dev/nvme1n1", ["disk1"]),
        ("/dev/nvme0n2p1", []),
        (f"/dev/disk/by-uuid/{guests.ROOT_UUID}", ["disk0-p1"]),
        ("/dev/disk/by-label/srv", ["disk0-p3", "disk2-p1"]),
        ("/dev/disk/by-partlabel/home\\x20part", ["disk0-p2"]),
        (f"/dev/disk/by-partuuid/{guests.SRV_PARTUUID}", ["disk0-p3"]),
        ("/dev/mapper/vg-lv", []),
        ("/dev/mapper/vg", []),
        ("/dev/md0", []),
        ("/dev/cdrom", []),
        ("//server/share", []),
        ("server:/export", []),
    ],
)
def test_volumes_that_a_line_means(found: Found, spec: str, names: list[str]) -> None:
    assert [volume.name for volume in find_volumes_of(spec, found)] == names


def test_an_empty_set_of_disks(tmp_path: Path) -> None:
    nothing = found_on(blank(tmp_path / "empty", MIB))
    for spec in ("UUID=x", "/dev/sda1", "/dev/nvme0n1p1", "/dev/vg/lv"):
        assert find_volumes_of(spec, nothing) == []


def test_logical_volumes_and_arrays_by_their_names(tmp_path: Path) -> None:
    image = load("lvm-plain")
    members = []
    for number, data in enumerate(image.members.values()):
        members.append(tmp_path / f"member{number}")
        members[-1].write_bytes(data)
    found = found_on(*members)
    for spec, name in (
        ("/dev/vgplain/spare-name", "lvm-vgplain-spare-name"),
        ("/dev/mapper/vgplain-spare--name", "lvm-vgplain-spare-name"),
        ("/dev/mapper/vgplain-linear", "lvm-vgplain-linear"),
    ):
        assert [volume.name for volume in find_volumes_of(spec, found)] == [name]
    for spec in ("/dev/mapper/vgplain-spare-name", "/dev/vg/linear", "/dev/mapper/vgplain"):
        assert find_volumes_of(spec, found) == []


@pytest.mark.parametrize(
    "line",
    [
        "//server/share /mnt/nas cifs credentials=/root/secret 0 0",
        "server:/export /mnt/nfs nfs4 ro 0 0",
        "/dev/disk/by-label/x /mnt/g glusterfs defaults 0 0",
        "/usr/bin/sshfs#ann@host: /mnt/ssh fuse.sshfs defaults 0 0",
        "/dev/sr0 /media/cdrom udf,iso9660 user 0 0",
    ],
)
def test_lines_of_network_and_removable_media_are_of_no_disk(line: str) -> None:
    (entry,) = parse_fstab(line.encode())
    assert not entry.is_of_disk


def test_a_disk_that_is_reached_over_a_network_may_be_absent() -> None:
    (entry,) = parse_fstab(b"UUID=1234 /srv ext4 _netdev 0 0")
    assert entry.is_of_disk
    assert entry.may_be_absent
    (entry,) = parse_fstab(b"UUID=1234 /srv fuse.ntfs-3g defaults 0 0")
    assert entry.is_of_disk
    assert not entry.may_be_absent
