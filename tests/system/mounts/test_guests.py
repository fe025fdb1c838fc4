"""What vmount makes of a guest's own view of its volumes, through the command, the mount and the API."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures import guests
from fixtures.ext import mounted
from fixtures.hives import Form
from fixtures.partitions import MIB
from fixtures.programs import run
from fixtures.walk import walk
from tests.support.parsers.reading import FileReader
from vmount.api import open_disks
from vmount.disks.disk import Disk
from vmount.guest import find_guest
from vmount.options import OpenOptions
from vmount.parsers.reader import run_sync
from vmount.runtime import InlineRuntime
from vmount.volumes.find import find_volumes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.mounts.conftest import Vmount

GONE = "disk0-p1: fstab: /gone: UUID=0a1b2c3d-dead-4000-8000-000000000009 is not on any open disk"


@pytest.fixture(scope="module")
def linux_by_kernel(linux: Path) -> Iterator[Path]:
    """The guest's tree, mounted by the kernel as its fstab says."""
    with ExitStack() as stack:
        folder = linux.parent
        root = stack.enter_context(mounted(folder / "root.img", options="ro"))
        for name, place in (("home", "home"), ("srv", "srv/data")):
            volume = stack.enter_context(mounted(folder / f"{name}.img", options="ro"))
            run("mount", "--bind", str(volume), str(root / place))
            stack.callback(run, "umount", str(root / place))
        yield root


# Linux


@pytest.mark.requirement("R36")
@pytest.mark.mount
def test_root_is_the_tree_that_the_kernel_shows(
    vmount: Vmount, linux: Path, linux_by_kernel: Path
) -> None:
    expected = walk(linux_by_kernel)
    assert {b"home/ann/letter", b"srv/data/big", b"etc/os-release"} < {e.path for e in expected}
    with vmount.mounted(linux) as mountpoint:
        assert walk(mountpoint / "root") == expected
        assert os.readlink(mountpoint / "root/home/ann/up") == "../../etc/own"
        home = os.stat(mountpoint / "root/home")
        assert home.st_ino != os.stat(mountpoint / "volumes/disk0-p2").st_ino
        # What is covered can be seen on the volume itself.
        covered = mountpoint / "volumes/disk0-p1/home/covered/file"
        assert covered.read_text() == "not to be seen"


def test_links_are_followed_within_the_guests_tree(linux: Path) -> None:
    with open_disks(linux) as disks:
        for path in ("root/etc/own", "root/home/ann/up", "root/srv/../home/ann/letter"):
            with disks.open(path) as file:
                assert file.read() == b"Dear Bob", path
        with disks.open("root/etc/os-release") as file:
            assert file.read() == guests.OS_RELEASE.encode()
        names = [entry.name for entry in disks.listdir("root/srv")]
        assert sorted(names) == ["data", "some where"]


def test_info_of_a_linux_guest(linux: Path) -> None:
    shell = '. "$1"; printf "%s|" "$PRETTY_NAME" "$VERSION_ID" "$BUILD_ID" "$VARIANT_ID" "$ID"'
    release = linux.parent / "root.tree/usr/lib/os-release"
    told = subprocess.run(["sh", "-c", shell, "sh", release], capture_output=True, text=True)
    name, version, build, edition, vendor, _ = told.stdout.split("|")
    with open_disks(linux) as disks:
        info = disks.info()
    assert info["guest"] == {
        "family": "linux",
        "name": name,
        "version": version,
        "build": build,
        "bits": 64,
        "edition": edition,
        "vendor": vendor,
        "system_folder": "/",
        "volume": "disk0-p1",
        "others": [],
    }
    points = {volume["name"]: volume["guest_mount_points"] for volume in info["volumes"]}
    assert points == {"disk0-p1": ["/"], "disk0-p2": ["/home"], "disk0-p3": ["/srv/data"]}
    assert info["warnings"] == [GONE, "disk0-p1: fstab: /mnt/ann: a bind mount, which is not shown"]


