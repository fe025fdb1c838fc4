"""What a serving process may still do, and what the devices and setuid programs of a guest cannot."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures.programs import run
from tests.support.backends.nbd.servers import listen_unix, nbdkit, running, uri_of
from tests.support.mounts.unprivileged import NOBODY, nobody
from vmount.mounting.mountinfo import find_mount
from vmount.sandbox.policy import CAP_DAC_OVERRIDE

if TYPE_CHECKING:
    from tests.system.mounts.conftest import Vmount

pytestmark = pytest.mark.mount

GREETING = b"all is well\n"


@pytest.fixture(scope="module")
def image(images: Path) -> Path:
    """A volume with a setuid program and a device file, which belong to its root."""
    tree, path = images / "powerful", images / "powerful.img"
    tree.mkdir()
    (tree / "greeting").write_bytes(GREETING)
    shutil.copy("/usr/bin/id", tree / "id")
    (tree / "id").chmod(0o4755)
    os.mknod(tree / "null", stat.S_IFCHR | 0o666, os.stat("/dev/null").st_rdev)
    with path.open("wb") as file:
        file.truncate(8 << 20)
    run("mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(path))
    return path


def threads_of(mountpoint: Path) -> list[dict[str, str]]:
    """Return what the kernel says of each thread of the process that serves a mount (proc(5), status)."""
    pid = json.loads((mountpoint / ".vmount/status.json").read_text())["pid"]
    return [
        dict(line.split(":\t", 1) for line in (thread / "status").read_text().splitlines())
        for thread in Path(f"/proc/{pid}/task").iterdir()
    ]


def capabilities(thread: dict[str, str]) -> set[int]:
    """Return the capabilities that a thread has or can get."""
    bits = int(thread["CapEff"], 16) | int(thread["CapPrm"], 16) | int(thread["CapInh"], 16)
    return {number for number in range(64) if bits >> number & 1}


def test_a_serving_process_has_no_capabilities(vmount: Vmount, image: Path) -> None:
    with vmount.mounted(image) as mountpoint:
        threads = threads_of(mountpoint)
        for thread in threads:
            assert thread["NoNewPrivs"] == "1"
            assert capabilities(thread) == set()
        limits = Path(f"/proc/{threads[0]['Pid']}/limits").read_text()
        assert next(line for line in limits.splitlines() if "core" in line).split()[4] == "0"
        assert (mountpoint / "volumes/disk0/greeting").read_bytes() == GREETING


def test_a_distant_disk_may_be_connected_to_again(
    vmount: Vmount, image: Path, tmp_path: Path
) -> None:
    """Through a socket that is another user's."""
    path = tmp_path / "socket"
    listener = listen_unix(path)
    os.chown(path, NOBODY, NOBODY)
    with (
        running(nbdkit("file", str(image)), listener) as server,
        vmount.mounted(uri_of(listener)) as mountpoint,
    ):
        for thread in threads_of(mountpoint):
            assert thread["NoNewPrivs"] == "1"
            assert capabilities(thread) == {CAP_DAC_OVERRIDE}
        server.kill()
        server.start()
        assert (mountpoint / "volumes/disk0/greeting").read_bytes() == GREETING


def test_ended_by_a_signal_it_unmounts(vmount: Vmount, image: Path) -> None:
    """Which takes a privilege that the serving process has not."""
    mountpoint = vmount.new_mountpoint()
    vmount.run(image, mountpoint)
    pid = int(threads_of(mountpoint)[0]["Tgid"])
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGTERM)
    ended, _, _ = select.select([descriptor], [], [], 20)
    os.close(descriptor)
    assert ended
    assert find_mount(str(mountpoint)) is None
    assert not list(vmount.state.iterdir())


def test_users_have_their_mounts_unmounted_as_well(image: Path) -> None:
    with nobody(image) as user:
        done = user.run(
            "pid=$(vmount --json disk.img mnt | sed 's/.*\"pid\": //; s/}//') && "
            "cat mnt/volumes/disk0/greeting && grep NoNewPrivs /proc/$pid/status && "
            "kill $pid && tail --pid=$pid -f /dev/null && echo ended"
        )
        assert done.stdout.splitlines() == ["all is well", "NoNewPrivs:\t1", "ended"], done.stderr
        assert find_mount(str(user.folder / "mnt")) is None


def test_devices_and_setuid_programs_are_shown_and_have_no_power(
    vmount: Vmount, image: Path
) -> None:
    with vmount.mounted("--allow-other", "--owner", "guest", image) as mountpoint:
        options = run("findmnt", "--noheadings", "--output=OPTIONS", str(mountpoint)).strip()
        assert {"ro", "nosuid", "nodev"} <= set(options.split(","))
        files = mountpoint / "volumes/disk0"
        device, program = (files / "null").stat(), (files / "id").stat()
        assert stat.S_ISCHR(device.st_mode)
        assert device.st_rdev == os.stat("/dev/null").st_rdev
        with pytest.raises(PermissionError):
            (files / "null").read_bytes()
        assert (program.st_mode, program.st_uid) == (stat.S_IFREG | 0o4755, 0)
        assert effective_user(image.with_suffix("") / "id") == 0
        assert effective_user(files / "id") == NOBODY


@pytest.mark.parametrize("option", [("--noexec",), ("-o", "noexec")])
def test_programs_of_the_guest_can_be_kept_from_being_started(
    vmount: Vmount, image: Path, option: tuple[str, ...]
) -> None:
    with vmount.mounted(*option, image) as mountpoint:
        program = mountpoint / "volumes/disk0/id"
        assert program.read_bytes() == Path("/usr/bin/id").read_bytes()
        with pytest.raises(PermissionError):
            subprocess.run([program], check=True)


def effective_user(program: Path) -> int:
    """Return as whom `id` runs when an ordinary user starts it, whoever may enter its folder."""
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    with program.open("rb") as file:
        number = file.fileno()
        done = subprocess.run(
            [*user, f"/proc/self/fd/{number}", "-u"],
            pass_fds=[number],
            capture_output=True,
            text=True,
            check=True,
        )
    return int(done.stdout)
