"""vmount among the system's other tools: mount(8), fstab(5), the journal, completion, the manual page."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures.ext import EVERYDAY, ExtFixture
from fixtures.ext import build as build_ext
from scripts.man import PAGE, manual_page
from tests.support.paths import ROOT
from vmount.cli import WORDS
from vmount.commands.mount_options import split_options, without_default
from vmount.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.mounts.conftest import Vmount


@pytest.fixture(scope="module")
def volume(images: Path) -> ExtFixture:
    return build_ext(EVERYDAY[0], images)


WALK = "import sys; from fixtures.walk import walk; print(walk(sys.argv[1]))"


@pytest.fixture
def system(vmount: Vmount, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script in a mount namespace of its own, in which `vmount` is where mount(8) finds it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, module in (("vmount", "vmount"), ("mount.fuse.vmount", "vmount.cli")):
        program = folder / name
        call = (
            "-m vmount"
            if module == "vmount"
            else f"-c 'import sys; from {module} import mount_helper; sys.exit(mount_helper())'"
        )
        state = f"--state-dir {vmount.state}" if module == "vmount" else ""
        program.write_text(f'#!/bin/sh\ncd {ROOT}\nexec {sys.executable} {call} "$@" {state}\n')
        program.chmod(0o755)

    def run(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        # dash looks there when it has no PATH, and mount(8) gives its helpers none.
        whole = f"set -e; mount --bind {folder} /usr/local/sbin\n{script}"
        command: list[str | Path] = ["unshare", "-m", "--propagation", "private", "sh", "-c", whole]
        return subprocess.run(
            [*command, "sh", *arguments], capture_output=True, text=True, check=False, cwd=ROOT
        )

    return run


@pytest.mark.parametrize("command", ["info {}", "cp --tar {} disk0 -"])
def test_what_is_written_to_a_closed_output_is_a_failure(
    vmount: Vmount, images: Path, command: str
) -> None:
    image = build_ext(EVERYDAY[0], images).image
    words = vmount.command(*command.format(image).split())
    shell = ["sh", "-c", '"$@" >&-', "sh", *words]
    done = subprocess.run(shell, cwd=ROOT, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"vmount: standard output is closed" in done.stderr


@pytest.mark.mount
def test_mount_with_a_line_of_fstab(
    vmount: Vmount,
    volume: ExtFixture,
    system: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    mountpoint = vmount.new_mountpoint()
    second = Path(shutil.copy(volume.image, tmp_path / "second.img"))
    options = f"ro,noauto,_netdev,x-systemd.automount,volumes=disk1,source={second},log_level=error"
    fstab = tmp_path / "fstab"
    fstab.write_text(f"{volume.image} {mountpoint} fuse.vmount {options} 0 0\n")
    done = system(
        f"mount -T $1 $2\n{sys.executable} -c '{WALK}' $2/volumes/disk1\nls $2/volumes\n"
        "findmnt -n -o FSTYPE,OPTIONS $2\numount $2",
        fstab,
        mountpoint,
    )
    assert done.returncode == 0, done.stderr
    tree, *shown, found = done.stdout.splitlines()
    assert tree == repr([entry.walked for entry in volume.entries])
    assert shown == ["disk0.raw", "disk1", "disk1.raw"]
    assert found.split()[0] == "fuse.vmount"
    assert {"ro", "nosuid", "nodev"} <= set(found.split()[1].split(","))


@pytest.mark.mount
def test_mount_of_a_type(
    vmount: Vmount, volume: ExtFixture, system: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    mountpoint = vmount.new_mountpoint()
    done = system(
        "mount -t fuse.vmount $1 $2 -o owner=guest\nls $2\numount $2\n"
        "mount.fuse.vmount $1 $2 -n -o ro,owner=guest -t fuse.vmount\nls $2\numount $2\n"
        "mount -t fuse.vmount $1 $2 -o ownr=guest",
        volume.image,
        mountpoint,
    )
    assert done.stdout.split() == ["disks", "info.json", "volumes"] * 2
    assert done.returncode != 0
    assert "-o ownr=guest: unknown option" in done.stderr


def test_options_of_mount() -> None:
    assert split_options("ro,nodev,x-y=z,comment=a b") == ([], [])
    assert split_options(r"allow_other,cache_size=1G,source=a\,b.vmdk,source=c") == (
        ["--allow-other", "--cache-size=1G"],
        ["a,b.vmdk", "c"],
    )
    assert split_options("uid=1000,gid=1000,umask=022") == (
        ["--uid=1000", "--gid=1000", "--umask=022"],
        [],
    )
    assert split_options("rw,streams,dev,suid") == (["--streams"], [])  # as mount.fuse3 has it
    with pytest.raises(UsageError, match="mounts read-only"):
        split_options("rw")
    assert without_default(r"rw,source=a\,b,rw") == r"source=a\,b"
    for wrong in ("allow_others", "json", "owner=guest,json"):
        with pytest.raises(UsageError, match="unknown option"):
            split_options(wrong)


def test_messages_of_options(vmount: Vmount, volume: ExtFixture, tmp_path: Path) -> None:
    line = vmount.error("-o", "owner=nobody", volume.image, tmp_path, code=2)
    assert "invalid" in line
    assert "owner" in line
    assert "-o cach=1G: unknown option" in vmount.error(
        "-o", "cach=1G", volume.image, tmp_path, code=2
    )


@pytest.mark.mount
def test_lines_for_the_journal_have_their_priority(
    vmount: Vmount, volume: ExtFixture, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    mountpoint = vmount.new_mountpoint()
    with journal.open("wb") as stream:
        status = os.fstat(stream.fileno())
        environment = {
            "PATH": os.environ["PATH"],
            "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}",
        }
        command = vmount.command(
            "--foreground", "--json", "--log-level", "info", volume.image, mountpoint
        )
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stream, cwd=ROOT, env=environment
        ) as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["mountpoint"] == str(mountpoint)
            process.terminate()
            assert process.wait(60) == 0
    assert "<6>SIGTERM: unmounting" in journal.read_text().splitlines()


def test_completion_is_what_bash_takes(vmount: Vmount, tmp_path: Path) -> None:
    script = tmp_path / "vmount.bash"
    script.write_bytes(vmount.run("completion", "bash").stdout)
    ask = "COMP_WORDS=(vmount {}); COMP_CWORD={}; $(complete -p vmount | sed 's/.*-F //; s/ .*//'); echo ${{COMPREPLY[@]}}"
    for words, expected in (("''", "umount"), ("um", "umount"), ("find --lar", "--larger")):
        text = f". {script}; {ask.format(words, len(words.split()))}"
        done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True)
        assert expected in done.stdout.split(), done.stderr
    for shell in ("zsh", "tcsh"):
        assert b"vmount" in vmount.run("completion", shell).stdout


def test_the_manual_page_is_up_to_date() -> None:
    page = manual_page()
    assert PAGE.read_text() == page, "run: make man"
    for word in WORDS:
        assert f"vmount {word}" in page


def test_as_a_module(volume: ExtFixture) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vmount", "ls", volume.image, "disk0"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert "lost+found" in done.stdout.splitlines()


@pytest.mark.mount
def test_whoever_waits_for_the_end_of_a_pipe_does_not_wait_for_that_of_the_mount(
    vmount: Vmount, volume: ExtFixture
) -> None:
    mountpoint = vmount.new_mountpoint()
    reading, writing = os.pipe()
    try:
        subprocess.run(
            vmount.command(volume.image, mountpoint),
            check=True,
            env=vmount.environment,
            cwd=ROOT,
            pass_fds=[writing],
        )
    finally:
        os.close(writing)
    try:
        readable, _, _ = select.select([reading], [], [], 10)
        assert readable
        assert os.read(reading, 1) == b""
    finally:
        vmount.run("umount", mountpoint)
        os.close(reading)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_at_the_start(
    vmount: Vmount, volume: ExtFixture, number: signal.Signals
) -> None:
    """By Ctrl-C while modules are being loaded: one line, as at any other time."""
    done = with_loading(f"os.kill(os.getpid(), {int(number)}); time.sleep(60)", volume)
    assert (done.returncode, done.stderr) == (128 + number, "vmount: interrupted\n")


def test_an_interruption_in_a_callback_is_not_lost(vmount: Vmount, volume: ExtFixture) -> None:
    """Python drops what a weak reference's callback raises, and import has one for each module."""
    signal_in_a_callback = (
        "w = weakref.ref(thing := type('T', (), {})(),"
        " lambda _: os.kill(os.getpid(), signal.SIGINT)); del thing; time.sleep(60)"
    )
    done = with_loading(signal_in_a_callback, volume)
    assert (done.returncode, done.stderr) == (130, "vmount: interrupted\n")


def with_loading(statement: str, volume: ExtFixture) -> subprocess.CompletedProcess[str]:
    """Run `ls` with a statement in the place of the loading of its module."""
    script = (
        "import os, signal, sys, time, weakref, vmount.cli\n"
        f"def load(name):\n    {statement}\n"
        "vmount.cli.load = load\n"
        "sys.exit(vmount.cli.main(['ls', sys.argv[1]]))"
    )
    return subprocess.run(
        [sys.executable, "-c", script, volume.image],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


@pytest.mark.mount
def test_status_is_watched_until_the_mount_is_gone(vmount: Vmount, volume: ExtFixture) -> None:
    with vmount.mounted(volume.image) as mountpoint:
        command = vmount.command("status", "--watch", "--interval", "0.1", "--json", mountpoint)
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
        ) as watching:
            assert watching.stdout is not None
            shown = [watching.stdout.readline() for _ in range(60)]
            assert shown.count(b"{\n") > 1
            vmount.run("umount", mountpoint)
            _, told = watching.communicate(timeout=60)
        assert watching.returncode == 4
        assert json.loads(told)["exit_code"] == 4
        vmount.run(volume.image, mountpoint)