def test_hard_links_of_two_volumes_are_kept_apart_in_a_copy(
    vmount: Vmount, linux: Path, linux_by_kernel: Path, tmp_path: Path
) -> None:
    """Files of two volumes may have one inode number, and all of them are below root/."""
    done = vmount.run("cp", linux, "root", tmp_path / "copy", check=False)
    # The guest has a volume at /gone that is on none of the disks.
    assert done.returncode == 3
    assert b"not copied: root/gone: UUID=0a1b2c3d-dead" in done.stderr
    copy = tmp_path / "copy"
    for path in ("etc/fstab", "etc/fstab.link", "home/ann/letter", "home/ann/second name"):
        assert (copy / path).read_bytes() == (linux_by_kernel / path).read_bytes()
    for one, other in (
        ("etc/fstab", "etc/fstab.link"),
        ("home/ann/letter", "home/ann/second name"),
    ):
        assert (copy / one).samefile(copy / other)


@pytest.mark.parametrize(
    ("fstab", "warning"),
    [
        ("", None),
        ("LABEL=home / ext4", "it gives disk0-p2 as root; disk0-p1 is shown instead"),
        ("LABEL=home /nowhere ext4", "/nowhere: the guest has no such directory"),
        ("LABEL=home /etc/fstab ext4", "/etc/fstab: the guest has no such directory"),
        ("LABEL=home /home ext4 subvol=@home", "subvol=@home is not supported"),
        ("LABEL=home /loop/x ext4", "/loop/x: Too many levels of symbolic links"),
        ("LABEL=home /home ext4\nLABEL=home /home/ann ext4", None),
        ("LABEL=home /../../home ext4", None),
        (f"LABEL=home /home ext4\n{'LABEL=root /home/ann ext4' + chr(10)}" * 200, "more than 256"),
    ],
)
def test_fstabs_that_are_out_of_the_ordinary(
    linux: Path, tmp_path: Path, fstab: str, warning: str | None
) -> None:
    image = Path(shutil.copy(linux, tmp_path))
    _write(image, "etc/fstab", fstab.encode(), linux)
    with open_disks(image) as disks:
        found = disks.warnings
        assert disks.stat("root/etc/fstab").size == len(fstab)
        if "/home " in fstab and warning is None:
            assert "ann" in [entry.name for entry in disks.listdir("root/home")]
    assert (warning is None) == (not found)
    assert warning is None or any(warning in text for text in found)


@pytest.mark.parametrize("option", ["nofail", "defaults,noauto", "_netdev,ro"])
def test_what_the_guest_starts_without_is_not_missing(
    vmount: Vmount, linux: Path, tmp_path: Path, option: str
) -> None:
    image = Path(shutil.copy(linux, tmp_path))
    line = f"UUID=0a1b2c3d-dead-4000-8000-000000000009 /gone ext4 {option} 0 2"
    _write(image, "etc/fstab", line.encode(), linux)
    with open_disks(image) as disks:
        assert list(disks.unread) == []
        assert list(disks.warnings) == []
    vmount.run("ls", "-R", image)
    vmount.run("find", image)


def _write(image: Path, path: str, content: bytes, linux: Path) -> None:
    """Write a file of the guest's root volume anew, and a link to itself."""
    volume = linux.parent / "changed.img"
    shutil.copy(linux.parent / "root.img", volume)
    source = linux.parent / "changed"
    source.write_bytes(content)
    script = f"rm {path}\nwrite {source} {path}\nsymlink loop loop\n"
    subprocess.run(
        ["debugfs", "-w", "-f", "-", volume], input=script.encode(), check=True, capture_output=True
    )
    with open(image, "r+b") as disk:
        disk.seek(MIB)
        disk.write(volume.read_bytes())


# Windows


def letters(info: dict[str, object]) -> dict[str, tuple[str | None, bool, list[str]]]:
    volumes = info["volumes"]
    assert isinstance(volumes, list)
    return {
        volume["name"]: (volume["letter"], volume["letter_assigned"], volume["guest_mount_points"])
        for volume in volumes
    }


