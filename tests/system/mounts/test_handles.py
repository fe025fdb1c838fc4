"""Volume handles: mounting and dismounting single volumes, from Python and from the command line."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures.ext import EVERYDAY, ExtFixture
from fixtures.ext import build as build_ext
from fixtures.ntfs import build_small
from fixtures.partitions import MIB, blank, sfdisk
from fixtures.programs import run
from fixtures.walk import walk
from tests.support.parsers.volume_images import digest, load
from tests.support.paths import ROOT
from tests.system.mounts.test_walks import has_content
from vmount.api import OsFamily, VolumeType, open_disks
from vmount.errors import BusyError, MountError, SourceError
from vmount.mounting.mountinfo import find_mount
from vmount.state import StateDir

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.mounts.conftest import Vmount


@pytest.fixture(scope="module")
def volume(images: Path) -> ExtFixture:
    return build_ext(EVERYDAY[0], images)


@pytest.fixture(scope="module")
def disk(images: Path, volume: ExtFixture) -> Path:
    """A disk of three partitions: ext4, ext4 again with another file in it, and one with nothing."""
    path = images / "three.img"
    size = volume.image.stat().st_size
    script = ["label: dos"]
    script += [f"start={(1 + n * (size // MIB + 1)) * 2048}, size={size // 512}" for n in range(3)]
    sfdisk(blank(path, 4 * size + 8 * MIB), "\n".join(script) + "\n")
    for number in range(2):
        seek = 1 + number * (size // MIB + 1)
        where = (f"of={path}", "bs=1M", "conv=notrunc", f"seek={seek}", "status=none")
        run("dd", f"if={volume.image}", *where)
    return path


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come")


def largest(folder: Path) -> Path:
    return max(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )


@pytest.mark.requirement("R64")
@pytest.mark.mount
def test_single_volumes_with_counted_references(
    disk: Path, volume: ExtFixture, tmp_path: Path
) -> None:
    expected = [entry.walked for entry in volume.entries]
    with open_disks(disk, state_dir=tmp_path) as disks:
        first, second, empty = disks.volume_handles()
        assert disks.set_info().read_only
        assert disks.set_info().mountpoint is None
        assert first.info().symbolic_link is None
        assert not first.info().is_mounted

        path = first.mount()
        mountpoint = disks.set_info().mountpoint
        assert mountpoint is not None
        assert path == mountpoint / "volumes/disk0-p1" == first.info().symbolic_link
        assert walk(path) == expected
        shown = mountpoint / "volumes"
        blocks = ["disk0-p1.raw", "disk0-p2.raw", "disk0-p3.raw"]
        assert sorted(os.listdir(shown)) == sorted(["disk0-p1", *blocks])
        assert first.mount() == path
        assert (first.references, second.references) == (2, 0)
        assert walk(second.mount()) == expected

        first.dismount()
        assert first.info().is_mounted
        assert walk(path) == expected
        first.dismount()
        assert not first.info().is_mounted
        assert not path.exists()
        assert sorted(os.listdir(shown)) == sorted(["disk0-p2", *blocks])
        with pytest.raises(MountError, match="disk0-p1: not mounted"):
            first.dismount()
        assert walk(first.mount()) == expected

        with pytest.raises(SourceError, match="disk0-p3: "):
            empty.mount()
        disks.dismount_all()
        assert sorted(os.listdir(shown)) == blocks
    assert not mountpoint.exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.requirement("R64")
@pytest.mark.mount
def test_a_volume_in_use_stays_unless_forced(disk: Path, tmp_path: Path) -> None:
    with open_disks(disk, state_dir=tmp_path) as disks:
        first, second, _ = disks.volume_handles()
        path = first.mount()
        second.mount()
        large = largest(path)
        assert large.stat().st_size > 256 << 10
        with large.open("rb", buffering=0) as file:
            file.read(1)
            with pytest.raises(BusyError, match=rf"in use by \S+ \({os.getpid()}\)"):
                first.dismount()
            with pytest.raises(BusyError):
                disks.dismount_all()
            assert not second.info().is_mounted  # what can go has gone
            assert os.pread(file.fileno(), 10, 0) == large.read_bytes()[:10]
            first.dismount(force=True)
            assert not path.exists()
        first.mount()
        holder = subprocess.Popen(["sleep", "100"], cwd=path)
        try:
            with pytest.raises(BusyError, match=r"in use by sleep"):
                first.dismount()
        finally:
            holder.kill()
            holder.wait()
        first.dismount()


@pytest.mark.mount
def test_a_forced_dismount_ends_reading(disk: Path, tmp_path: Path) -> None:
    with open_disks(disk, state_dir=tmp_path) as disks:
        first = disks.volume_handles()[0]
        file = largest(first.mount()).open("rb", buffering=0)
        with file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            file.read(1)
            first.dismount(force=True)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            with pytest.raises(OSError) as caught:
                os.pread(file.fileno(), 1, os.fstat(file.fileno()).st_size - 1)
            assert caught.value.errno == errno.ESTALE


@pytest.mark.mount
def test_a_set_goes_with_its_program_however_it_ends(disk: Path, tmp_path: Path) -> None:
    program = f"""
        import sys, time
        from vmount.api import open_disks
        disks = open_disks({str(disk)!r}, state_dir={str(tmp_path / "state")!r}, mountpoint=sys.argv[1])
        print(disks.volume_handles()[0].mount(), flush=True)
        time.sleep(100)
    """
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    command = [sys.executable, "-c", textwrap.dedent(program), str(mountpoint)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == str(mountpoint / "volumes/disk0-p1")
        assert find_mount(str(mountpoint)) is not None
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: find_mount(str(mountpoint)) is None)
    wait_until(lambda: not list((tmp_path / "state").iterdir()))


@pytest.mark.mount
def test_a_killed_server_is_told_of_and_costs_nothing_else(disk: Path, tmp_path: Path) -> None:
    with open_disks(disk, state_dir=tmp_path) as disks:
        first = disks.volume_handles()[0]
        path = first.mount()
        (record,) = StateDir(tmp_path).records()
        os.kill(record.process.pid, signal.SIGKILL)
        with pytest.raises(MountError, match="answer"):
            wait_until(lambda: bool(first.mount()) and False)
        assert disks.listdir("disk0-p1")
    assert find_mount(str(path.parent.parent)) is None


@pytest.mark.mount
def test_the_command_mounts_and_dismounts_single_volumes(
    vmount: Vmount, disk: Path, volume: ExtFixture
) -> None:
    expected = [entry.walked for entry in volume.entries]
    with vmount.mounted("--volumes", "disk0-p2", disk) as mountpoint:
        first, second = (mountpoint / "volumes" / f"disk0-p{number}" for number in (1, 2))
        assert (first.exists(), second.exists()) == (False, True)
        states = json.loads(
            vmount.run("volumes", "--json", "--mount", "disk0-p1", mountpoint).stdout
        )
        assert [state["references"] for state in states] == [1, 1, 0]
        assert [state["path"] for state in states] == [str(first), str(second), None]
        assert walk(first) == walk(second) == expected
        with largest(second).open("rb") as file:
            file.read(1)
            assert "in use by" in vmount.error("umount", second, code=5)
        vmount.run("umount", second)
        assert (first.exists(), second.exists()) == (True, False)
        assert "not mounted" in vmount.error("umount", second, code=4)
        shown = vmount.run("volumes", "--mount", "disk0-p1", mountpoint).stdout.decode()
        assert [line.split()[:2] for line in shown.splitlines()[1:]] == [
            ["disk0-p1", "2"],
            ["disk0-p2", "no"],
            ["disk0-p3", "no"],
        ]
        assert str(first) in shown  # a long path is not cut at 80 columns
        vmount.run("volumes", "--dismount", "disk0-p1", "--force", mountpoint)
        assert not first.exists()
        line = vmount.error("volumes", "--mount", "disk0-p9", mountpoint, code=2)
        assert "no such volume; the volumes are: disk0-p1, disk0-p2, disk0-p3" in line
    line = vmount.error("--volumes", "p9", disk, vmount.new_mountpoint(), code=2)
    assert "p9: no such volume" in line
    assert "not a mount of vmount" in vmount.error("volumes", disk.parent, code=4)


@pytest.mark.mount
def test_root_and_drives_follow_their_volumes(
    vmount: Vmount, linux: Path, windows: list[Path]
) -> None:
    with vmount.mounted(linux) as mountpoint:
        homes = sorted(os.listdir(mountpoint / "root/home"))
        states = json.loads(vmount.run("volumes", "--json", mountpoint).stdout)
        home, top = (
            next(s for s in states if os.listdir(s["path"]) and probe(Path(s["path"])))
            for probe in (
                lambda path: sorted(path.glob("*")) and sorted(os.listdir(path)) == homes,
                lambda path: (path / "etc/fstab").exists(),
            )
        )
        vmount.run("volumes", "--dismount", home["name"], mountpoint)
        assert "home" in os.listdir(mountpoint / "root")
        with pytest.raises(OSError, match="Stale"):
            os.listdir(mountpoint / "root/home")
        vmount.run("volumes", "--mount", home["name"], mountpoint)
        assert sorted(os.listdir(mountpoint / "root/home")) == homes
        vmount.run("volumes", "--dismount", top["name"], mountpoint)
        assert not (mountpoint / "root").exists()
        vmount.run("volumes", "--mount", top["name"], mountpoint)
        assert sorted(os.listdir(mountpoint / "root/home")) == homes
    with vmount.mounted(*windows) as mountpoint:
        assert (mountpoint / "drives/C").is_dir()
        vmount.run("volumes", "--dismount", "disk0-p1", mountpoint)
        assert "C" not in os.listdir(mountpoint / "drives")
        vmount.run("volumes", "--mount", "disk0-p1", mountpoint)
        assert (mountpoint / "drives/C").is_dir()


def test_what_is_told_of_volumes_and_the_system(
    windows: list[Path], linux: Path, disk: Path, tmp_path: Path
) -> None:
    with open_disks(*windows) as disks:
        handle = disks.volume_handles()[0]
        types = {h.name: h.info().type for h in disks.volume_handles()}
        assert (types["disk0-p1"], types["disk1-p2"]) == (VolumeType.BASIC, VolumeType.GPT)
        assert handle.info().guest_mount_points == ("C:\\",)
        system = disks.os_info()
        assert (system.family, system.name) == (OsFamily.WINDOWS, "Windows 11 Pro")
        assert (system.major_version, system.minor_version) == (10, 0)
        assert system.is_64_bit is True
        assert (system.vendor, system.edition) == ("Microsoft", "Professional")
        assert system.os_folder == "C:\\Windows"
    with open_disks(linux) as disks:
        assert disks.os_info().family is OsFamily.LINUX
        assert disks.os_info().os_folder == "/"
        kinds = {point for h in disks.volume_handles() for point in h.info().guest_mount_points}
        assert "/home" in kinds
    with open_disks(disk) as disks:
        assert {h.info().type for h in disks.volume_handles()} == {VolumeType.BASIC}
        assert disks.os_info().family is OsFamily.UNKNOWN
        assert disks.os_info().major_version == -1
    for group, kind in (("lvm-plain", VolumeType.LVM), ("md-linear", VolumeType.MD)):
        paths = []
        for name, data in load(group).members.items():
            paths.append(tmp_path / name)
            paths[-1].write_bytes(data)
        with open_disks(*paths) as disks:
            found = {h.info().type for h in disks.volume_handles()}
            assert found == {kind, VolumeType.WHOLE}  # the members are whole disks


SESSIONS = """
import json, os, sys, threading
from pathlib import Path
from vmount.api import open_disks
from vmount.state import StateDir

