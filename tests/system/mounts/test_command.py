"""The command as a user meets it: mounting, unmounting, and every message when something is wrong."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures.ext import EVERYDAY, ExtFixture, build
from fixtures.walk import walk
from tests.support.mounts.unprivileged import nobody
from vmount import __version__
from vmount.api import open_disks

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.mounts.conftest import Vmount

pytestmark = pytest.mark.mount


@pytest.fixture(scope="module")
def volume(images: Path) -> ExtFixture:
    return build(EVERYDAY[0], images)


@pytest.fixture(scope="module")
def image(volume: ExtFixture) -> Path:
    return volume.image


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come")


def test_mount_look_copy_unmount(vmount: Vmount, volume: ExtFixture) -> None:
    mountpoint = vmount.new_mountpoint()
    done = vmount.run(volume.image, mountpoint)
    assert done.stdout == done.stderr == b""
    assert sorted(path.name for path in mountpoint.iterdir()) == [
        ".vmount",
        "disks",
        "info.json",
        "volumes",
    ]
    info = json.loads((mountpoint / "info.json").read_text())
    assert info == json.loads(vmount.run("info", "--json", volume.image).stdout)
    assert info["volumes"][0]["fstype"] == "ext4"
    assert info["volumes"][0]["uuid"] == volume.blkid["UUID"]
    status = json.loads(vmount.run("status", "--json", mountpoint).stdout)
    assert status["mountpoint"] == str(mountpoint)
    assert status["sources"] == [str(volume.image)]
    assert (mountpoint / "disks/disk0.raw").stat().st_size == volume.image.stat().st_size
    vmount.run("umount", mountpoint)
    assert not any(mountpoint.iterdir())
    assert not list(vmount.state.iterdir())


@pytest.mark.requirement("R37")
def test_block_files_are_the_disk_and_can_be_loop_mounted(
    vmount: Vmount, volume: ExtFixture
) -> None:
    with vmount.mounted(volume.image) as mountpoint:
        for file in ("disks/disk0.raw", "volumes/disk0.raw"):
            subprocess.run(["cmp", volume.image, mountpoint / file], check=True)
        inner = vmount.new_mountpoint()
        command = ["mount", "-o", "loop,ro,noload", mountpoint / "volumes/disk0.raw", inner]
        subprocess.run(list(map(str, command)), check=True)
        try:
            assert walk(inner) == [entry.walked for entry in volume.entries]
        finally:
            subprocess.run(["umount", inner], check=True)


def test_nothing_can_be_written(vmount: Vmount, image: Path) -> None:
    before = image.stat()
    with vmount.mounted(image) as mountpoint:
        for action in (
            lambda: (mountpoint / "new").write_text("x"),
            lambda: (mountpoint / "volumes/disk0/new").mkdir(),
            lambda: (mountpoint / "disks/disk0.raw").open("r+b"),
            lambda: (mountpoint / "info.json").unlink(),
        ):
            with pytest.raises(OSError, match="Read-only file system"):
                action()
    after = image.stat()
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)


@pytest.mark.requirement("R64")
def test_umount_returns_when_the_sources_are_released(
    vmount: Vmount, image: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.img"
    shutil.copyfile(image, copy)
    with vmount.mounted(copy):
        pass
    with copy.open("r+b") as file:
        # A write lease is given only if nobody else has the file open.
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)


@pytest.mark.requirement("R64")
def test_a_mount_in_use_names_who_uses_it_and_yields_to_force(vmount: Vmount, image: Path) -> None:
    mountpoint = vmount.new_mountpoint()
    vmount.run(image, mountpoint)
    with (mountpoint / "info.json").open("rb") as file:
        line = vmount.error("umount", mountpoint, code=5)
        assert f"({os.getpid()})" in line
        assert "--force" in line
        assert file.read(1) == b"{"
        vmount.run("umount", "--force", mountpoint)
    assert not any(mountpoint.iterdir())


@pytest.mark.requirement("R9")
def test_cleanup_after_a_kill_and_again(vmount: Vmount, image: Path) -> None:
    mountpoint = vmount.new_mountpoint()
    done = vmount.run("--json", image, mountpoint)
    os.kill(json.loads(done.stdout)["pid"], signal.SIGKILL)
    wait_until(lambda: not json_alive(json.loads(done.stdout)["pid"]))
    line = vmount.error(image, mountpoint, code=4)
    assert "process has ended" in line
    assert b"does not answer" in vmount.run("status", mountpoint).stdout
    first = vmount.run("cleanup")
    assert first.stdout == f"unmounted {mountpoint}\n1 cleaned, 0 remaining\n".encode()
    assert vmount.run("cleanup").stdout == b"0 cleaned, 0 remaining\n"
    assert not any(mountpoint.iterdir())


def json_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.requirement("R7")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts(vmount: Vmount, image: Path, number: int) -> None:
    mountpoint = vmount.new_mountpoint()
    command = vmount.command("--foreground", "--json", image, mountpoint)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert json.loads(server.stdout.readline())["pid"] == server.pid
        assert (mountpoint / "info.json").exists()
        server.send_signal(number)
        assert server.wait(20) == 0
    assert not any(mountpoint.iterdir())
    assert not list(vmount.state.iterdir())


def test_messages(vmount: Vmount, image: Path, tmp_path: Path) -> None:
    nothing, file = tmp_path / "nothing", tmp_path / "file"
    file.write_bytes(b"")
    mountpoint = vmount.new_mountpoint()
    for arguments, code, words in (
        ((nothing, mountpoint), 3, f"{nothing}: No such file or directory"),
        ((tmp_path, mountpoint), 3, f"{tmp_path}: Is a directory"),
        ((file, mountpoint), 3, f"{file}: is empty"),
        ((image, nothing), 4, f"{nothing}: No such file or directory; create the directory"),
        ((image, file), 4, f"{file}: not a directory"),
        ((image,), 2, "MOUNTPOINT"),
        (("--bogus", image, mountpoint), 2, "--bogus"),
        (("umount", mountpoint), 4, f"{mountpoint}: not a mount of vmount"),
        (("status", mountpoint), 4, f"{mountpoint}: not a mount of vmount"),
        (("ls", image, "/volumes/disk0/nothing"), 3, "/volumes/disk0/nothing: No such file"),
        (("ls", image, "disk7"), 3, "disk7: No such file"),
        (("cat", image, "disk0"), 3, "disk0: Is a directory"),
        (("cat", image), 2, "PATH"),
        (
            ("cp", image, "disk0/a", "disk0/b", nothing),
            2,
            f"{nothing}: not a directory; several files",
        ),
        (("cp", image, "disk0/nothing", tmp_path / "x"), 3, "disk0/nothing: No such file"),
    ):
        assert words in vmount.error(*arguments, code=code), arguments
    with vmount.mounted(image) as used:
        assert f"{used}: already mounted; run: vmount umount" in vmount.error(image, used, code=4)


@pytest.mark.parametrize(
    ("head", "what"), [(b"QFI\xfb", "QCOW2"), (b"conectix", "VHD"), (b"vhdxfile", "VHDX")]
)
def test_images_of_other_kinds_are_not_taken_for_raw_ones(
    vmount: Vmount, tmp_path: Path, head: bytes, what: str
) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(head.ljust(1 << 20, b"\0"))
    assert f"is a {what} image" in vmount.error("info", path, code=3)


def test_ls_cat_and_cp(vmount: Vmount, volume: ExtFixture, tmp_path: Path) -> None:
    listed = vmount.run("ls", "-R", "--json", volume.image, "disk0").stdout.splitlines()
    paths = {json.loads(line)["path"].removeprefix("volumes/disk0/") for line in listed}
    expected = {os.fsdecode(entry.walked.path) for entry in volume.entries} - {""}
    assert paths == expected
    sample = next(
        entry.walked
        for entry in volume.entries
        if entry.walked.type == "file" and entry.walked.size > 5000
    )
    content = vmount.run("cat", volume.image, "disk0/" + os.fsdecode(sample.path)).stdout
    assert len(content) == sample.size
    done = vmount.run("cp", "--owner", "me", volume.image, "disk0", tmp_path / "copy")
    assert b"files, " in done.stdout
    copied = {entry.path: entry for entry in walk(tmp_path / "copy")}
    for entry in volume.entries:
        ours, theirs = copied.pop(entry.walked.path), entry.walked
        assert (ours.type, ours.sha256, ours.target) == (theirs.type, theirs.sha256, theirs.target)
        assert ours.mtime_ns == theirs.mtime_ns, theirs.path
        if theirs.type != "link":
            # A device leads to one of this machine: it is not for others.
            kept = 0o700 if theirs.type in {"block", "char"} else 0o777
            assert ours.mode == theirs.mode & kept
    assert not copied


@pytest.mark.requirement("R59")
def test_without_dev_fuse_the_rest_works(vmount: Vmount, image: Path) -> None:
    mountpoint = vmount.new_mountpoint()
    hidden = 'mount -t tmpfs none /dev && exec "$@"'
    for arguments, code in ((("ls", image), 0), ((image, mountpoint), 4)):
        command = ["unshare", "-m", "sh", "-c", hidden, "sh", *vmount.command(*arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
    assert "/dev/fuse does not exist" in done.stderr
    assert "vmount ls, cat, cp and info work without it" in done.stderr


@pytest.mark.requirement("R63")
def test_version_and_doctor(vmount: Vmount) -> None:
    assert vmount.run("--version").stdout.decode() == f"vmount {__version__}\n"
    found = {row["name"]: row for row in json.loads(vmount.run("doctor", "--json").stdout)}
    assert found["/dev/fuse"]["state"] == "ok"
    assert found["vmount"]["detail"].startswith(__version__)


@pytest.mark.requirement("R27")
def test_a_set_opened_and_closed_200_times_leaks_nothing(image: Path) -> None:
    def use() -> None:
        with open_disks(image) as disks:
            assert len(disks.listdir("disk0")) > 3

    use()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(200):
        use()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.requirement("R28")
@pytest.mark.slow
def test_many_at_once(vmount: Vmount, volume: ExtFixture) -> None:
    expected = [entry.walked for entry in volume.entries]

    def use(_: int) -> bool:
        mountpoint = vmount.folder / f"many{_}"
        mountpoint.mkdir()
        vmount.run(volume.image, mountpoint)
        try:
            return walk(mountpoint / "volumes/disk0") == expected
        finally:
            vmount.run("umount", mountpoint)

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(use, range(32)))
    assert not list(vmount.state.iterdir())


def test_no_root_is_needed(image: Path) -> None:
    with nobody(image) as user:
        done = user.run("vmount disk.img mnt && ls -l mnt/volumes/disk0 && vmount umount mnt")
        assert done.returncode == 0, done.stderr
        assert "nobody" in done.stdout


@pytest.mark.requirement("R25")
def test_many_readers_of_the_same_small_files(vmount: Vmount, volume: ExtFixture) -> None:
    """Small files are handed to the kernel when they are opened, which must not lock anybody out."""
    expected = [entry.walked for entry in volume.entries]
    with vmount.mounted(volume.image) as mountpoint, ThreadPoolExecutor(8) as pool:
        walks = [pool.submit(walk, mountpoint / "volumes/disk0") for _ in range(8)]
        while not all(future.done() for future in walks):
            Path("/proc/sys/vm/drop_caches").write_text("3")
            time.sleep(0.05)
        assert all(future.result() == expected for future in walks)