def test_info_of_a_windows_guest(windows: list[Path]) -> None:
    with open_disks(*windows) as disks:
        info = disks.info()
    assert info["guest"] == {
        "family": "windows",
        "name": "Windows 11 Pro",
        "version": "10.0",
        "build": "22631.2861",
        "bits": 64,
        "edition": "Professional",
        "vendor": "Microsoft",
        "system_folder": "C:\\Windows",
        "volume": "disk0-p1",
        "others": [],
    }
    assert letters(info) == {
        "disk0-p1": ("C", False, ["C:\\"]),
        "disk1-p1": (None, False, []),
        "disk1-p2": ("F", False, ["F:\\"]),
        "disk1-p3": ("E", True, ["C:\\mnt\\data\\"]),
        "disk1-p4": ("G", True, []),
    }
    assert info["warnings"] == []


@pytest.mark.requirement("R36")
@pytest.mark.mount
def test_drives_are_links_to_volumes(vmount: Vmount, windows: list[Path]) -> None:
    with vmount.mounted("--drive", "X=disk1-p4", *windows) as mountpoint:
        drives = {entry.name: os.readlink(entry) for entry in os.scandir(mountpoint / "drives")}
        assert drives == {
            "C": "../volumes/disk0-p1",
            "E": "../volumes/disk1-p3",
            "F": "../volumes/disk1-p2",
            "X": "../volumes/disk1-p4",
        }
        assert (mountpoint / "drives/F/folder/on f.txt").read_bytes() == b"on F"
        assert (mountpoint / "drives/X/other.txt").read_bytes() == b"other"
        info = json.loads((mountpoint / "info.json").read_bytes())
        assert letters(info)["disk1-p4"] == ("X", True, [])
        assert not (mountpoint / "root").exists()


LINKS = {
    "Documents and Settings": b"../../drives/C/Users",
    "mnt/data": b"../../../volumes/disk1-p3",
    "to F": b"../../drives/F/folder",
    "to nowhere": b"Q:/x",
    "deep/er/to root": b"../../../../volumes/disk0-p1/Users",
    "deep/er/relative": b"../../Users/ann",
    "deep/er/outside": b"../../../../drives/F/etc",
    "share": b"//server/share/x",
}


@pytest.mark.mount
def test_links_that_name_drives_lead_there(vmount: Vmount, windows: list[Path]) -> None:
    with vmount.mounted(*windows) as mountpoint:
        c = mountpoint / "volumes/disk0-p1"
        assert {path: os.readlink(os.fsencode(c / path)) for path in LINKS} == LINKS
        for top in (c, mountpoint / "drives/C"):
            assert (top / "Documents and Settings/ann/notes.txt").read_bytes() == b"notes"
            assert (top / "deep/er/to root/ann/notes.txt").read_bytes() == b"notes"
            assert (top / "deep/er/relative/notes.txt").read_bytes() == b"notes"
            assert (top / "mnt/data/in the folder.txt").read_bytes() == b"mounted"
            assert (top / "to F/on f.txt").read_bytes() == b"on F"
    with open_disks(*windows) as disks:
        for path in (
            "drives/C/Documents and Settings",
            "drives/C/deep/er/to root",
            "disk0-p1/Users",
        ):
            with disks.open(f"{path}/ann/notes.txt") as file:
                assert file.read() == b"notes"


def test_the_command_says_letters_and_systems(
    vmount: Vmount, windows: list[Path], linux: Path
) -> None:
    shown = vmount.run("info", *windows, linux).stdout.decode()
    assert "guest: Windows 11 Pro, build 22631.2861, 64 bits, C:\\Windows on disk0-p1" in shown
    assert "(G:)" in shown
    assert "/home" in shown
    info = json.loads(vmount.run("info", "--json", *windows, linux).stdout)
    assert [other["family"] for other in info["guest"]["others"]] == ["linux"]


def test_drives_by_hand(vmount: Vmount, linux: Path) -> None:
    with open_disks(linux, options=OpenOptions(drives={"H": "disk0-p2"})) as disks:
        assert [entry.name for entry in disks.listdir("drives")] == ["H"]
        assert disks.stat("drives/H/ann").ino == disks.stat("disk0-p2/ann").ino
    with open_disks(linux) as disks:
        assert "drives" not in [entry.name for entry in disks.listdir()]
    line = vmount.error("info", "--drive", "d=disk0-p9", linux, code=2)
    assert "no volume disk0-p9 with a file system; the volumes are disk0-p1, disk0-p2" in line
    line = vmount.error("info", "--drive", "D=disk0-p1", "--drive", "E=disk0-p1", linux, code=2)
    assert "drives D and E are both volume disk0-p1" in line
    assert "same letter twice" in vmount.error(
        "info", "--drive", "D=a", "--drive", "d=b", linux, code=2
    )
    assert "expected D=VOLUME" in vmount.error("info", "--drive", "DD=a", linux, code=2)