disk, state = sys.argv[1:]

def in_use():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return len(os.listdir("/proc/self/fd")), threading.active_count(), pages * os.sysconf("SC_PAGE_SIZE")

def session(mount):
    with open_disks(disk, state_dir=state) as disks:
        assert disks.listdir("disk0-p1")
        if mount:
            assert os.listdir(disks.volume_handles()[0].mount())

for number in range(50):
    session(mount=number == 0)
before = in_use()
for number in range(200):
    session(mount=number % 10 == 0)
after = in_use()
with open_disks(disk, state_dir=state) as disks:
    handle = disks.volume_handles()[0]
    for number in range(200):
        assert os.listdir(handle.mount())
        handle.dismount()
    (record,) = StateDir(Path(state)).records()
    server = len(os.listdir(f"/proc/{record.process.pid}/fd"))
print(json.dumps([before, after, in_use(), server]))
"""


@pytest.mark.requirement("R27")
@pytest.mark.mount
@pytest.mark.slow
def test_two_hundred_sessions_leave_nothing(disk: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SESSIONS, disk, tmp_path], cwd=ROOT, check=True, capture_output=True
    )
    before, after, last, server = json.loads(done.stdout)
    assert before[:2] == after[:2] == last[:2]
    assert max(after[2], last[2]) - before[2] < 2 << 20
    assert server < 25
    assert not list(tmp_path.iterdir())


@pytest.mark.requirement("R33")
@pytest.mark.mount
def test_clones_of_every_kind_in_two_processes(
    vmount: Vmount, images: Path, volume: ExtFixture, tmp_path: Path
) -> None:
    ntfs = build_small(images).image
    lvm = []
    for name, data in load("lvm-plain").members.items():
        lvm.append(tmp_path / name)
        lvm[-1].write_bytes(data)
    clones = tmp_path / "clones"
    clones.mkdir()
    for originals in ([volume.image], [ntfs], lvm):
        copies = [Path(shutil.copy(path, clones)) for path in originals]
        with vmount.mounted(*originals) as first, vmount.mounted(*copies) as second:
            told = [
                json.loads((top / "info.json").read_text())["volumes"] for top in (first, second)
            ]
            assert told[0] == told[1]
            for shown in told[0]:
                if shown["tree"] is not None:
                    trees = [walk(top / shown["tree"], has_content) for top in (first, second)]
                    assert trees[0] == trees[1]
                if shown["problem"] is None:
                    blocks = [top / "volumes" / f"{shown['name']}.raw" for top in (first, second)]
                    assert blocks[0].read_bytes() == blocks[1].read_bytes()
        with open_disks(*originals, *copies) as disks:
            readable = [v for v in disks.volumes if v.data is not None and v.filesystem is not None]
            assert len(readable) % 2 == 0
            made = [v.data for v in disks.volumes if v.kind == "lvm" and v.data is not None]
            assert len(made) == (2 * len(load("lvm-plain").read[()]) if originals is lvm else 0)
            sums = [digest(data) for data in made]
            assert all(sums.count(one) % 2 == 0 for one in sums)


@pytest.mark.mount
def test_a_mount_point_that_is_not_there(disk: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "none"
    with open_disks(disk, state_dir=tmp_path, mountpoint=nowhere) as disks:
        with pytest.raises(MountError, match="create the directory first"):
            disks.volume_handles()[0].mount()
        nowhere.mkdir()
        assert os.listdir(disks.volume_handles()[0].mount())
    assert nowhere.is_dir()