@pytest.mark.requirement("R33")
def test_a_windows_disk_and_its_clone(windows: list[Path], tmp_path: Path) -> None:
    clone = shutil.copy(windows[0], tmp_path / "clone.img")
    for first, second in ((windows[0], clone), (clone, windows[0])):
        with open_disks(first, second) as disks:
            info = disks.info()
            assert letters(info)["disk0-p1"] == ("C", False, ["C:\\"])
            assert letters(info)["disk1-p1"][:2] == ("E", True)
            assert any("may be disk0-p1 and disk1-p1, clones" in text for text in disks.warnings)
            assert len(info["guest"]["others"]) == 1


@pytest.mark.parametrize(
    ("system", "software", "warning"),
    [
        (b"no hive", guests.software_hive(), "registry hive SYSTEM: "),
        (guests.system_hive({}), bytes(5000), "registry hive SOFTWARE: not a registry hive"),
        (guests.system_hive({}, Form(dirty=True)), guests.software_hive(), "are not replayed"),
        (guests.system_hive({})[:4096], guests.software_hive(), "it is truncated"),
    ],
)
def test_damaged_hives_are_warnings(
    tmp_path: Path, system: bytes, software: bytes, warning: str
) -> None:
    files = guests.hives(system, software)
    with open_disks(guests.make_ntfs(tmp_path / "c.img", files)) as disks:
        assert any(warning in text for text in disks.warnings)
        guest = disks.info()["guest"]
        assert guest["family"] == "windows"
        drives = letters(disks.info())["disk0"]
        # Without MountedDevices the system folder tells its own letter.
        known = software == guests.software_hive()
        assert drives == (("C", False, ["C:\\"]) if known else ("D", True, []))


def test_letters_stay_from_mount_to_mount_and_leave_those_of_the_guest_free(
    windows: list[Path], linux: Path
) -> None:
    with open_disks(*windows, linux) as disks:
        first = letters(disks.info())
    with open_disks(*windows, linux) as disks:
        assert letters(disks.info()) == first
    given = {letter for letter, _, _ in first.values() if letter}
    # D is the guest's CD drive, Z a disk that is not here; ext4 is nothing to Windows.
    assert given == {"C", "E", "F", "G"}


def test_opening_takes_few_reads(windows: list[Path]) -> None:
    readers = [FileReader(path) for path in windows]
    disks = [Disk(f"disk{n}", "", "raw", reader) for n, reader in enumerate(readers)]
    found = run_sync(find_volumes(disks, InlineRuntime()))
    for reader in readers:
        reader.reads.clear()
    guest = run_sync(find_guest(found, InlineRuntime(), {}))
    assert guest.systems[0].family == "windows"
    assert sum(len(reader.reads) for reader in readers) < 60
    for reader in readers:
        reader.close()


@pytest.mark.parametrize("family", ["windows", "linux"])
def test_damage_costs_what_is_known_of_the_guest_and_no_more(
    windows: list[Path], linux: Path, tmp_path: Path, family: str
) -> None:
    whole = (
        windows[0].parent / "c.img" if family == "windows" else linux.parent / "root.img"
    ).read_bytes()
    used = [at for at in range(0, len(whole), 1024) if any(whole[at : at + 1024])]
    image = tmp_path / "damaged.img"
    chosen = random.Random(11)
    known = 0
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(60):
            data[chosen.choice(used) + chosen.randrange(1024)] = chosen.randrange(256)
        image.write_bytes(data)
        with open_disks(image) as disks:
            info = disks.info()
            known += info["guest"] is not None
            assert info["volumes"][0]["name"] == "disk0"
            assert info["guest"] is None or info["guest"]["family"] == family
    assert known
